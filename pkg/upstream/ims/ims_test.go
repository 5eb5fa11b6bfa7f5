package ims

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/mock"
	"github.com/purser-agent/purser/pkg/testkit"
	"github.com/purser-agent/purser/pkg/upstream"
)

// newServer serves a mock until the test ends.
func newServer(t *testing.T, o mock.IMSOptions) (*mock.IMS, string) {
	t.Helper()
	ims := mock.NewIMS(o)
	return ims, ims.URL(testkit.Serve(t, ims).URL)
}

func newSource(t *testing.T, o *Options) *Source {
	t.Helper()
	source, err := New("datacenter", o, zerolog.New(t.Output()))
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// at returns options for these addresses, with time-outs that a test can wait for.
func at(urls ...string) *Options {
	o := Defaults()
	o.URL = urls
	o.Timeouts = upstream.Timeouts{Dial: time.Second, TLS: time.Second, Header: 2 * time.Second, Total: 4 * time.Second}
	return o
}

func named(names ...string) []credential.Key {
	keys := []credential.Key{}
	for _, name := range names {
		keys = append(keys, credential.Key{Name: name})
	}
	return keys
}

func fetch(t *testing.T, s *Source, name string) (*credential.AWS, error) {
	t.Helper()
	found, err := s.Fetch(t.Context(), credential.Key{Name: name})
	if err != nil {
		if found != nil {
			t.Errorf("a credential %v beside the error", found)
		}
		return nil, err
	}
	return found.(*credential.AWS), nil
}

func TestListAndFetch(t *testing.T) {
	ims, url := newServer(t, mock.IMSOptions{Roles: []mock.Role{{Name: "web"}, {Name: "batch", Lifetime: 15 * time.Minute}}})
	for _, url := range []string{url, url + "/"} {
		source := newSource(t, at(url))
		if got, err := source.List(t.Context()); err != nil || !slices.Equal(got, named("web", "batch")) {
			t.Errorf("listed %v, %v", got, err)
		}
		first, err := fetch(t, source, "batch")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(first.AccessKeyID, "ASIA") || !strings.Contains(first.SecretAccessKey.Reveal(), mock.Marker) || !strings.Contains(first.SessionToken.Reveal(), mock.Marker) {
			t.Error("the keys are not those of the mock")
		}
		issued, expires := first.Lifetime()
		if expires.Sub(issued) != 15*time.Minute || time.Until(expires) > 15*time.Minute || time.Until(expires) < 14*time.Minute {
			t.Errorf("issued %v, expires %v", issued, expires)
		}
		if second, err := fetch(t, source, "batch"); err != nil || second.AccessKeyID == first.AccessKeyID {
			t.Errorf("the second fetch gave %v, %v", second, err)
		}
	}
	if got := ims.Requests(); got.Lists != 2 || got.Fetches["batch"] != 4 || got.Total != 6 {
		t.Errorf("the upstream was asked %+v", got)
	}
}

func TestDeclaredRolesAreNotAskedFor(t *testing.T) {
	ims, url := newServer(t, mock.IMSOptions{Roles: []mock.Role{{Name: "web-prod"}, {Name: "batch"}, {Name: "other"}}})
	o := at(url)
	o.Roles = map[string]Role{"web": {Role: "web-prod"}, "batch": {}}
	o.AccountID = "123456789012"
	source := newSource(t, o)
	if got, err := source.List(t.Context()); err != nil || !slices.Equal(got, named("batch", "web")) {
		t.Errorf("listed %v, %v", got, err)
	}
	if got := source.Declared(); !slices.Equal(got, named("batch", "web")) {
		t.Errorf("declared %v", got)
	}
	if got, err := fetch(t, source, "web"); err != nil || got.AccountID != "123456789012" {
		t.Errorf("got %v, %v", got, err)
	}
	for _, key := range []credential.Key{{Name: "other"}, {Name: "web", Variant: "audience"}} {
		if _, err := source.Fetch(t.Context(), key); !errors.Is(err, credential.ErrNotFound) {
			t.Errorf("%v: got %v, want that it is not found", key, err)
		}
	}
	if got := ims.Requests(); got.Lists != 0 || got.Total != 1 || got.Fetches["web-prod"] != 1 {
		t.Errorf("the upstream was asked %+v", got)
	}
}

func TestAnEmptyListMeansNoRole(t *testing.T) {
	ims, url := newServer(t, mock.IMSOptions{})
	ims.SetFaults(mock.Fault{Kind: mock.Empty})
	if got, err := newSource(t, at(url)).List(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("got %v, %v, want an empty list", got, err)
	}
}

func TestNamesThatCannotBeUsedAreLoggedAndLeftOut(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "web\na/b\nc d\nbatch")
	}))
	defer server.Close()
	var logged bytes.Buffer
	source, err := New("datacenter", at(server.URL), zerolog.New(&logged))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := source.List(t.Context()); err != nil || !slices.Equal(got, named("web", "batch")) {
		t.Errorf("got %v, %v", got, err)
	}
	want := `{"level":"warn","upstream":"datacenter","first":"the name \"a/b\" contains a slash","count":2,"message":"listed roles cannot be used"}` + "\n"
	if logged.String() != want {
		t.Errorf("logged %s, want %s", logged.String(), want)
	}
}

