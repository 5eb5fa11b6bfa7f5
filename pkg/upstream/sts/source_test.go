package sts

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
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

// A place is an STS that knows one base, and a source that asks it.
type place struct {
	sts    *mock.STS
	keys   *mock.Keys
	base   *testkit.Base
	token  string // a file, see newChained
	source *Source
}

// newPlace starts one. The base belongs to a user unless a test sets another.
func newPlace(t *testing.T, o mock.STSOptions, change func(o *Options, server *httptest.Server)) *place {
	t.Helper()
	p := &place{keys: &mock.Keys{}, base: testkit.NewBase("base", nil, nil)}
	o.Keys, o.Region = p.keys, "eu-central-1"
	p.sts = mock.NewSTS(o)
	server := testkit.Serve(t, p.sts)
	p.base.Set(p.user("base"), nil)
	options := options()
	options.Endpoint = server.URL
	options.Timeouts = upstream.Timeouts{Dial: 5 * time.Second, TLS: 5 * time.Second, Header: 2 * time.Second, Total: 10 * time.Second}
	if change != nil {
		change(options, server)
	}
	source, err := New("finance", options, p.base, zerolog.New(t.Output()))
	if err != nil {
		t.Fatal(err)
	}
	p.source = source
	return p
}

func (p *place) user(name string) *credential.AWS {
	id, secretKey := p.keys.User(name)
	return &credential.AWS{AccessKeyID: id, SecretAccessKey: credential.NewSecret(secretKey)}
}

// held is the base as it is in stock.
func (p *place) held() *credential.AWS {
	_, c, _ := p.base.Get()
	return c.(*credential.AWS)
}

func (p *place) fetch(t *testing.T, name string) (*credential.AWS, error) {
	t.Helper()
	c, err := p.source.Fetch(t.Context(), credential.Key{Name: name})
	if err != nil {
		if c != nil {
			t.Error("a credential beside an error")
		}
		if strings.Contains(err.Error(), mock.Marker) {
			t.Errorf("%v has a secret", err)
		}
		return nil, err
	}
	return c.(*credential.AWS), nil
}

func TestARoleIsAssumedWithTheBaseAndAllThatIsConfigured(t *testing.T) {
	full := Role{
		Session: awsapi.Session{
			RoleARN: demoARN, SessionName: "{{ .Credential }}-{{ .Hostname }}", Policy: `{"Version": "2012-10-17", "é": ""}`,
			PolicyARNs: []string{"arn:aws:iam::aws:policy/ReadOnlyAccess"}, Duration: 2 * time.Hour,
		},
		ExternalID: "ext:1/2", Tags: map[string]string{"team": "a b+c", "cost center": ""}, TransitiveTags: []string{"team"}, SourceIdentity: "alice",
	}
	p := newPlace(t, mock.STSOptions{Roles: []mock.STSRole{{ARN: demoARN, By: []string{"base"}, ExternalID: "ext:1/2", Longest: 2 * time.Hour}}},
		func(o *Options, _ *httptest.Server) { o.Roles["demo"] = full })
	got, err := p.fetch(t, "demo")
	if err != nil {
		t.Fatal(err)
	}
	if got.RoleARN != demoARN || got.AccountID != "123456789012" || !strings.Contains(got.SessionToken.Reveal(), mock.Marker) {
		t.Errorf("got %s in account %s", got.RoleARN, got.AccountID)
	}
	if life := got.Expires.Sub(got.Issued); life < 2*time.Hour-2*time.Second || life > 2*time.Hour+2*time.Second {
		t.Errorf("got a life of %v", life)
	}
	calls := p.sts.Assumptions()
	hostname, _ := os.Hostname()
	if len(calls) != 1 || calls[0].Key != p.held().AccessKeyID || calls[0].Form.Get("RoleSessionName") != awsapi.SessionName("", "demo-"+hostname, "") {
		t.Errorf("STS was asked %+v", calls)
	}
	if _, err := p.source.Fetch(t.Context(), credential.Key{Name: "other"}); !errors.Is(err, credential.ErrNotFound) {
		t.Errorf("got %v for a role that is not configured", err)
	}
}

func TestThreeHopsEachSignWithTheOneBefore(t *testing.T) {
	p := newPlace(t, mock.STSOptions{}, nil)
	for _, by := range []string{"base", "demoRole", "demoRole"} {
		got, err := p.fetch(t, "demo")
		if err != nil {
			t.Fatal(err)
		}
		calls := p.sts.Assumptions()
		if last := calls[len(calls)-1]; last.By != by || last.Made != got.AccessKeyID {
			t.Errorf("got %+v, want it by %s", last, by)
		}
		p.base.Set(got, nil)
	}
}

