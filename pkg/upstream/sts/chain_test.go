package sts

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/mock"
	"github.com/purser-agent/purser/pkg/testkit"
)

// A home is an account whose environment and files a chain looks at.
type home struct {
	t      *testing.T
	folder string
}

// newHome is an account without any variable or file that the SDK knows.
func newHome(t *testing.T) *home {
	t.Helper()
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	h := &home{t, t.TempDir()}
	t.Setenv("HOME", h.folder)
	return h
}

func (h *home) write(name, text string, mode os.FileMode) string {
	h.t.Helper()
	path := filepath.Join(h.folder, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// profile is a section of a credentials file with new keys of a user.
func profile(p *place, name, user string) string {
	id, secretKey := p.keys.User(user)
	return fmt.Sprintf("[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\n", name, id, secretKey)
}

// newChained is a place whose base is the default chain. Its STS takes the token in the
// place's file.
func newChained(t *testing.T, change func(b *BaseOptions)) *place {
	t.Helper()
	issuer := mock.NewIssuer()
	published := testkit.Serve(t, issuer)
	token := testkit.File(t, "token", issuer.Token(published.URL, "web01", "aws", time.Now().Add(time.Hour)))
	p := newPlace(t, mock.STSOptions{Providers: []mock.Provider{{Issuer: published.URL, Audience: "aws"}}}, func(o *Options, server *httptest.Server) {
		o.Base = BaseOptions{Chain: defaultChain}
		if change != nil {
			change(&o.Base)
		}
		t.Setenv("AWS_ENDPOINT_URL_STS", server.URL)
	})
	p.token = token
	return p
}

// by is who assumed the latest role.
func (p *place) by(t *testing.T) string {
	t.Helper()
	if _, err := p.fetch(t, "demo"); err != nil {
		t.Fatal(err)
	}
	calls := p.sts.Assumptions()
	return calls[len(calls)-1].By
}

func TestTheDefaultChainIsThatOfTheSDK(t *testing.T) {
	for _, c := range []struct {
		name    string
		base    BaseOptions
		prepare func(h *home, p *place)
		want    string
	}{
		{"environment", BaseOptions{}, func(h *home, p *place) {
			id, secretKey := p.keys.User("alice")
			h.t.Setenv("AWS_ACCESS_KEY_ID", id)
			h.t.Setenv("AWS_SECRET_ACCESS_KEY", secretKey)
			h.write(".aws/credentials", profile(p, "default", "bob"), 0o600)
		}, "alice"},
		{"credentials file", BaseOptions{}, func(h *home, p *place) {
			h.write(".aws/credentials", profile(p, "default", "alice")+profile(p, "other", "bob"), 0o600)
		}, "alice"},
		{"config file by a variable", BaseOptions{}, func(h *home, p *place) {
			h.t.Setenv("AWS_CONFIG_FILE", h.write("config", profile(p, "profile x", "alice"), 0o600))
			h.t.Setenv("AWS_PROFILE", "x")
		}, "alice"},
		{"a profile before the environment", BaseOptions{Profile: "other"}, func(h *home, p *place) {
			id, secretKey := p.keys.User("bob")
			h.t.Setenv("AWS_ACCESS_KEY_ID", id)
			h.t.Setenv("AWS_SECRET_ACCESS_KEY", secretKey)
			h.write(".aws/credentials", profile(p, "default", "bob")+profile(p, "other", "alice"), 0o600)
		}, "alice"},
		{"a web identity", BaseOptions{}, func(h *home, p *place) {
			h.t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", p.token)
			h.t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/identity")
		}, "identity"},
		{"a role of a profile", BaseOptions{Profile: "hop"}, func(h *home, p *place) {
			h.write(".aws/credentials", profile(p, "first", "alice"), 0o600)
			h.write(".aws/config", "[profile hop]\nsource_profile = first\nrole_arn = arn:aws:iam::123456789012:role/hop\n", 0o600)
		}, "hop"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHome(t)
			p := newChained(t, func(b *BaseOptions) { b.Profile = c.base.Profile })
			c.prepare(h, p)
			if got := p.by(t); got != c.want {
				t.Errorf("the role was assumed by %s", got)
			}
		})
	}
}

func TestFilesOfTheChainCanBeNamedAndAreReadAgain(t *testing.T) {
	h := newHome(t)
	p := newChained(t, func(b *BaseOptions) {
		b.CredentialsFile = filepath.Join(h.folder, "keys")
		b.ConfigFile = filepath.Join(h.folder, "config")
	})
	if err := p.source.Check(); err == nil || !strings.Contains(err.Error(), h.path("keys")+" does not exist") {
		t.Errorf("got %v for files that are missing", err)
	}
	h.write("config", "", 0o600)
	h.write("keys", profile(p, "default", "alice"), 0o600)
	if err := p.source.Check(); err != nil {
		t.Error(err)
	}
	p.source.Changed()
	if got := p.by(t); got != "alice" {
		t.Errorf("got %s", got)
	}
	if p.source.Changed() {
		t.Error("a change without one")
	}
	h.write("keys.new", profile(p, "default", "bob"), 0o600)
	if err := os.Rename(h.path("keys.new"), h.path("keys")); err != nil {
		t.Fatal(err)
	}
	if !p.source.Changed() {
		t.Error("a replaced file is no change")
	}
	if got := p.by(t); got != "bob" {
		t.Errorf("after the file was replaced the role was assumed by %s", got)
	}
}

func (h *home) path(name string) string { return filepath.Join(h.folder, name) }

// hop makes the chain assume a role, and says how often it did.
func (h *home) hop(p *place) (assumed func() int) {
	h.write(".aws/credentials", profile(p, "first", "alice"), 0o600)
	h.write(".aws/config", "[default]\nsource_profile = first\nrole_arn = arn:aws:iam::123456789012:role/hop\n", 0o600)
	return func() (n int) {
		for _, call := range p.sts.Assumptions() {
			if call.By == "alice" {
				n++
			}
		}
		return n
	}
}

func TestKeysOfTheChainAreKeptUntilTheyNearTheirEnd(t *testing.T) {
	for _, c := range []struct {
		name string
		ends time.Duration
		want int // calls of the chain for three roles
	}{{"an hour", time.Hour, 1}, {"four minutes", 4 * time.Minute, 3}} {
		t.Run(c.name, func(t *testing.T) {
			h := newHome(t)
			p := newChained(t, nil)
			assumed := h.hop(p)
			p.sts.SetFaults(mock.Fault{Kind: mock.Short, Time: c.ends})
			for range 3 {
				p.by(t)
			}
			if got := assumed(); got != c.want {
				t.Errorf("the chain asked %d times, want %d", got, c.want)
			}
		})
	}
}

func TestKeysOfTheChainThatHaveEndedAreAskedForAnew(t *testing.T) {
	h := newHome(t)
	p := newChained(t, nil)
	assumed := h.hop(p)
	p.by(t)
	p.sts.SetFaults(mock.Fault{Kind: mock.Code, Code: "ExpiredToken", Count: 1})
	if _, err := p.fetch(t, "demo"); err == nil {
		t.Fatal("it worked")
	}
	if got := p.by(t); got != "hop" || assumed() != 2 {
		t.Errorf("got %s after %d calls of the chain", got, assumed())
	}
}

// TestTheChainRunsNoProgram: the daemon runs none, so that what binds it later does not
// depend on the files of a chain.
func TestTheChainRunsNoProgram(t *testing.T) {
	for name, text := range map[string]string{
		"of the profile": "[profile x]\ncredential_process = PROGRAM\n",
		"of its source":  "[profile x]\nsource_profile = y\nrole_arn = arn:aws:iam::123456789012:role/hop\n[profile y]\ncredential_process = PROGRAM\n",
		"two hops away":  "[profile x]\nsource_profile = y\nrole_arn = arn:aws:iam::123456789012:role/hop\n[profile y]\nsource_profile = z\nrole_arn = arn:aws:iam::123456789012:role/hop\n[profile z]\ncredential_process = PROGRAM\n",
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			p := newChained(t, func(b *BaseOptions) { b.Profile = "x" })
			ran := h.path("ran")
			h.write(".aws/config", strings.ReplaceAll(text, "PROGRAM", "touch "+ran), 0o600)
			want := `the base, the SDK's default chain, cannot use the profile "x": it has the keys of a program (credential_process); let an upstream of kind process run that, and use {credential: NAME} of it`
			if _, err := p.fetch(t, "demo"); err == nil || err.Error() != want {
				t.Errorf("got %v\nwant %s", err, want)
			}
			if _, err := os.Stat(ran); err == nil {
				t.Error("the program ran")
			}
		})
	}
}