func TestRolesAreEscapedInURLs(t *testing.T) {
	for role, want := range map[string]string{
		"web":         "web",
		"a+b=c,d.e@f": "a%2Bb=c%2Cd.e@f",
		"with space":  "with%20space",
		"path/to":     "path%2Fto",
		"schlüssel":   "schl%C3%BCssel",
		"100%":        "100%25",
		"a?b#c":       "a%3Fb%23c",
		"..x":         "..x",
	} {
		ims, url := newServer(t, mock.IMSOptions{Prefix: "/api/latest/machine", Roles: []mock.Role{{Name: role}}})
		o := at(url)
		o.Roles = map[string]Role{"alias": {Role: role}}
		if _, err := fetch(t, newSource(t, o), "alias"); err != nil {
			t.Errorf("%q: %v", role, err)
		}
		if got, want := ims.Requests().Latest[0].URI, "/api/latest/machine/meta-data/iam/security-credentials/"+want; got != want {
			t.Errorf("%q: asked for %s, want %s", role, got, want)
		}
	}
}

// An upstream's own words, and the secrets in its answers, stay out of errors and
// the log whatever goes wrong.
func TestEachFaultHasItsClassAndRevealsNothing(t *testing.T) {
	for fault, want := range map[string]struct{ list, fetch upstream.Class }{ // empty for success
		"hang":                       {upstream.ClassTimeout, upstream.ClassTimeout},
		"slow=100ms":                 {"", upstream.ClassTimeout},
		"latency=50ms":               {"", ""},
		"reset":                      {upstream.ClassTransport, upstream.ClassTransport},
		"garbage":                    {upstream.ClassMalformed, upstream.ClassMalformed},
		"status=401":                 {upstream.ClassRefused, upstream.ClassRefused},
		"status=403":                 {upstream.ClassRefused, upstream.ClassRefused},
		"status=404":                 {upstream.ClassRequest, upstream.ClassRequest},
		"status=407":                 {upstream.ClassProxy, upstream.ClassProxy},
		"status=429,retry-after=10s": {upstream.ClassThrottled, upstream.ClassThrottled},
		"status=500":                 {upstream.ClassServer, upstream.ClassServer},
		"status=502":                 {upstream.ClassServer, upstream.ClassServer},
		"status=503,retry-at=10s":    {upstream.ClassThrottled, upstream.ClassThrottled},
		"redirect":                   {upstream.ClassRedirect, upstream.ClassRedirect},
		"empty":                      {"", upstream.ClassEmpty},
		"truncated":                  {upstream.ClassTransport, upstream.ClassTransport},
		"malformed":                  {upstream.ClassMalformed, upstream.ClassMalformed},
		"html":                       {upstream.ClassMalformed, upstream.ClassMalformed},
		"huge":                       {upstream.ClassTooLarge, upstream.ClassTooLarge},
		"gzip":                       {upstream.ClassMalformed, upstream.ClassMalformed},
		"incomplete":                 {"", upstream.ClassIncomplete},
		"failed":                     {"", upstream.ClassIncomplete},
		"expired":                    {"", upstream.ClassExpired},
		"short=5m":                   {"", ""},
		"skew=10m":                   {"", ""},
		"vanished":                   {"", upstream.ClassRequest},
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			ims, url := newServer(t, mock.IMSOptions{})
			parsed, err := mock.ParseFault(fault)
			if err != nil {
				t.Fatal(err)
			}
			ims.SetFaults(parsed)
			var log bytes.Buffer
			source, err := New("datacenter", at(url), zerolog.New(&log).Level(zerolog.TraceLevel))
			if err != nil {
				t.Fatal(err)
			}
			_, listErr := source.List(t.Context())
			_, fetchErr := fetch(t, source, "test_role")
			for what, one := range map[string]struct {
				err  error
				want upstream.Class
			}{"list": {listErr, want.list}, "fetch": {fetchErr, want.fetch}} {
				got := ""
				if classed, ok := errors.AsType[*upstream.Error](one.err); ok {
					got = classed.Class()
				}
				if got != string(one.want) || (one.err == nil) != (one.want == "") {
					t.Errorf("%s: class %q, want %q: %v", what, got, one.want, one.err)
				}
				if strings.Contains(fmt.Sprint(one.err), mock.Marker) {
					t.Errorf("%s: %v quotes the upstream", what, one.err)
				}
			}
			if strings.Contains(log.String(), mock.Marker) {
				t.Errorf("the log quotes the upstream: %s", log.String())
			}
		})
	}
}

func TestRetryAfterReachesTheCaller(t *testing.T) {
	ims, url := newServer(t, mock.IMSOptions{})
	ims.SetFaults(mock.Fault{Kind: mock.Status, Status: 503, RetryAfter: 90 * time.Second})
	_, err := fetch(t, newSource(t, at(url)), "test_role")
	fault, ok := errors.AsType[*upstream.Error](err)
	if !ok || fault.RetryAfter() != 90*time.Second {
		t.Errorf("got %v", err)
	}
	if want := `role "test_role": GET ` + url + `/meta-data/iam/security-credentials/test_role: answered 503 Service Unavailable: it wants no request for 1m30s`; err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
}