// TestWhatStopsAnAssumptionIsSaidInOneSentence makes each real fault and compares
// the whole sentence, the class, and whether somebody must act.
func TestWhatStopsAnAssumptionIsSaidInOneSentence(t *testing.T) {
	type outcome struct {
		class     string
		permanent bool
		refused   bool
		renewed   int
	}
	trusting := mock.STSOptions{Roles: []mock.STSRole{{ARN: demoARN, By: []string{"somebody else"}}}}
	fault := func(text string) func(*testing.T, *place) {
		return func(t *testing.T, p *place) {
			f, err := mock.ParseFault(text)
			if err != nil {
				t.Fatal(err)
			}
			p.sts.SetFaults(f)
		}
	}
	fails := func(err error) func(*testing.T, *place) {
		return func(_ *testing.T, p *place) { p.base.Set(nil, err) }
	}
	var said strings.Builder
	for _, c := range []struct {
		name  string
		sts   mock.STSOptions
		cause func(t *testing.T, p *place)
		want  outcome
	}{
		{"not trusted", trusting, nil, outcome{"refused", true, true, 0}},
		{"keys revoked", mock.STSOptions{}, func(_ *testing.T, p *place) { p.keys.Revoke(p.held().AccessKeyID) }, outcome{"refused", true, true, 0}},
		{"another secret key", mock.STSOptions{}, func(_ *testing.T, p *place) { p.held().SecretAccessKey = credential.NewSecret("x") }, outcome{"request", true, false, 0}},
		{"session ended", mock.STSOptions{}, fault("code=ExpiredToken"), outcome{"expired", false, false, 1}},
		{"clock behind", mock.STSOptions{}, fault("skew=20m"), outcome{"request", true, false, 0}},
		{"clock ahead", mock.STSOptions{}, fault("skew=-20m"), outcome{"request", true, false, 0}},
		{"policy", mock.STSOptions{}, fault("code=MalformedPolicyDocument"), outcome{"request", true, false, 0}},
		{"packed policy", mock.STSOptions{}, fault("code=PackedPolicyTooLarge"), outcome{"request", true, false, 0}},
		{"region", mock.STSOptions{}, fault("code=RegionDisabledException"), outcome{"request", true, false, 0}},
		{"duration", mock.STSOptions{}, fault("code=ValidationError"), outcome{"request", true, false, 0}},
		{"throttled", mock.STSOptions{}, fault("code=Throttling"), outcome{"throttled", false, false, 0}}, // U07
		{"broken", mock.STSOptions{}, fault("code=InternalFailure"), outcome{"server", false, false, 0}},
		{"an unknown code", mock.STSOptions{}, fault("code=Nonsense"), outcome{"request", true, false, 0}},
		{"a gateway", mock.STSOptions{}, fault("status=502"), outcome{"server", false, false, 0}},
		{"a login page", mock.STSOptions{}, fault("html"), outcome{"malformed", false, false, 0}},
		{"nothing", mock.STSOptions{}, fault("empty"), outcome{"incomplete", false, false, 0}},
		{"no secret key", mock.STSOptions{}, fault("incomplete"), outcome{"malformed", false, false, 0}},
		{"over already", mock.STSOptions{}, fault("expired"), outcome{"expired", false, false, 0}},
		{"base not yet there", mock.STSOptions{}, fails(credential.ErrUnavailable), outcome{"base", false, false, 0}},
		{"base refused", mock.STSOptions{}, fails(credential.ErrRefused), outcome{"base", false, false, 0}},
		{"base ended", mock.STSOptions{}, fails(credential.ErrExpired), outcome{"base", false, false, 0}},
		{"base unknown", mock.STSOptions{}, fails(credential.ErrNotFound), outcome{"base", false, false, 0}},
		{"base ambiguous", mock.STSOptions{}, fails(errors.New("upstream \"dc\" gives 2 credentials")), outcome{"base", false, false, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, c.sts, nil)
			if c.cause != nil {
				c.cause(t, p)
			}
			_, err := p.fetch(t, "demo")
			if err == nil {
				t.Fatal("it worked")
			}
			var got outcome
			switch e := err.(type) {
			case *upstream.Error:
				got = outcome{e.Class(), e.Permanent(), e.Refused(), p.base.Renewed()}
			case *awsapi.BaseError:
				got = outcome{e.Class(), false, false, p.base.Renewed()}
			}
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			sentence := strings.ReplaceAll(err.Error(), p.source.options.URL("sts"), "URL")
			if i := strings.Index(sentence, "the session ended at "); i >= 0 {
				sentence = sentence[:i] + "the session ended at TIME"
			}
			fmt.Fprintf(&said, "%s: %s\n", c.name, sentence)
		})
	}
	testkit.Golden(t, "sentences.txt", said.String())
}

