package rolesanywhere

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/mock"
	"github.com/purser-agent/purser/pkg/testkit"
	"github.com/purser-agent/purser/pkg/upstream"
)

const (
	anchorARN  = "arn:aws:rolesanywhere:eu-central-1:123456789012:trust-anchor/t"
	profileARN = "arn:aws:rolesanywhere:eu-central-1:123456789012:profile/p"
	demoARN    = "arn:aws:iam::123456789012:role/team/demoRole"
)

// secretText is in whatever must never be seen.
const secretText = "CONFIDENTIAL0123456789"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A place is a Roles Anywhere with its authority, and a source with a certificate of it.
type place struct {
	t         *testing.T
	authority *mock.Authority
	service   *mock.RolesAnywhere
	options   *Options
	source    *Source
	log       *testkit.Log
}

// newPlace starts one. The change comes before the source is made.
func newPlace(t *testing.T, o mock.RolesAnywhereOptions, change func(p *place)) *place {
	t.Helper()
	authority, err := mock.NewAuthority("authority", nil)
	must(t, err)
	o.Region, o.Authorities, o.Keys = "eu-central-1", []*x509.Certificate{authority.Certificate}, &mock.Keys{}
	p := &place{t: t, authority: authority, service: mock.NewRolesAnywhere(o), options: options(), log: &testkit.Log{}}
	dir := t.TempDir()
	p.options.Endpoint = testkit.Serve(t, p.service).URL
	p.options.Certificate, p.options.Key = filepath.Join(dir, "host.pem"), filepath.Join(dir, "host.key")
	p.options.Timeouts = upstream.Timeouts{Dial: 5 * time.Second, TLS: 5 * time.Second, Header: 2 * time.Second, Total: 10 * time.Second}
	p.rotate("web01")
	if change != nil {
		change(p)
	}
	p.source, err = New("office", p.options, zerolog.New(p.log))
	must(t, err)
	return p
}

// options are the least that is valid, but for files.
func options() *Options {
	o := Defaults()
	o.TrustAnchorARN, o.ProfileARN = anchorARN, profileARN
	o.Certificate, o.Key = "/etc/purser/host.pem", "/etc/purser/host.key"
	o.Roles = map[string]Role{"demo": {RoleARN: demoARN}}
	return o
}

// rotate writes a new certificate with this name and its key.
func (p *place) rotate(name string) { p.issue(p.authority, mock.CertificateFor(name)) }

func (p *place) issue(by *mock.Authority, wanted *x509.Certificate) {
	p.t.Helper()
	certificate, key, err := by.Issue(wanted)
	must(p.t, err)
	testkit.Replace(p.t, p.options.Certificate, certificate)
	testkit.Replace(p.t, p.options.Key, key)
}

func (p *place) fetch() (*credential.AWS, error) {
	p.t.Helper()
	c, err := p.source.Fetch(p.t.Context(), credential.Key{Name: "demo"})
	if err != nil {
		if c != nil {
			p.t.Error("a credential beside an error")
		}
		if strings.Contains(err.Error(), mock.Marker) || strings.Contains(err.Error(), secretText) {
			p.t.Errorf("%v has a secret", err)
		}
		return nil, err
	}
	return c.(*credential.AWS), nil
}

// expect gets a session and wants it to be asked for with the certificate of this name.
func (p *place) expect(name string) {
	p.t.Helper()
	if _, err := p.fetch(); err != nil {
		p.t.Fatal(err)
	}
	sessions := p.service.Sessions()
	if got := sessions[len(sessions)-1].Subject; got != "CN="+name {
		p.t.Errorf("asked with the certificate of %s, want %s", got, name)
	}
}

func TestASessionIsWhatTheServiceGivesForTheCertificate(t *testing.T) {
	p := newPlace(t, mock.RolesAnywhereOptions{Profiles: []mock.RolesAnywhereProfile{{ARN: profileARN, Roles: []string{demoARN}, SessionName: true, Longest: 12 * time.Hour}}},
		func(p *place) {
			p.options.Roles["demo"] = Role{RoleARN: demoARN, SessionName: "{{ .Credential }}/x", Duration: 2 * time.Hour}
		})
	got, err := p.fetch()
	must(t, err)
	if got.RoleARN != demoARN || got.AccountID != "123456789012" || !strings.Contains(got.SessionToken.Reveal(), mock.Marker) || !strings.Contains(got.SecretAccessKey.Reveal(), mock.Marker) {
		t.Errorf("got %s in account %s", got.RoleARN, got.AccountID)
	}
	if life := got.Expires.Sub(got.Issued); life < 2*time.Hour-2*time.Second || life > 2*time.Hour+2*time.Second {
		t.Errorf("got a life of %v", life)
	}
	sessions := p.service.Sessions()
	if len(sessions) != 1 || sessions[0].Made != got.AccessKeyID || sessions[0].SessionName != "demo-x" || sessions[0].Role != demoARN {
		t.Errorf("the service was asked %+v", sessions)
	}
	if _, err := p.source.Fetch(t.Context(), credential.Key{Name: "other"}); !errors.Is(err, credential.ErrNotFound) {
		t.Errorf("got %v for a role that is not configured", err)
	}
}

