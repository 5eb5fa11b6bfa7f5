// Package config loads Purser's configuration: files and conf.d folders merged in
// order, then the environment, checked strictly and with the origin of each value
// at hand. It also understands the flat keys of alppaca, and prints what it loaded.
//
// It knows the form of a configuration only. Whether a file can be read, a user
// exists or an upstream answers is left to those who use the values. What an
// upstream's kind adds to its section is declared by that kind (Options.Kinds);
// this package decodes into it.
//
// koanf merges the layers. Decoding is our own, for three reasons: the usual
// decoders quote the offending value in their errors, which may be a secret; they
// name a key by a path that is ambiguous once a name contains a dot, so that its
// line cannot be looked up; and what is wrong shall be told all at once.
package config

import (
	"net/netip"
	"reflect"
	"time"
)

// Config is the whole configuration, checked. It is plain data and not changed
// after Load. A koanf tag is the key in the files.
type Config struct {
	// Listen holds the front-end listeners by name; there is at least one.
	Listen    map[string]Listener `koanf:"listen"`
	Telemetry Telemetry           `koanf:"telemetry"`
	Admin     Admin               `koanf:"admin"`
	// User and Group are the accounts that serve after the bind. Where only user is
	// set, Group is its name.
	User        string      `koanf:"user"`
	Group       string      `koanf:"group"`
	Log         Log         `koanf:"log"`
	AWS         AWS         `koanf:"aws"`
	ECS         ECS         `koanf:"ecs"`
	Ready       Ready       `koanf:"ready"`
	OnDemand    OnDemand    `koanf:"on_demand"`
	Connections Connections `koanf:"connections"`
	Sandbox     Sandbox     `koanf:"sandbox"`
	// Upstreams holds where credentials come from, by name.
	Upstreams map[string]Upstream `koanf:"upstreams"`
	// Grants holds who may have what, by name.
	Grants map[string]Grant `koanf:"grants"`

	// GroupFallback is the group to use if Group does not exist, or empty. It is
	// nogroup for nobody, because Debian's user nobody is in the group nogroup.
	GroupFallback string
	// Files lists what was read, in order.
	Files []string
	// Notices are lines for an administrator about keys that were translated.
	Notices []string
	// Alppaca is the one of Notices that has alppaca's keys in the new form, empty if
	// there are none.
	Alppaca string

	origins origins
}

// A Listener is one address on which front ends answer.
type Listener struct {
	Address  netip.AddrPort `koanf:"address"`
	Dialects []string       `koanf:"dialects"`
	// From lists the networks outside this host that may ask.
	From []netip.Prefix `koanf:"from"`
	// Hosts lists the names that a Host header may hold besides the known ones.
	Hosts []string `koanf:"hosts"`
	// HopLimit is the IP TTL of answers. With 1 they do not leave the host, 64 is
	// the system's usual value.
	HopLimit int `koanf:"hop_limit"`
}

// Telemetry is where metrics and health are served.
type Telemetry struct {
	// Listen is the zero AddrPort if telemetry is off.
	Listen netip.AddrPort `koanf:"listen"`
}

// Admin is the socket of the operator's commands.
type Admin struct {
	Socket string `koanf:"socket"`
	// Group may do everything there, as root may; empty for root alone.
	Group string `koanf:"group"`
}

// Log says what is logged, and how.
type Log struct {
	Level  string `koanf:"level"`  // trace, debug, info, warn or error
	Format string `koanf:"format"` // json or console
}

// AWS is what the AWS metadata service answers besides credentials.
type AWS struct {
	// IMDSv1 lets everyone ask without a session token. A grant can say otherwise.
	IMDSv1          bool            `koanf:"imds_v1"`
	Metadata        Metadata        `koanf:"metadata"`
	InstanceProfile InstanceProfile `koanf:"instance_profile"`
	// UserData is what /latest/user-data answers.
	UserData string `koanf:"user_data"`
}

// Metadata is the static tree below /latest/meta-data/. A value is a string (a
// leaf; a list in a file is one with a line per element) or a map[string]any (a
// folder). Every name is one segment of a path.
type Metadata map[string]any