func TestAWrongClockDoesHarmOnce(t *testing.T) {
	p := newPlace(t, mock.STSOptions{}, nil)
	p.sts.SetFaults(mock.Fault{Kind: mock.Skew, Time: 20 * time.Minute})
	if _, err := p.fetch(t, "demo"); err == nil {
		t.Fatal("a signature of 20 minutes ago was taken")
	}
	if _, err := p.fetch(t, "demo"); err != nil {
		t.Error(err)
	}
	if got := p.source.Skew(); got != 20*time.Minute {
		t.Errorf("got a skew of %v", got)
	}
}

func TestChangedTellsOnceOfABaseThatMayHelp(t *testing.T) {
	p := newPlace(t, mock.STSOptions{}, nil)
	first, second := p.held(), p.user("base")
	p.keys.Revoke(first.AccessKeyID)
	expect := func(what string, want bool) {
		t.Helper()
		if got := p.source.Changed(); got != want {
			t.Errorf("%s: changed is %v", what, got)
		}
	}
	fetch := func() {
		if _, err := p.fetch(t, "demo"); err == nil {
			t.Error("a revoked base works")
		}
	}
	fetch()
	expect("the same base", false)
	p.base.Set(nil, credential.ErrUnavailable)
	expect("no base any more", false)
	p.base.Set(second, nil)
	expect("a new base", true)
	expect("the same again", false)
	p.keys.Revoke(second.AccessKeyID)
	third := p.user("base")
	fetch() // and while it runs:
	p.base.Set(third, nil)
	expect("a base that came during the attempt", true)
	expect("the same again", false)
	if _, err := p.fetch(t, "demo"); err != nil {
		t.Error(err)
	}
}

func TestABaseThatWaitsIsToldFromOneThatIsWrong(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{credential.ErrUnavailable, true}, {credential.ErrRefused, false}, {credential.ErrExpired, false}, {credential.ErrNotFound, false},
	} {
		p := newPlace(t, mock.STSOptions{}, nil)
		p.base.Set(nil, c.err)
		_, err := p.fetch(t, "demo")
		waits, ok := err.(interface{ Waiting() bool })
		if !ok || waits.Waiting() != c.want || !errors.Is(err, c.err) {
			t.Errorf("%v: got %v", c.err, err)
		}
	}
}

func TestARoleOnDemandIsAssumedAsItsPatternSays(t *testing.T) {
	p := newPlace(t, mock.STSOptions{}, func(o *Options, _ *httptest.Server) {
		o.OnDemand = map[string]Role{
			"app": {Session: awsapi.Session{RoleARN: "arn:aws:iam::123456789012:role/app-*", SessionName: "{{ .Credential }}"}, ExternalID: "one", Tags: map[string]string{"team": "a"}},
			"db":  {Session: awsapi.Session{RoleARN: "arn:aws:iam::123456789012:role/db/*", Policy: `{"a": 1}`}, ExternalID: "two"},
		}
	})
	for arn, want := range map[string]map[string]string{
		"arn:aws:iam::123456789012:role/app-1": {"ExternalId": "one", "RoleSessionName": "app-1", "Tags.member.1.Value": "a", "Policy": ""},
		"arn:aws:iam::123456789012:role/db/x":  {"ExternalId": "two", "Policy": `{"a": 1}`, "Tags.member.1.Value": ""},
	} {
		key := credential.Key{Name: arn}
		if !p.source.Allows(key) {
			t.Errorf("%s is not allowed", arn)
		}
		got, err := p.fetch(t, arn)
		if err != nil {
			t.Fatal(err)
		}
		if got.RoleARN != arn {
			t.Errorf("got keys of %s", got.RoleARN)
		}
		calls := p.sts.Assumptions()
		form := calls[len(calls)-1].Form
		for name, value := range want {
			if form.Get(name) != value || form.Get("RoleArn") != arn {
				t.Errorf("%s: STS was asked %v, want %s=%q", arn, form, name, value)
			}
		}
	}
	for _, key := range []credential.Key{
		{Name: "demo"}, {Name: "app"}, {Name: "arn:aws:iam::123456789012:role/other"}, {Name: "arn:aws:iam::210987654321:role/app-1"},
		{Name: "arn:aws:iam::123456789012:role/app-1", Variant: "x"}, {Name: "arn:aws:iam::123456789012:role/app-*"}, {Name: ""},
	} {
		if p.source.Allows(key) {
			t.Errorf("%q is allowed", key)
		}
	}
	for _, arn := range []string{"arn:aws:iam::123456789012:role/other", "arn:aws:iam::123456789012:role/app-1/x"} {
		if _, err := p.fetch(t, arn); !errors.Is(err, credential.ErrNotFound) {
			t.Errorf("%s: got %v", arn, err)
		}
	}
	if got := len(p.sts.Assumptions()); got != 2 {
		t.Errorf("STS was asked %d times", got)
	}
}