// TestEveryKindOfKeyAndChainIsAccepted asks a service that verifies all of it.
func TestEveryKindOfKeyAndChainIsAccepted(t *testing.T) {
	for _, c := range []struct{ name, key, password string }{
		{"RSA", "rsa-pkcs1.pem", ""}, {"P-256", "ec-sec1.pem", ""}, {"P-384", "ec-p384.pem", ""}, {"P-521", "ec-p521.pem", ""},
		{"encrypted", "encrypted-default.pem", password},
	} {
		for _, where := range []string{"no chain", "chain beside", "chain in the file, with the root"} {
			t.Run(c.name+", "+where, func(t *testing.T) {
				p := newPlace(t, mock.RolesAnywhereOptions{}, func(p *place) {
					p.options.Key, p.options.KeyPassword = filepath.Join("testdata/keys", c.key), credential.SecretRef{Value: credential.NewSecret(c.password)}
					key, err := p.options.loadKey()
					must(t, err)
					by, between := p.authority, []*x509.Certificate{}
					if where != "no chain" {
						by, err = mock.NewAuthority("between", p.authority)
						must(t, err)
						between = append(between, by.Certificate, p.authority.Certificate)
					}
					leaf, err := by.Sign(mock.CertificateFor("web01"), key.Public())
					must(t, err)
					if where == "chain beside" {
						p.options.Chain = testkit.File(t, "chain.pem", mock.CertificatePEM(leaf, between[0]))
						between = nil
					}
					testkit.Replace(t, p.options.Certificate, mock.CertificatePEM(append([]*x509.Certificate{leaf}, between...)...))
				})
				p.expect("web01")
				must(t, p.source.Check())
			})
		}
	}
}