// TestTheChainNeverAsksThoseThatPurserStandsFor has a metadata service and container
// credentials that would answer, and every setting that leads there.
func TestTheChainNeverAsksThoseThatPurserStandsFor(t *testing.T) {
	var asked atomic.Int32
	trap := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = fmt.Fprint(w, `{"AccessKeyId":"ASIATRAP","SecretAccessKey":"x","Token":"x","Expiration":"2099-01-01T00:00:00Z","Code":"Success"}`)
	}))
	t.Cleanup(trap.Close)
	for name, c := range map[string]struct {
		config, variable, value string
	}{
		"nothing else":           {},
		"container, full":        {variable: "AWS_CONTAINER_CREDENTIALS_FULL_URI", value: trap.URL + "/v1/credentials"},
		"container, relative":    {variable: "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", value: "/v2/credentials/x"},
		"switched on":            {variable: "AWS_EC2_METADATA_DISABLED", value: "false"},
		"defaults":               {variable: "AWS_DEFAULTS_MODE", value: "auto"},
		"a profile's source":     {config: "credential_source = Ec2InstanceMetadata\nrole_arn = arn:aws:iam::123456789012:role/x\n"},
		"a profile's containers": {config: "credential_source = EcsContainer\nrole_arn = arn:aws:iam::123456789012:role/x\n", variable: "AWS_CONTAINER_CREDENTIALS_FULL_URI", value: trap.URL},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			p := newChained(t, nil)
			t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", trap.URL)
			if c.variable != "" {
				t.Setenv(c.variable, c.value)
			}
			if c.config != "" {
				h.write(".aws/config", "[default]\n"+c.config, 0o600)
			}
			if _, err := p.fetch(t, "demo"); err == nil {
				t.Error("it worked")
			}
		})
	}
	if got := asked.Load(); got != 0 {
		t.Errorf("asked %d times", got)
	}
}

