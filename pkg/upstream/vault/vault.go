// Package vault is the upstream for HashiCorp Vault and OpenBao: AWS keys that their
// AWS engine makes (sts/ and creds/ paths) or rotates (static-creds/), keys that lie in
// a KV engine, and identity tokens, which other upstreams present to AWS.
//
// A session logs in and looks after the token. What is read with it is one file for
// each engine. Neither field of an answer that says how long keys live can be trusted
// (see lifespan), an error of AWS comes as a 400, and a 403 has half a dozen causes:
// errors are told by what is known of each, never in Vault's own words.
//
// Connections, proxies, TLS and time-outs are left to pkg/upstream, when to ask to
// pkg/refresh. Reading from AWS's engine makes something new each time, a lease or a
// whole IAM user, so nothing is asked twice without need.
package vault

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/purser-agent/purser/pkg/awsapi"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// Options are the keys of an upstream of kind vault.
type Options struct {
	upstream.Options `koanf:",squash"`

	// Address is the server's URL; with several the next is asked where one does not
	// work.
	Address []string `koanf:"address"`
	// Namespace is where secrets are, in the servers that have namespaces.
	Namespace string `koanf:"namespace"`
	// InsecureHTTP allows http to another host than this one.
	InsecureHTTP bool `koanf:"insecure_http"`
	Auth         Auth `koanf:"auth"`

	AWS AWS `koanf:"aws"`
	KV  KV  `koanf:"kv"`
	// IdentityTokens are those to fetch, by the name that other upstreams use.
	IdentityTokens map[string]IdentityToken `koanf:"identity_tokens"`
	// RevokeOnStop gives back what was made for this host when it is not used any more:
	// at the end, and after a reload without it. Otherwise only a token is given back that
	// nobody goes on with, if no keys of users end with it.
	RevokeOnStop bool `koanf:"revoke_on_stop"`
}

// AWS is the AWS engine.
type AWS struct {
	Mount string `koanf:"mount"`
	// Roles are what to read, by the name that programs see.
	Roles map[string]Role `koanf:"roles"`
}

// A Role is one path of the AWS engine, and what is asked along with it.
type Role struct {
	Mount string `koanf:"mount"` // if not the engine's usual one
	// Path is sts/NAME, creds/NAME or static-creds/NAME; sts/ with the role's own name
	// if empty.
	Path string `koanf:"path"`
	// RoleARN chooses among those that the role in Vault may assume. It is looked up
	// there if it has to be said and is not.
	RoleARN string        `koanf:"role_arn"`
	TTL     time.Duration `koanf:"ttl"` // 0 for what the role in Vault says
	// SessionName is a template, as awsapi.Session has it.
	SessionName string `koanf:"session_name"`
	Method      string `koanf:"method"` // GET, or POST where a policy demands that
	// AllowIAMUser accepts keys of a user that Vault creates, and deletes when the
	// token ends with which it was asked.
	AllowIAMUser bool          `koanf:"allow_iam_user"`
	Reread       time.Duration `koanf:"reread"` // how often static keys are read
}

// KV is the KV engine.
type KV struct {
	// Keys are the secrets to read, by the name that programs see.
	Keys map[string]KVKeys `koanf:"keys"`
}

// KVKeys are a secret that holds AWS keys.
type KVKeys struct {
	Mount   string    `koanf:"mount"`
	Path    string    `koanf:"path"`    // without the data/ of version 2
	Version KVVersion `koanf:"version"` // of the engine
	// AccessKey, SecretKey and SessionToken are the names of the secret's fields;
	// without SessionToken the keys have none.
	AccessKey    string        `koanf:"access_key"`
	SecretKey    string        `koanf:"secret_key"`
	SessionToken string        `koanf:"session_token"`
	Reread       time.Duration `koanf:"reread"`
}

// A KVVersion is that of a KV engine, 1 or 2; 0, written auto, is the one that Vault says.
type KVVersion int