// InstanceProfile is what iam/info tells. Without an ARN there is no ID either.
type InstanceProfile struct {
	ARN string `koanf:"arn"`
	ID  string `koanf:"id"`
}

// ECS is about the container-credentials dialect.
type ECS struct {
	// Authorization demands the token of the authorization file.
	Authorization bool `koanf:"authorization"`
}

// Ready is about the start.
type Ready struct {
	// Timeout is how long the first fetches may take; 0 waits without end.
	Timeout time.Duration `koanf:"timeout"`
}

// OnDemand is about credentials that nobody configured ahead.
type OnDemand struct {
	// Wait is how long the first request for one may take. The Go SDK gives up after
	// 500 ms, others after a second.
	Wait time.Duration `koanf:"wait"`
}

// Connections bounds how many connections front ends hold open.
type Connections struct {
	Most    int `koanf:"most"`
	PerUser int `koanf:"per_user"`
}

// Sandbox says which means of the kernel confine the daemon once it has started.
type Sandbox struct {
	Landlock bool `koanf:"landlock"`
	Seccomp  bool `koanf:"seccomp"`
}

// An Upstream is one place that credentials come from.
type Upstream struct {
	Kind string `koanf:"kind"`
	// Required makes readiness wait for its credentials.
	Required bool    `koanf:"required"`
	Refresh  Refresh `koanf:"refresh"`
	// Options is what Options.Kinds returned for Kind, filled.
	Options any

	identity identity
}

// Equal reports whether both sections mean the same, so that a reload can leave
// this upstream alone.
func (u Upstream) Equal(other Upstream) bool {
	u.identity, other.identity = nil, nil // the same can be written in several ways
	return reflect.DeepEqual(u, other)
}

// Refresh says when an upstream is asked again.
type Refresh struct {
	// Longest is the most time between two fetches of a credential; 0 for no limit
	// besides its lifetime.
	Longest time.Duration `koanf:"longest"`
	// Splay is how long the first fetch may wait, so that hosts that start together
	// do not ask together.
	Splay time.Duration `koanf:"splay"`
	// ListEvery is the time between two lists.
	ListEvery time.Duration `koanf:"list_every"`
}

// A Grant gives credentials to the callers that meet all its conditions. A
// condition with several values is met by any of them. Only the grant Everyone has
// no condition.
type Grant struct {
	User  []string `koanf:"user"`
	Group []string `koanf:"group"`
	// Unit holds patterns of path.Match for names of systemd units.
	Unit []string `koanf:"unit"`
	// Credentials holds names, or patterns of path.Match, in order of preference.
	Credentials []string `koanf:"credentials"`
	// IMDSv1 overrides AWS.IMDSv1 for these callers; nil leaves it.
	IMDSv1 *bool `koanf:"imds_v1"`
}

// Everyone is the name of the grant that has no condition.
const Everyone = "everyone"

// defaults is the configuration of empty files, but for defaultListeners. A kind
// brings the defaults of its own options.
func defaults() *Config {
	return &Config{
		Telemetry:   Telemetry{Listen: netip.MustParseAddrPort("127.0.0.1:25773")},
		Admin:       Admin{Socket: "/run/purser/purser.sock", Group: "adm"},
		User:        "purser",
		Log:         Log{Level: "info", Format: "json"},
		ECS:         ECS{Authorization: true},
		OnDemand:    OnDemand{Wait: 400 * time.Millisecond},
		Connections: Connections{Most: 4096, PerUser: 512},
		Sandbox:     Sandbox{Landlock: true, Seccomp: true},
	}
}

// defaultListeners is a layer below the files rather than part of defaults, so that
// `listen: {main: null}` can remove it.
func defaultListeners() map[string]any {
	return map[string]any{"listen": map[string]any{"main": map[string]any{"address": "127.0.0.1:25772"}}}
}

// A defaulted element of a map starts with values of its own.
type defaulted interface{ setDefaults() }

func (l *Listener) setDefaults() {
	l.Dialects = []string{"aws", "ecs"}
	l.HopLimit = 1
}

func (u *Upstream) setDefaults() {
	u.Required = true
	u.Refresh.ListEvery = time.Hour
}
