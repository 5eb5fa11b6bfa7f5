// Package rolesanywhere is the upstream that gets sessions of AWS roles for an X.509
// certificate (CreateSession of IAM Roles Anywhere): for a server that has nothing but
// the identity which its own authority gave it.
//
// The certificate and its key are PEM files, and are used as a pair: a rotation that is
// half done changes nothing, one that is complete counts from the next request. The key
// may be encrypted, or be one that only a TPM can use. Keys behind PKCS#11 are not
// supported: that takes a C library inside the process, and Purser is one static binary.
//
// Requests are signed here, as the SDK's signer knows no certificates, and sent with
// pkg/upstream's client. Roles and session names follow the rules of pkg/awsapi; when to
// ask is left to pkg/refresh.
package rolesanywhere

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/purser-agent/purser/pkg/awsapi"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// Options are the keys of an upstream of kind roles-anywhere. Its region is that of the
// trust anchor.
type Options struct {
	upstream.Options `koanf:",squash"`

	TrustAnchorARN string `koanf:"trust_anchor_arn"`
	ProfileARN     string `koanf:"profile_arn"`
	// Certificate is a PEM file with the certificate, first, and those that lead from it
	// to the trust anchor. Chain may hold these instead.
	Certificate string `koanf:"certificate"`
	Chain       string `koanf:"chain"`
	// Key is a PEM file with the certificate's private key; it may be the same file.
	// KeyPassword opens an encrypted one, or is the authorization value of one in a TPM.
	Key         string               `koanf:"key"`
	KeyPassword credential.SecretRef `koanf:"key_password"`
	// TPM is the device, or the socket of an emulator, for a key that only a TPM can use.
	TPM string `koanf:"tpm"`
	// Endpoint replaces the region's own, such as the URL of a VPC endpoint; FIPS and
	// DualStack choose among the region's.
	Endpoint  string `koanf:"endpoint"`
	FIPS      bool   `koanf:"fips"`
	DualStack bool   `koanf:"dual_stack"`
	// Roles are those to get sessions of, by the name that programs see.
	Roles map[string]Role `koanf:"roles"`
}

// A Role is one role to get sessions of.
type Role struct {
	RoleARN string `koanf:"role_arn"`
	// SessionName is a template with {{ .Hostname }} and {{ .Credential }}. It must be
	// empty unless the profile accepts names; AWS takes the certificate's serial number
	// then.
	SessionName string        `koanf:"session_name"`
	Duration    time.Duration `koanf:"duration"` // an hour if zero; the profile's counts if it is shorter
}

// Defaults returns the options of an upstream that sets none.
func Defaults() *Options {
	return &Options{Options: upstream.Defaults(), TPM: "/dev/tpmrm0"}
}

var (
	anchorForm  = regexp.MustCompile(`^arn:(aws[a-z-]*):rolesanywhere:([a-z0-9-]+):([0-9]{12}):trust-anchor/[\w-]{1,64}$`)
	profileForm = regexp.MustCompile(`^arn:(aws[a-z-]*):rolesanywhere:([a-z0-9-]+):([0-9]{12}):profile/[\w-]{1,64}$`)
)

// place is the endpoint that is asked.
func (o *Options) place() *awsapi.Place {
	p := &awsapi.Place{Endpoint: o.Endpoint, FIPS: o.FIPS, DualStack: o.DualStack}
	if anchor := anchorForm.FindStringSubmatch(o.TrustAnchorARN); anchor != nil {
		p.Region = anchor[2]
	}
	return p
}

// Validate reports every error of form, each beginning with its key. It opens no file
// and asks nobody.
func (o *Options) Validate() error {
	partition, all := o.checkPlace()
	fault := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	if o.Certificate == "" {
		fault("certificate: missing, the PEM file with the certificate to ask with")
	}
	if o.Key == "" {
		fault("key: missing, the PEM file with the certificate's private key")
	}
	if !filepath.IsAbs(o.TPM) {
		fault("tpm: %q is not an absolute path, such as /dev/tpmrm0", o.TPM)
	}
	if len(o.Roles) == 0 {
		fault("roles: missing, such as NAME: {role_arn: \"arn:aws:iam::123456789012:role/demo\"}")
	}
	for _, name := range slices.Sorted(maps.Keys(o.Roles)) {
		for _, err := range o.Roles[name].session().Check(partition) {
			fault("roles.%s.%w", name, err)
		}
		if err := credential.CheckName(name); err != nil {
			fault("roles: %w", err)
		}
	}
	return errors.Join(append(all, o.Options.Validate())...)
}

// checkPlace returns the partition that roles must be in.
func (o *Options) checkPlace() (partition string, all []error) {
	fault := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	anchor, profile := anchorForm.FindStringSubmatch(o.TrustAnchorARN), profileForm.FindStringSubmatch(o.ProfileARN)
	switch {
	case anchor == nil:
		fault("trust_anchor_arn: %q is not the ARN of a trust anchor, such as arn:aws:rolesanywhere:eu-central-1:123456789012:trust-anchor/ID", o.TrustAnchorARN)
	default:
		partition = anchor[1]
		if _, err := o.place().Partition(); err != nil {
			fault("%w", err)
		}
	}
	switch {
	case profile == nil:
		fault("profile_arn: %q is not the ARN of a profile, such as arn:aws:rolesanywhere:eu-central-1:123456789012:profile/ID", o.ProfileARN)
	case anchor != nil && profile[2] != anchor[2]:
		fault("profile_arn: the profile is in %s, the trust anchor in %s; Roles Anywhere wants them in one region", profile[2], anchor[2])
	}
	return partition, all
}

// session is the role in the form that others assume one by.
func (r Role) session() awsapi.Session {
	return awsapi.Session{RoleARN: r.RoleARN, SessionName: r.SessionName, Duration: r.Duration}
}
