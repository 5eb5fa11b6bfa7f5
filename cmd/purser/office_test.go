package main

import (
	"crypto/x509"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/config"
	"github.com/purser-agent/purser/pkg/mock"
	"github.com/purser-agent/purser/pkg/store"
	"github.com/purser-agent/purser/pkg/testkit"
)

// An office is a Roles Anywhere, and a host with a certificate for it.
type office struct {
	t         *testing.T
	keys      *mock.Keys
	authority *mock.Authority
	service   *mock.RolesAnywhere
	url       string
	files     string // the folder of host.pem and host.key
}

func startOffice(t *testing.T) *office {
	t.Helper()
	authority, err := mock.NewAuthority("authority", nil)
	if err != nil {
		t.Fatal(err)
	}
	o := &office{t: t, keys: &mock.Keys{}, authority: authority, files: t.TempDir()}
	o.service = mock.NewRolesAnywhere(mock.RolesAnywhereOptions{Keys: o.keys, Region: "eu-central-1", Authorities: []*x509.Certificate{authority.Certificate}})
	o.url = testkit.Serve(t, o.service).URL
	o.issue(mock.CertificateFor("web01"))
	return o
}

// issue gives the host a certificate with its key.
func (o *office) issue(wanted *x509.Certificate) {
	o.t.Helper()
	certificate, key, err := o.authority.Issue(wanted)
	if err != nil {
		o.t.Fatal(err)
	}
	for name, text := range map[string][]byte{"host.pem": certificate, "host.key": key} {
		testkit.Replace(o.t, filepath.Join(o.files, name), text)
	}
}

// section is the configuration of an upstream that gives one credential.
func (o *office) section(name string) string {
	const arn = "arn:aws:rolesanywhere:eu-central-1:123456789012:"
	return fmt.Sprintf("{kind: roles-anywhere, trust_anchor_arn: '%strust-anchor/t', profile_arn: '%sprofile/p', endpoint: %q, certificate: '%s/host.pem', key: '%s/host.key', "+
		"roles: {%s: {role_arn: 'arn:aws:iam::123456789012:role/%s'}}}", arn, arn, o.url, o.files, o.files, name, name)
}

func (o *office) config(more string) string {
	return "upstreams:\n  office: " + o.section("web") + "\n" + more + "grants: {everyone: {credentials: ['*']}}\n"
}

// TestACertificateIsTheStartOfAChain has no other secret on the host.
func TestACertificateIsTheStartOfAChain(t *testing.T) {
	o := startOffice(t)
	sts := mock.NewSTS(mock.STSOptions{Keys: o.keys, Roles: []mock.STSRole{{ARN: "arn:aws:iam::123456789012:role/b", By: []string{"web"}}}})
	c := &cloud{keys: o.keys, sts: sts, stsURL: testkit.Serve(t, sts).URL}
	r := startAgent(t, o.config(c.hop("b", "credential: web")))
	r.waitReady()
	r.keysOf("b")
	if got := strings.Join(c.signers(), ", "); got != "web for b" {
		t.Errorf("STS was asked by %s", got)
	}
}

// TestARotatedCertificateIsARetryAtOnce, however long the pause after a refusal.
func TestARotatedCertificateIsARetryAtOnce(t *testing.T) {
	o := startOffice(t)
	trusted := o.authority
	var err error
	if o.authority, err = mock.NewAuthority("another authority", nil); err != nil {
		t.Fatal(err)
	}
	o.issue(mock.CertificateFor("web01"))
	r := startAgent(t, o.config(""))
	r.awaitStatus("does not trust the certificate in ")
	for deadline := time.Now().Add(10 * time.Second); r.failures() < 10; { // minutes, as a rule
		if time.Now().After(deadline) {
			t.Fatalf("only %d failures", r.failures())
		}
		_ = r.client().Refresh(t.Context())
	}
	o.authority = trusted
	o.issue(mock.CertificateFor("web01"))
	began := time.Now()
	r.waitReady()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("a new certificate was used after %v", took)
	}
	r.keysOf("web")
}

// failures are those in a row of the only credential.
func (r *running) failures() int {
	r.t.Helper()
	report, err := r.client().Status(r.t.Context())
	if err != nil || len(report.Credentials) != 1 {
		r.t.Fatalf("%+v, %v", report, err)
	}
	return report.Credentials[0].Failures
}

// TestASessionForACertificateLimitsAChain as every session of a role does.
func TestASessionForACertificateLimitsAChain(t *testing.T) {
	o := startOffice(t)
	c := &cloud{stsURL: o.url}
	r := &running{t: t, file: filepath.Join(t.TempDir(), "purser.yaml")}
	r.write(o.config(strings.Replace(c.hop("b", "credential: web"), "}}}", ", duration: 2h}}}", 1)))
	loaded, err := config.Load(configOptions([]string{r.file}, nil))
	if err != nil {
		t.Fatal(err)
	}
	const want = `upstream "b-hop": roles.b.duration: 2h0m0s is too long: the base is the session of a role itself`
	if _, err := openSources(loaded.Upstreams, &store.Store{}, surroundings{log: zerolog.Nop()}); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}
