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
// and settings from the environment. When to ask is left to pkg/refresh, how a base is
// found among the upstreams to cmd/purser.
package sts

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// Options are the keys of an upstream of kind sts.
type Options struct {
	upstream.Options `koanf:",squash"`

	Base BaseOptions `koanf:"base"`
	// Region is whose endpoint is asked, and what requests are signed for.
	Region string `koanf:"region"`
	// Endpoint replaces the region's own, such as the URL of a VPC endpoint.
	Endpoint string `koanf:"endpoint"`
	// FIPS and DualStack choose among the region's endpoints.
	FIPS      bool `koanf:"fips"`
	DualStack bool `koanf:"dual_stack"`
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
	RoleARN string `koanf:"role_arn"`
	// SessionName is a template with {{ .Hostname }} and {{ .Credential }}; what a
	// session cannot be called is replaced or cut off.
	SessionName string `koanf:"session_name"`
	ExternalID  string `koanf:"external_id"`
	// Policy is a JSON document, PolicyARNs names managed ones: the session may do no
	// more than they allow.
	Policy         string            `koanf:"policy"`
	PolicyARNs     []string          `koanf:"policy_arns"`
	Tags           map[string]string `koanf:"tags"`
	TransitiveTags []string          `koanf:"transitive_tags"` // keys of Tags that later hops keep
	SourceIdentity string            `koanf:"source_identity"`
	Duration       time.Duration     `koanf:"duration"` // an hour if zero
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
		if d := o.Roles[name].duration(); d > chained {
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
	partition, err := o.checkPlace()
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

var regionForm = regexp.MustCompile(`^[a-z]{2,8}(-[a-z]{2,16}){1,3}-[0-9]{1,2}$`)

// checkPlace returns the partition that roles must be in, empty where an endpoint of
// its own leaves that open.
func (o *Options) checkPlace() (partition string, err error) {
	if !regionForm.MatchString(o.Region) {
		if o.Region == "" {
			return "", errors.New("region: missing, such as eu-central-1")
		}
		return "", fmt.Errorf("region: %q is not a region such as eu-central-1", o.Region)
	}
	if o.Endpoint != "" {
		if o.FIPS || o.DualStack {
			return "", errors.New("endpoint: excludes fips and dual_stack, which choose among the region's own")
		}
		address, err := upstream.ParseURL(o.Endpoint)
		if err != nil {
			return "", fmt.Errorf("endpoint: %w", err)
		}
		if address.Path != "" && address.Path != "/" {
			return "", fmt.Errorf("endpoint: %q has a path, which STS does not have", o.Endpoint)
		}
		return "", nil
	}
	partition, known := partitionOf(o.Region)
	if !known {
		return "", fmt.Errorf("region: %q is in a partition whose endpoints are not known here; set endpoint", o.Region)
	}
	if o.FIPS && partition == "aws-cn" {
		return "", errors.New("fips: there are no FIPS endpoints in aws-cn")
	}
	return partition, nil
}

// partitionOf tells the partition of a region by its name.
func partitionOf(region string) (partition string, known bool) {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn", true
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov", true
	case strings.Contains(region, "-iso"), strings.HasPrefix(region, "eusc-"):
		return "", false
	}
	return "aws", true
}

// address is the URL that is asked.
func (o *Options) address() string {
	if o.Endpoint != "" {
		return strings.TrimRight(o.Endpoint, "/") + "/"
	}
	partition, _ := partitionOf(o.Region)
	host, domain := "sts.", ".amazonaws.com"
	switch {
	case o.DualStack && partition == "aws-cn":
		domain = ".api.amazonwebservices.com.cn"
	case o.DualStack:
		domain = ".api.aws"
	case partition == "aws-cn":
		domain = ".amazonaws.com.cn"
	}
	if o.FIPS && (partition != "aws-us-gov" || o.DualStack) { // there the usual one is FIPS
		host = "sts-fips."
	}
	return "https://" + host + o.Region + domain + "/"
}

func (r Role) duration() time.Duration { return cmp.Or(r.Duration, chained) }