func TestAnExpiredDocumentTellsOfTheClocks(t *testing.T) {
	ims, url := newServer(t, mock.IMSOptions{Lifetime: 5 * time.Minute})
	ims.SetFaults(mock.Fault{Kind: mock.Skew, Time: -time.Hour})
	source := newSource(t, at(url))
	_, err := fetch(t, source, "test_role")
	if err == nil || !strings.Contains(err.Error(), "the credential ended at ") || !strings.Contains(err.Error(), "55m") {
		t.Errorf("got %v, want when it ended", err)
	}
	if err == nil || !strings.Contains(err.Error(), "the upstream's clock is 1h0m0s behind ours") {
		t.Errorf("got %v, want the difference of the clocks", err)
	}
	if got := source.Skew(); (got + time.Hour).Abs() > time.Second {
		t.Errorf("skew %v, want minus one hour", got)
	}
}

func TestAClockThatIsAheadMovesNoExpiry(t *testing.T) {
	ims, url := newServer(t, mock.IMSOptions{})
	ims.SetFaults(mock.Fault{Kind: mock.Skew, Time: 10 * time.Minute})
	got, err := fetch(t, newSource(t, at(url)), "test_role")
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(got.Expires); (left - 70*time.Minute).Abs() > 3*time.Second {
		t.Errorf("%v left, want what the document says", left)
	}
	if age := time.Since(got.Issued); age < 0 || age > 3*time.Second {
		t.Errorf("issued %v ago, want now", age)
	}
}

func TestFetchEndsWithItsContext(t *testing.T) {
	ims, url := newServer(t, mock.IMSOptions{})
	ims.SetFaults(mock.Fault{Kind: mock.Hang})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := newSource(t, at(url, "http://127.0.0.9:1")).Fetch(ctx, credential.Key{Name: "test_role"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was canceled", err)
	}
}

func TestChangedFollowsTheFiles(t *testing.T) {
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := at("http://ims.example/latest")
	o.Proxy, o.ProxyUser, o.ProxyPassword = "http://proxy:3128", "purser", credential.SecretRef{File: password}
	source := newSource(t, o)
	if got := source.Files(); !slices.Equal(got, []string{password}) {
		t.Errorf("files %v", got)
	}
	if err := source.Check(); err != nil || source.Changed() {
		t.Errorf("before a change: %v", err)
	}
	if err := os.Remove(password); err != nil {
		t.Fatal(err)
	}
	if err := source.Check(); err == nil || !source.Changed() || source.Changed() {
		t.Errorf("after a change: %v", err)
	}
}

func TestValidateNamesTheKey(t *testing.T) {
	for _, test := range []struct {
		name string
		set  func(*Options)
		want string // empty for valid
	}{
		{"two addresses", func(o *Options) { o.URL = []string{"https://a/latest", "http://b:8080/x/y/"} }, ""},
		{"declared roles", func(o *Options) { o.Roles = map[string]Role{"web": {}, "db": {Role: "a b/c+ü"}} }, ""},
		{"account", func(o *Options) { o.AccountID = "012345678901" }, ""},
		{"no address", func(o *Options) { o.URL = nil }, "url: missing"},
		{"no scheme", func(o *Options) { o.URL = []string{"ims.example"} }, "url: does not begin with http"},
		{"the second without scheme", func(o *Options) { o.URL = []string{"http://a", "ims.example"} }, "url: number 2 of 2: does not begin with http"},
		{"a password twice", func(o *Options) { o.URL = []string{"u:" + mock.Marker + "@ims", "u:" + mock.Marker + "@ims"} }, "url: number 2 of 2: holds an @"},
		{"the same twice", func(o *Options) { o.URL = []string{"http://a/x", "http://a/x/"} }, `url: number 2 of 2: "http://a/x/" is there twice`},
		{"name with a slash", func(o *Options) { o.Roles = map[string]Role{"a/b": {}} }, `roles: the name "a/b" contains a slash`},
		{"role that is no segment", func(o *Options) { o.Roles = map[string]Role{"web": {Role: ".."}} }, `roles.web.role: ".." cannot be asked for`},
		{"role with a line end", func(o *Options) { o.Roles = map[string]Role{"web": {Role: "a\nb"}} }, "roles.web.role: "},
		{"short account", func(o *Options) { o.AccountID = "12345678901" }, `account_id: "12345678901" is not an account's twelve digits`},
		{"account with letters", func(o *Options) { o.AccountID = "12345678901x" }, "account_id: "},
		{"shared options", func(o *Options) { o.Timeouts.Dial = 0 }, "timeouts.dial: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := at("https://ims.example/latest")
			test.set(o)
			_, err := New("datacenter", o, zerolog.Nop())
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want ...%s...", err, test.want)
			case err != nil && strings.Contains(err.Error(), mock.Marker):
				t.Errorf("%v shows the password", err)
			}
		})
	}
}
