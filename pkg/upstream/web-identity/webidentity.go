// Package webidentity is the upstream that assumes AWS roles with a token of an OpenID
// Connect provider (AssumeRoleWithWebIdentity of the Security Token Service). The token
// comes from a file that another program keeps fresh, such as a SPIFFE agent, the
// kubelet or systemd, or from another upstream: the base.
//
// The token is read when it is needed, so each call carries the newest one. What STS
// gives lives on when the token ends; a token that was replaced leads to a call at once
// where the last one failed. Nothing in a token is trusted or looked at: that it is
// genuine, and for whom, is for STS to say.
//
// The call is unsigned, since the token is all that it needs. What STS shares with other
// calls is left to pkg/awsapi, when to ask to pkg/refresh, how a base is found among the
// upstreams to cmd/purser.
package webidentity

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/purser-agent/purser/pkg/awsapi"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// Options are the keys of an upstream of kind web-identity.
type Options struct {
	upstream.Options `koanf:",squash"`
	awsapi.Place     `koanf:",squash"`

	// Token is the JWT. Its file is read again for each call.
	Token credential.SecretRef `koanf:"token"`
	// Base is a stored token, instead of Token.
	Base BaseOptions `koanf:"base"`
	// Roles are those to assume, by the name that programs see.
	Roles map[string]awsapi.Session `koanf:"roles"`
}

// BaseOptions say which stored token roles are assumed with.
type BaseOptions struct {
	Credential string `koanf:"credential"` // its name
}

// Defaults returns the options of an upstream that sets none.
func Defaults() *Options { return &Options{Options: upstream.Defaults()} }

// BaseOf returns the name of the credential that is the base, empty if a token of its
// own is configured.
func (o *Options) BaseOf() (name, upstream string) { return o.Base.Credential, "" }

// WantsToken is true: roles are assumed with one.
func (*Options) WantsToken() bool { return true }

// CheckChained reports nothing: a token is no session of a role.
func (*Options) CheckChained() error { return nil }

// Validate reports every error of form, each beginning with its key. It opens no file
// and asks nobody.
func (o *Options) Validate() error {
	var all []error
	fault := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	switch {
	case o.Token.IsZero() && o.Base.Credential == "":
		fault("token: missing: {file: PATH}, or base: {credential: NAME} of a token that another upstream gives")
	case !o.Token.IsZero() && o.Base.Credential != "":
		fault("base: excludes token; one of them says what to assume roles with")
	case o.Base.Credential != "":
		if err := credential.CheckName(o.Base.Credential); err != nil {
			fault("base.credential: %w", err)
		}
	}
	partition, err := o.Partition()
	if err != nil {
		all = append(all, err)
	}
	if len(o.Roles) == 0 {
		fault("roles: missing, such as NAME: {role_arn: \"arn:aws:iam::123456789012:role/demo\"}")
	}
	for _, name := range slices.Sorted(maps.Keys(o.Roles)) {
		for _, err := range o.Roles[name].Check(partition) {
			fault("roles.%s.%w", name, err)
		}
		if err := credential.CheckName(name); err != nil {
			fault("roles: %w", err)
		}
		if o.Base.Credential == name {
			fault("base.credential: %q is one of this upstream's own roles", name)
		}
	}
	return errors.Join(append(all, o.Options.Validate())...)
}
