// Package sts is the upstream that assumes AWS roles (AssumeRole of the Security
// Token Service) with a credential that another upstream gives, or with what the SDK's
// default chain finds: its base. Hops of any number follow from that, each an upstream
// of its own.
//
// A base is read when it is needed, so each assumption is signed with the newest one.
// What STS gives lives on when its base ends: a base that rotates leads to no
// assumption ahead of time, but to one at once where the last one failed. An assumed
// role ends when STS says so, and the schedule sees to the next one before.
//
// Beside the configured roles there may be patterns for roles on demand, which are
// assumed when a caller asks for one by its ARN. Who may do that is for pkg/policy to say.
//
// Requests are signed with the SDK's signer and sent with pkg/upstream's client, for
// its proxy, limits and classes of errors; the SDK's own client would bring retries
// and settings from the environment. What STS shares with the other services and calls
// is left to pkg/awsapi, when to ask to pkg/refresh, how a base is found among the
// upstreams to cmd/purser.
package sts

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/purser-agent/purser/pkg/awsapi"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// Options are the keys of an upstream of kind sts.
type Options struct {
	upstream.Options `koanf:",squash"`
	awsapi.Place     `koanf:",squash"`

	Base BaseOptions `koanf:"base"`
	// Roles are those to assume, by the name that programs see.
	Roles map[string]Role `koanf:"roles"`
	// OnDemand are patterns for roles that are assumed when somebody asks for one by its
	// ARN. The names are for messages only.
	OnDemand map[string]Role `koanf:"on_demand"`
}

// BaseOptions say what roles are assumed with: exactly one of the first three keys is
// set.
type BaseOptions struct {
	Credential string `koanf:"credential"` // the name of a stored one
	Upstream   string `koanf:"upstream"`   // one that grants nothing else
	Chain      string `koanf:"chain"`      // default: as the SDK finds keys
	// Profile, ConfigFile and CredentialsFile are for the chain. Without them the SDK's
	// environment variables and places count.
	Profile         string `koanf:"profile"`
	ConfigFile      string `koanf:"config_file"`
	CredentialsFile string `koanf:"credentials_file"`
}

// check reports what is wrong with the base, each error beginning with its key.
func (b BaseOptions) check() (all []error) {
	fault := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	given := 0
	for _, text := range []string{b.Credential, b.Upstream, b.Chain} {
		if text != "" {
			given++
		}
	}
	switch {
	case given == 0:
		fault("base: missing: {credential: NAME}, {upstream: NAME} of one that grants a single credential, or {chain: default}")
	case given > 1:
		fault("base: has several of credential, upstream and chain; one of them says what to use")
	case b.Chain != "" && b.Chain != defaultChain:
		fault("base.chain: %q is not known; there is %s", b.Chain, defaultChain)
	case b.Credential != "":
		if err := credential.CheckName(b.Credential); err != nil {
			fault("base.credential: %w", err)
		}
	}
	if b.Chain == "" && b.Profile+b.ConfigFile+b.CredentialsFile != "" {
		fault("base.chain: missing, but profile, config_file or credentials_file is set")
	}
	for _, file := range []struct{ key, path string }{{"config_file", b.ConfigFile}, {"credentials_file", b.CredentialsFile}} {
		if file.path != "" && !filepath.IsAbs(file.path) {
			fault("base.%s: the path must start with /", file.key)
		}
	}
	return all
}

// A Role is one role to assume, and what is asked of STS along with it.
type Role struct {
	awsapi.Session `koanf:",squash"`

	ExternalID     string            `koanf:"external_id"`
	Tags           map[string]string `koanf:"tags"`
	TransitiveTags []string          `koanf:"transitive_tags"` // keys of Tags that later hops keep
	SourceIdentity string            `koanf:"source_identity"`
}

// Defaults returns the options of an upstream that sets none.
func Defaults() *Options { return &Options{Options: upstream.Defaults()} }

// chained is the longest session of a role that was assumed with the session of
// another.
const chained = time.Hour

// CheckChained reports each role that cannot be assumed if the base is itself the
// session of a role, as AWS limits such chains.
func (o *Options) CheckChained() error {
	var all []error
	for _, section := range []struct {
		key   string
		roles map[string]Role
	}{{"roles", o.Roles}, {"on_demand", o.OnDemand}} {
		for _, name := range slices.Sorted(maps.Keys(section.roles)) {
			if d := section.roles[name].Length(); d > chained {
				all = append(all, fmt.Errorf("%s.%s.duration: %v is too long: the base is the session of a role itself, and AWS lets such a chain last %v at most", section.key, name, d, chained))
			}
		}
	}
	return errors.Join(all...)
}

// BaseOf returns the name of the credential that is the base, or else the upstream
// that gives it; neither for a chain.
func (o *Options) BaseOf() (name, upstream string) { return o.Base.Credential, o.Base.Upstream }

// WantsToken is false: roles are assumed with keys.
func (*Options) WantsToken() bool { return false }

// Validate reports every error of form, each beginning with its key. It opens no file
// and asks nobody.
func (o *Options) Validate() error {
	var all []error
	fault := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	all = append(all, o.Base.check()...)
	partition, err := o.Partition()
	if err != nil {
		all = append(all, err)
	}
	if len(o.Roles)+len(o.OnDemand) == 0 {
		fault("roles: missing, such as NAME: {role_arn: \"arn:aws:iam::123456789012:role/demo\"}")
	}
	for _, name := range slices.Sorted(maps.Keys(o.Roles)) {
		role := o.Roles[name]
		for _, err := range role.check(partition) {
			fault("roles.%s.%w", name, err)
		}
		if err := credential.CheckName(name); err != nil {
			fault("roles: %w", err)
		}
		if _, own := o.Roles[o.Base.Credential]; own && o.Base.Credential == name {
			fault("base.credential: %q is one of this upstream's own roles", name)
		}
	}
	all = append(all, o.checkDemand(partition)...)
	return errors.Join(append(all, o.Options.Validate())...)
}

// checkDemand reports what is wrong with the patterns. No role may fit two of them:
// what it is assumed with would be a matter of chance.
func (o *Options) checkDemand(partition string) (all []error) {
	names := slices.Sorted(maps.Keys(o.OnDemand))
	for i, name := range names {
		role := o.OnDemand[name]
		pattern := awsapi.RolePattern(role.RoleARN)
		if err := pattern.Check(partition); err != nil {
			all = append(all, fmt.Errorf("on_demand.%s.role_arn: %w", name, err))
		}
		for _, err := range append(role.CheckRest(), role.checkMarks()...) {
			all = append(all, fmt.Errorf("on_demand.%s.%w", name, err))
		}
		for _, other := range names[:i] {
			if pattern.Overlaps(awsapi.RolePattern(o.OnDemand[other].RoleARN)) {
				all = append(all, fmt.Errorf("on_demand.%s.role_arn: there are roles that on_demand.%s is for, too; make the patterns exclude each other", name, other))
			}
		}
	}
	return all
}
