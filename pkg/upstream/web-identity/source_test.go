package webidentity

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/awsapi"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/mock"
	"github.com/purser-agent/purser/pkg/testkit"
	"github.com/purser-agent/purser/pkg/upstream"
)

// A place is an STS that knows one issuer, and a source that asks it with a token.
type place struct {
	issuer *mock.Issuer
	url    string // of the issuer
	ended  func() // the issuer is not there any more
	sts    *mock.STS
	base   *testkit.Base
	file   string
	source *Source
	log    bytes.Buffer
}

const audience = "sts.amazonaws.com"

// newPlace starts one. The token is in a file unless a test changes that.
func newPlace(t *testing.T, o mock.STSOptions, change func(*Options)) *place {
	t.Helper()
	p := &place{issuer: mock.NewIssuer(), base: testkit.NewBase("identity", nil, nil), file: filepath.Join(t.TempDir(), "token")}
	issuer := testkit.Serve(t, p.issuer)
	p.url, p.ended = issuer.URL, issuer.Close
	o.Keys, o.Providers = &mock.Keys{}, []mock.Provider{{Issuer: p.url, Audience: audience}}
	p.sts = mock.NewSTS(o)
	p.write(t, p.token(time.Hour)+"\n")
	options := options()
	options.Token.File, options.Endpoint = p.file, testkit.Serve(t, p.sts).URL
	options.Timeouts = upstream.Timeouts{Dial: 5 * time.Second, TLS: 5 * time.Second, Header: 2 * time.Second, Total: 10 * time.Second}
	if change != nil {
		change(options)
	}
	source, err := New("aws", options, p.base, zerolog.New(&p.log))
	if err != nil {
		t.Fatal(err)
	}
	p.source = source
	return p
}

// onBase makes the stock what a source takes its token from.
func onBase(o *Options) { o.Token, o.Base.Credential = credential.SecretRef{}, "identity" }

// token is a good one for so long.
func (p *place) token(life time.Duration) string {
	return p.issuer.Token(p.url, "web01", audience, time.Now().Add(life))
}

func (p *place) stored(text string) *credential.Token {
	return &credential.Token{Value: credential.NewSecret(text), Type: "JWT", Issued: time.Now(), Expires: time.Now().Add(time.Hour)}
}

// write replaces the token's file.
func (p *place) write(t *testing.T, text string) {
	t.Helper()
	testkit.Replace(t, p.file, text)
}

func (p *place) fetch(t *testing.T) (*credential.AWS, error) {
	t.Helper()
	c, err := p.source.Fetch(t.Context(), credential.Key{Name: "demo"})
	if err != nil {
		return nil, err
	}
	return c.(*credential.AWS), nil
}

func TestARoleIsAssumedWithTheTokenAndAllThatIsConfigured(t *testing.T) {
	full := awsapi.Session{
		RoleARN: demoARN, SessionName: "{{ .Credential }}-{{ .Hostname }}", Policy: `{"Version": "2012-10-17"}`,
		PolicyARNs: []string{"arn:aws:iam::aws:policy/ReadOnlyAccess"}, Duration: 2 * time.Hour,
	}
	p := newPlace(t, mock.STSOptions{Roles: []mock.STSRole{{ARN: demoARN, By: []string{"web01"}, Longest: 2 * time.Hour}}},
		func(o *Options) { o.Roles["demo"] = full })
	got, err := p.fetch(t)
	if err != nil {
		t.Fatal(err)
	}
	if life := got.Expires.Sub(got.Issued); got.RoleARN != demoARN || got.AccountID != "123456789012" || life < 2*time.Hour-2*time.Second {
		t.Errorf("got %s in %s for %v", got.RoleARN, got.AccountID, life)
	}
	hostname, _ := os.Hostname()
	calls := p.sts.Assumptions()
	if len(calls) != 1 || calls[0].By != "web01" || calls[0].Key != "" || calls[0].Form.Get("RoleSessionName") != awsapi.SessionName("", "demo-"+hostname, "") {
		t.Errorf("STS was asked %+v", calls)
	}
	if form := calls[0].Form; form.Get("Policy") != full.Policy || form.Get("PolicyArns.member.1.arn") != full.PolicyARNs[0] || form.Get("DurationSeconds") != "7200" {
		t.Errorf("STS was asked %v", form)
	}
	if _, err := p.source.Fetch(t.Context(), credential.Key{Name: "other"}); !errors.Is(err, credential.ErrNotFound) {
		t.Errorf("got %v for a role that is not configured", err)
	}
}

func TestTheTokensFileIsReadForEachCallAndAChangeIsNoticed(t *testing.T) {
	p := newPlace(t, mock.STSOptions{}, nil)
	p.write(t, p.token(-time.Second))
	p.source.Changed()
	if _, err := p.fetch(t); err == nil {
		t.Fatal("an old token works")
	}
	if p.source.Changed() {
		t.Error("a change without one")
	}
	p.write(t, p.token(time.Hour))
	if !p.source.Changed() || p.source.Changed() {
		t.Error("a new file is not noticed, or twice")
	}
	if _, err := p.fetch(t); err != nil {
		t.Error(err)
	}
}

