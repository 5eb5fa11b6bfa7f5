// Package sts is the upstream that assumes AWS roles (AssumeRole of the Security
// Token Service) with a credential that another upstream gives: its base. Hops of any
// number follow from that, each an upstream of its own.
//
// A base is read when it is needed, so each assumption is signed with the newest one.
// What STS gives lives on when its base ends: a base that rotates leads to no
// assumption ahead of time, but to one at once where the last one failed. An assumed
// role ends when STS says so, and the schedule sees to the next one before.
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
}

// BaseOptions say which stored credential roles are assumed with: exactly one key is
// set.
type BaseOptions struct {
	Credential string `koanf:"credential"` // its name
	Upstream   string `koanf:"upstream"`   // one that grants nothing else
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
	for _, name := range slices.Sorted(maps.Keys(o.Roles)) {
		if d := o.Roles[name].Length(); d > chained {
			all = append(all, fmt.Errorf("roles.%s.duration: %v is too long: the base is the session of a role itself, and AWS lets such a chain last %v at most", name, d, chained))
		}
	}
	return errors.Join(all...)
}

// BaseOf returns the name of the credential that is the base, or else the upstream
// that gives it.
func (o *Options) BaseOf() (name, upstream string) { return o.Base.Credential, o.Base.Upstream }

// Validate reports every error of form, each beginning with its key. It opens no file
// and asks nobody.
func (o *Options) Validate() error {
	var all []error
	fault := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	switch {
	case o.Base.Credential == "" && o.Base.Upstream == "":
		fault("base: missing: {credential: NAME}, or {upstream: NAME} of one that grants a single credential")
	case o.Base.Credential != "" && o.Base.Upstream != "":
		fault("base: has both credential and upstream; one of them says which credential to use")
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
	return errors.Join(append(all, o.Options.Validate())...)
}