// UnmarshalText implements encoding.TextUnmarshaler.
func (v *KVVersion) UnmarshalText(text []byte) error {
	number := slices.Index([]string{"auto", "1", "2"}, string(text))
	if number < 0 {
		return errors.New("auto, 1 or 2")
	}
	*v = KVVersion(number)
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (v KVVersion) MarshalText() ([]byte, error) {
	if v == 0 {
		return []byte("auto"), nil
	}
	return strconv.AppendInt(nil, int64(v), 10), nil
}

// An IdentityToken is a JWT that Vault signs about its token's owner.
type IdentityToken struct {
	Role string `koanf:"role"` // if not the token's own name
}

// Defaults returns the options of an upstream that sets none.
func Defaults() *Options {
	return &Options{Options: upstream.Defaults(), AWS: AWS{Mount: "aws"}}
}

// Bounds of the options.
const (
	leastTTL    = 15 * time.Minute
	leastReread = 10 * time.Second
	mostReread  = 24 * time.Hour
)

// BaseOf returns the name of the credential that a login by AWS is signed with, or else
// the upstream that gives it.
func (o *Options) BaseOf() (name, upstream string) {
	return o.Auth.Base.Credential, o.Auth.Base.Upstream
}

// WantsToken is false: a login by AWS is signed with keys.
func (*Options) WantsToken() bool { return false }

// BaseKey is where the base is configured.
func (o *Options) BaseKey() string { return "auth.base" }

// CheckChained reports nothing: a login goes with any keys.
func (o *Options) CheckChained() error { return nil }

// TokenNames are those of the identity tokens. They are nothing that a program of
// this host could use.
func (o *Options) TokenNames() []string { return slices.Sorted(maps.Keys(o.IdentityTokens)) }

// Validate reports every error of form, each beginning with its key. It opens no file
// and asks nobody.
func (o *Options) Validate() error {
	var all []error
	fault := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	all = append(all, o.checkServer()...)
	all = append(all, o.Auth.Validate(), o.Auth.checkTLS(&o.TLS))
	if len(o.AWS.Roles)+len(o.KV.Keys)+len(o.IdentityTokens) == 0 {
		fault("aws.roles: missing, such as billing: {path: sts/billing}; or kv.keys, or identity_tokens")
	}
	if err := checkMount(o.AWS.Mount); err != nil {
		fault("aws.%w", err)
	}
	taken := map[string]string{}
	name := func(section, name string) {
		if err := credential.CheckName(name); err != nil {
			fault("%s: %w", section, err)
		}
		if other, twice := taken[name]; twice {
			fault("%s.%s: %s has this name, too", section, name, other)
		}
		taken[name] = section
	}
	each := func(section string, names []string, check func(string) []error) {
		for _, n := range names {
			name(section, n)
			for _, err := range check(n) {
				fault("%s.%s.%w", section, n, err)
			}
		}
	}
	each("aws.roles", slices.Sorted(maps.Keys(o.AWS.Roles)), func(n string) []error { return o.AWS.Roles[n].check(n) })
	each("kv.keys", slices.Sorted(maps.Keys(o.KV.Keys)), func(n string) []error { return o.KV.Keys[n].check() })
	each("identity_tokens", o.TokenNames(), func(n string) []error { return o.IdentityTokens[n].check(n) })
	return errors.Join(append(all, o.Options.Validate())...)
}

// checkServer looks at what leads to the server.
func (o *Options) checkServer() (all []error) {
	fault := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	if len(o.Address) == 0 {
		fault("address: missing, such as https://vault.example.com:8200")
	}
	seen := map[string]bool{}
	for i, raw := range o.Address {
		which := "address"
		if len(o.Address) > 1 {
			which = fmt.Sprintf("address: number %d of %d", i+1, len(o.Address))
		}
		at, err := parseAddress(raw)
		switch {
		case err != nil:
			fault("%s: %w", which, err)
		case seen[at.String()]:
			fault("%s: %q is there twice", which, raw)
		case at.open() && !o.InsecureHTTP:
			fault("%s: %q is not encrypted, so that everybody on the way could read the secrets; write https://, or set insecure_http", which, raw)
		}
		if err == nil {
			seen[at.String()] = true
		}
	}
	if o.Namespace != "" && !isPath(o.Namespace) {
		fault("namespace: %q is not a path such as team/web, without slashes around", o.Namespace)
	}
	return all
}

var engineForm = regexp.MustCompile(`^(sts|creds|static-creds)/\w([\w.@-]*\w)?$`)

// checkMount looks whether an optional text can be the path of a mount.
func checkMount(path string) error {
	if path != "" && !isPath(path) {
		return fmt.Errorf("mount: %q is not a path such as aws, without slashes around", path)
	}
	return nil
}

// check reports what cannot be asked, each error beginning with its key.
func (r Role) check(name string) (all []error) {
	fault := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	if err := checkMount(r.Mount); err != nil {
		all = append(all, err)
	}
	if path := r.path(name); !engineForm.MatchString(path) {
		fault("path: %q is not sts/NAME, creds/NAME or static-creds/NAME", path)
	}
	if r.static(name) {
		for key, set := range map[string]bool{"role_arn": r.RoleARN != "", "ttl": r.TTL != 0, "session_name": r.SessionName != "", "method": r.Method != "", "allow_iam_user": r.AllowIAMUser} {
			if set {
				fault("%s: is for sts/ and creds/ paths; keys of static-creds/ are as they are", key)
			}
		}
		slices.SortFunc(all, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
		return append(all, checkReread(r.Reread)...)
	}
	if _, ok := awsapi.ParseRole(r.RoleARN); r.RoleARN != "" && !ok {
		fault("role_arn: %q is not the ARN of a role, such as arn:aws:iam::123456789012:role/demo", r.RoleARN)
	}
	all = append(all, awsapi.Session{SessionName: r.SessionName}.CheckRest()...)
	if r.TTL != 0 && (r.TTL < leastTTL || r.TTL > longestSession || r.TTL%time.Second != 0) {
		fault("ttl: %v is not between %v and %v in whole seconds", r.TTL, leastTTL, longestSession)
	}
	if r.Method != "" && r.Method != "GET" && r.Method != "POST" {
		fault("method: %q is neither GET nor POST", r.Method)
	}
	if r.Reread != 0 {
		fault("reread: is for static-creds/ paths; other keys are replaced before they end")
	}
	return all
}

func (r Role) path(name string) string { return cmp.Or(r.Path, "sts/"+name) }

func (r Role) static(name string) bool { return strings.HasPrefix(r.path(name), "static-creds/") }

func (k KVKeys) check() (all []error) {
	fault := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	if err := checkMount(k.Mount); err != nil {
		all = append(all, err)
	}
	if k.Path == "" {
		fault("path: missing, such as apps/legacy")
	} else if !isPath(k.Path) {
		fault("path: %q is not a path such as apps/legacy, without slashes around", k.Path)
	}
	fields := []string{k.accessKey(), k.secretKey(), k.SessionToken}
	if fields[0] == fields[1] || fields[0] == fields[2] || fields[1] == fields[2] {
		fault("access_key: the fields %q of the secret are not different", fields)
	}
	return append(all, checkReread(k.Reread)...)
}

func (k KVKeys) accessKey() string { return cmp.Or(k.AccessKey, "access_key") }
func (k KVKeys) secretKey() string { return cmp.Or(k.SecretKey, "secret_key") }

func (t IdentityToken) check(name string) (all []error) {
	if role := cmp.Or(t.Role, name); !isPath(role) || strings.Contains(role, "/") {
		all = append(all, fmt.Errorf("role: %q cannot be the name of a role", role))
	}
	return all
}

func checkReread(every time.Duration) []error {
	if every != 0 && (every < leastReread || every > mostReread) {
		return []error{fmt.Errorf("reread: %v is not between %v and %v", every, leastReread, mostReread)}
	}
	return nil
}