func TestWhatIsWrongWithTheChainIsSaidInOneSentence(t *testing.T) {
	var said strings.Builder
	for _, c := range []struct {
		name string
		base BaseOptions
		// Files below the home.
		config, credentials string
	}{
		{"empty", BaseOptions{}, "", ""},
		{"empty, a profile's name", BaseOptions{Profile: "x"}, "[profile x]\nregion = eu-central-1\n", ""},
		{"no such profile", BaseOptions{Profile: "x"}, "[default]\nregion = eu-central-1\n", ""},
		{"a setting that is none", BaseOptions{}, "[default]\nregion = x\nretry_mode = " + mock.Marker + "\n", ""},
		{"authorities of its own", BaseOptions{}, "[default]\nca_bundle = /dev/null\n", ""},
		{"half of the keys", BaseOptions{}, "", "[default]\naws_access_key_id = " + mock.Marker + "\n"},
		{"a role without its source", BaseOptions{}, "[default]\nrole_arn = arn:aws:iam::123456789012:role/x\nsource_profile = gone\n", ""},
		{"metadata", BaseOptions{}, "[default]\nrole_arn = arn:aws:iam::123456789012:role/x\ncredential_source = Ec2InstanceMetadata\n", ""},
		{"a code", BaseOptions{}, "[default]\nrole_arn = arn:aws:iam::123456789012:role/x\nsource_profile = y\nmfa_serial = z\n[profile y]\naws_access_key_id = x\naws_secret_access_key = y\n", ""},
		{"no session of SSO", BaseOptions{}, "[default]\nsso_account_id = 123456789012\nsso_role_name = x\nsso_region = eu-central-1\nsso_start_url = https://sso.invalid/start\n", ""},
		{"a role that is refused", BaseOptions{}, "[default]\nrole_arn = arn:aws:iam::123456789012:role/x\nsource_profile = y\n[profile y]\naws_access_key_id = AKIAX\naws_secret_access_key = y\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHome(t)
			p := newChained(t, func(b *BaseOptions) { b.Profile = c.base.Profile })
			if c.config != "" {
				h.write(".aws/config", c.config, 0o600)
			}
			if c.credentials != "" {
				h.write(".aws/credentials", c.credentials, 0o600)
			}
			_, err := p.fetch(t, "demo")
			if err == nil {
				t.Fatal("it worked")
			}
			fmt.Fprintf(&said, "%s: %s\n", c.name, strings.ReplaceAll(err.Error(), h.folder, "HOME"))
		})
	}
	testkit.Golden(t, "chain-sentences.txt", said.String())
}

func TestTheChainWaitsForNoNamedPipe(t *testing.T) {
	h := newHome(t)
	p := newChained(t, func(b *BaseOptions) { b.CredentialsFile = h.path("keys") })
	if err := syscall.Mkfifo(h.path("keys"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := "the base, the SDK's default chain, cannot use " + h.path("keys") + ": it is not a regular file"
	if _, err := p.fetch(t, "demo"); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestTheChainAsksThroughTheProxyOfTheUpstream(t *testing.T) {
	h := newHome(t)
	f := newForwarder(t)
	p := newDistantPlace(t, f, func(o *Options) { o.Base = BaseOptions{Chain: defaultChain, Profile: "hop"} })
	t.Setenv("AWS_ENDPOINT_URL_STS", "https://sts.invalid")
	h.write(".aws/credentials", profile(p, "first", "alice"), 0o600)
	h.write(".aws/config", "[profile hop]\nsource_profile = first\nrole_arn = arn:aws:iam::123456789012:role/hop\n", 0o600)
	if got := p.by(t); got != "hop" {
		t.Errorf("got %s", got)
	}
	if got := f.requests(); len(got) != 2 {
		t.Errorf("the proxy was asked %q, want one request of the chain and one of Purser's", got)
	}
}