func TestAStoredTokenIsUsedAndANewerOneNoticed(t *testing.T) {
	p := newPlace(t, mock.STSOptions{}, onBase)
	p.base.Set(p.stored(p.token(-time.Second)), nil)
	if _, err := p.fetch(t); err == nil || p.base.Renewed() != 1 {
		t.Errorf("got %v, %d renewals", err, p.base.Renewed())
	}
	if p.source.Changed() {
		t.Error("a change without one")
	}
	p.base.Set(p.stored(p.token(time.Hour)), nil)
	if !p.source.Changed() || p.source.Changed() {
		t.Error("a new token is not noticed, or twice")
	}
	if _, err := p.fetch(t); err != nil || p.base.Renewed() != 1 {
		t.Errorf("got %v, %d renewals", err, p.base.Renewed())
	}
}

func TestCheckNamesAFileThatIsNotThere(t *testing.T) {
	p := newPlace(t, mock.STSOptions{}, nil)
	if err := p.source.Check(); err != nil {
		t.Error(err)
	}
	if err := os.Remove(p.file); err != nil {
		t.Fatal(err)
	}
	if err := p.source.Check(); err == nil || !strings.Contains(err.Error(), p.file) {
		t.Errorf("got %v", err)
	}
}

// TestPromise6WhatStopsAnAssumptionIsSaidInOneSentenceWithoutTheToken makes each real
// fault and compares the whole sentence, the class, and whether somebody must act.
func TestPromise6WhatStopsAnAssumptionIsSaidInOneSentenceWithoutTheToken(t *testing.T) {
	code := func(code string) func(*testing.T, *place) {
		return func(_ *testing.T, p *place) { p.sts.SetFaults(mock.Fault{Kind: mock.Code, Code: code}) }
	}
	text := func(text func(p *place) string) func(*testing.T, *place) {
		return func(t *testing.T, p *place) { p.write(t, text(p)) }
	}
	fails := func(err error) func(*testing.T, *place) {
		return func(_ *testing.T, p *place) { p.base.Set(nil, err) }
	}
	var said strings.Builder
	for _, c := range []struct {
		name      string
		change    func(*Options)
		cause     func(t *testing.T, p *place)
		class     string
		permanent bool
	}{
		{"not trusted", nil, text(func(p *place) string { return p.issuer.Token(p.url, "db01", audience, time.Now().Add(time.Hour)) }), "refused", true},
		{"another audience", nil, text(func(p *place) string { return p.issuer.Token(p.url, "web01", "vault", time.Now().Add(time.Hour)) }), "request", true},
		{"another issuer", nil, text(func(p *place) string {
			return p.issuer.Token("https://evil.invalid", "web01", audience, time.Now().Add(time.Hour))
		}), "request", true},
		{"another key", nil, text(func(p *place) string {
			return mock.NewIssuer().Token(p.url, "web01", audience, time.Now().Add(time.Hour))
		}), "request", true},
		{"spoilt", nil, text(func(p *place) string { return strings.Replace(p.token(time.Hour), ".", ".x", 1) }), "request", true},
		{"over", nil, text(func(p *place) string { return p.token(-time.Second) }), "expired", false},
		{"over, stored", onBase, func(_ *testing.T, p *place) { p.base.Set(p.stored(p.token(-time.Second)), nil) }, "expired", false},
		{"issuer down", nil, func(_ *testing.T, p *place) { p.ended() }, "server", false},
		{"claim rejected", nil, code("IDPRejectedClaim"), "refused", true},
		{"duration", nil, code("ValidationError"), "request", true},
		{"policy", nil, code("MalformedPolicyDocument"), "request", true},
		{"region", nil, code("RegionDisabledException"), "request", true},
		{"throttled", nil, code("Throttling"), "throttled", false},
		{"an unknown code", nil, code("Nonsense"), "request", true},
		{"not an STS", nil, code("InvalidAction"), "request", true},
		{"empty", nil, text(func(*place) string { return "\n" }), "base", false},
		{"two lines", nil, text(func(p *place) string { return p.token(time.Hour) + "\n" + p.token(time.Hour) }), "base", false},
		{"endless", nil, text(func(*place) string { return strings.Repeat("x", 20_001) }), "base", false},
		{"no file", nil, func(_ *testing.T, p *place) { _ = os.Remove(p.file) }, "base", false},
		{"base not yet there", onBase, fails(credential.ErrUnavailable), "base", false},
		{"base refused", onBase, fails(credential.ErrRefused), "base", false},
		{"base ended", onBase, fails(credential.ErrExpired), "base", false},
		{"base of keys", onBase, func(_ *testing.T, p *place) { p.base.Set(&credential.AWS{}, nil) }, "base", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, mock.STSOptions{Roles: []mock.STSRole{{ARN: demoARN, By: []string{"web01"}}}}, c.change)
			c.cause(t, p)
			_, err := p.fetch(t)
			if err == nil {
				t.Fatal("it worked")
			}
			class, _ := err.(interface{ Class() string })
			if permanent, ok := err.(interface{ Permanent() bool }); class.Class() != c.class || (ok && permanent.Permanent()) != c.permanent {
				t.Errorf("got the class %s", class.Class())
			}
			text, _ := os.ReadFile(p.file)
			for _, part := range strings.FieldsFunc(string(text), func(r rune) bool { return r == '.' || r == '\n' }) {
				if strings.Contains(err.Error()+p.log.String(), part) {
					t.Errorf("%v shows a part of the token", err)
				}
			}
			sentence := strings.NewReplacer(p.source.options.URL("sts"), "URL", p.file, "FILE").Replace(err.Error())
			fmt.Fprintf(&said, "%s: %s\n", c.name, sentence)
		})
	}
	testkit.Golden(t, "sentences.txt", said.String())
}