// TestWhatStopsASessionIsSaidInOneSentence makes each real fault and compares the whole
// sentence, the class, and whether somebody must act.
func TestWhatStopsASessionIsSaidInOneSentence(t *testing.T) {
	other, err := mock.NewAuthority("another authority", nil)
	must(t, err)
	profile := func(p mock.RolesAnywhereProfile) mock.RolesAnywhereOptions {
		p.ARN = profileARN
		return mock.RolesAnywhereOptions{Profiles: []mock.RolesAnywhereProfile{p}}
	}
	fault := func(text string) func(p *place) {
		return func(p *place) {
			f, err := mock.ParseFault(text)
			must(t, err)
			p.service.SetFaults(f)
		}
	}
	lasting := func(from, to time.Duration) func(p *place) {
		return func(p *place) {
			wanted := mock.CertificateFor("web01")
			base := time.Now().Truncate(24 * time.Hour)
			wanted.NotBefore, wanted.NotAfter = base.Add(from), base.Add(to)
			p.issue(p.authority, wanted)
		}
	}
	const day = 24 * time.Hour
	var said strings.Builder
	for _, c := range []struct {
		name    string
		service mock.RolesAnywhereOptions
		cause   func(p *place)
		want    string // class, and what must follow
	}{
		{"expired", mock.RolesAnywhereOptions{}, lasting(-2*day, -day), "tls"},
		{"not yet valid", mock.RolesAnywhereOptions{}, lasting(2*day, 3*day), "tls"},
		{"expired by the clock of the service", mock.RolesAnywhereOptions{}, func(p *place) {
			wanted := mock.CertificateFor("web01")
			wanted.NotAfter = time.Now().Add(5 * time.Minute)
			p.issue(p.authority, wanted)
			fault("skew=10m")(p)
		}, "refused permanent"},
		{"another authority", mock.RolesAnywhereOptions{}, func(p *place) { p.issue(other, mock.CertificateFor("web01")) }, "refused permanent"},
		{"role does not trust", mock.RolesAnywhereOptions{Distrusting: []string{demoARN}}, nil, "refused permanent"},
		{"profile disabled", profile(mock.RolesAnywhereProfile{Roles: []string{demoARN}, Disabled: true}), nil, "refused permanent"},
		{"role not in profile", profile(mock.RolesAnywhereProfile{}), nil, "refused permanent"},
		{"no session names", profile(mock.RolesAnywhereProfile{Roles: []string{demoARN}}), func(p *place) { p.options.Roles["demo"] = Role{RoleARN: demoARN, SessionName: "web"} }, "refused permanent"},
		{"no such profile", mock.RolesAnywhereOptions{Profiles: []mock.RolesAnywhereProfile{{ARN: "x"}}}, nil, "request permanent"},
		{"no such trust anchor", mock.RolesAnywhereOptions{TrustAnchor: "x"}, nil, "request permanent"},
		{"nothing such", mock.RolesAnywhereOptions{}, fault("code=ResourceNotFoundException"), "request permanent"},
		{"refused for no known reason", mock.RolesAnywhereOptions{}, fault("code=AccessDeniedException"), "refused permanent"},
		{"parameter", mock.RolesAnywhereOptions{}, fault("code=ValidationException"), "request permanent"},
		{"clock behind", mock.RolesAnywhereOptions{}, fault("skew=20m"), "request permanent"},
		{"clock ahead", mock.RolesAnywhereOptions{}, fault("skew=-20m"), "request permanent"},
		{"throttled", mock.RolesAnywhereOptions{}, fault("code=ThrottlingException"), "throttled"},
		{"an unknown code", mock.RolesAnywhereOptions{}, fault("code=Nonsense"), "request permanent"},
		{"a gateway", mock.RolesAnywhereOptions{}, fault("status=502"), "server"},
		{"a login page", mock.RolesAnywhereOptions{}, fault("html"), "malformed"},
		{"nothing", mock.RolesAnywhereOptions{}, fault("empty"), "incomplete"},
		{"no secret key", mock.RolesAnywhereOptions{}, fault("incomplete"), "malformed"},
		{"over already", mock.RolesAnywhereOptions{}, fault("expired"), "expired"},
		{"an authority's certificate", mock.RolesAnywhereOptions{}, func(p *place) {
			wanted := mock.CertificateFor("web01")
			wanted.IsCA = true
			p.issue(p.authority, wanted)
		}, "tls"},
		{"key usage", mock.RolesAnywhereOptions{}, func(p *place) {
			wanted := mock.CertificateFor("web01")
			wanted.KeyUsage = x509.KeyUsageKeyEncipherment
			p.issue(p.authority, wanted)
		}, "tls"},
		{"another key", mock.RolesAnywhereOptions{}, func(p *place) {
			_, key, err := p.authority.Issue(mock.CertificateFor("x"))
			must(t, err)
			testkit.Replace(t, p.options.Key, key)
		}, "tls"},
		{"no certificate", mock.RolesAnywhereOptions{}, func(p *place) { testkit.Replace(t, p.options.Certificate, secretText) }, "tls"},
		{"no key", mock.RolesAnywhereOptions{}, func(p *place) { must(t, os.Remove(p.options.Key)) }, "tls"},
		{"no chain", mock.RolesAnywhereOptions{}, func(p *place) { p.options.Chain = testkit.File(t, "chain.pem", "") }, "tls"},
		{"a long chain", mock.RolesAnywhereOptions{}, func(p *place) {
			var many []*x509.Certificate
			for i := range maxChain + 1 {
				between, err := mock.NewAuthority(fmt.Sprint("between", i), p.authority)
				must(t, err)
				many = append(many, between.Certificate)
			}
			p.options.Chain = testkit.File(t, "chain.pem", mock.CertificatePEM(many...))
		}, "tls"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, c.service, c.cause)
			_, err := p.fetch()
			if err == nil {
				t.Fatal("it worked")
			}
			got := err.(interface{ Class() string }).Class()
			if e, ok := errors.AsType[*upstream.Error](err); ok && e.Permanent() {
				got += " permanent"
			}
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			sentence := strings.NewReplacer(p.options.Endpoint, "URL", p.options.Certificate, "CERTIFICATE", p.options.Key, "KEY", p.options.Chain+"|", "").Replace(err.Error())
			fmt.Fprintf(&said, "%s: %s\n", c.name, withoutTimes(t, sentence))
		})
	}
	testkit.Golden(t, "sentences.txt", said.String())
}

// withoutTimes puts names for the days that a test chose.
func withoutTimes(t *testing.T, text string) string {
	t.Helper()
	today := time.Now().Truncate(24 * time.Hour)
	for name, days := range map[string]int{"YESTERDAY": -1, "IN TWO DAYS": 2} {
		text = strings.ReplaceAll(text, stamp(today.AddDate(0, 0, days)), name)
	}
	if i := strings.Index(text, "the session ended at "); i >= 0 {
		text = text[:i] + "the session ended at TIME"
	}
	if i, j := strings.Index(text, "chain: /"), strings.Index(text, "chain.pem"); i >= 0 && j > i {
		text = text[:i] + "chain: CHAIN" + text[j+len("chain.pem"):]
	}
	return text
}

func TestAWrongClockDoesHarmOnce(t *testing.T) {
	p := newPlace(t, mock.RolesAnywhereOptions{}, nil)
	p.service.SetFaults(mock.Fault{Kind: mock.Skew, Time: 20 * time.Minute})
	if _, err := p.fetch(); err == nil {
		t.Fatal("a signature of 20 minutes ago was taken")
	}
	if _, err := p.fetch(); err != nil {
		t.Error(err)
	}
	if got := p.source.Skew(); got != 20*time.Minute {
		t.Errorf("got a skew of %v", got)
	}
}
