package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/purser-agent/purser/pkg/credential"
)

func TestOptionsOfAKindAreFilledOverItsDefaults(t *testing.T) {
	c, err := loadText(t, `
upstreams:
  dc:
    kind: ims
    required: false
    refresh: {longest: 6h, splay: 30s, list_every: 2h}
    url: https://a.example.com/latest
    roles: {short: {role: a-long-name}, same: {}}
    account_id: "012345678901"
    proxy: http://proxy.example.com:3128
    proxy_password: hunter2
    no_proxy: [localhost, 10.0.0.0/8]
    tls: {ca: /etc/ca.pem}
    timeouts: {dial: 1s500ms}
  other:
    kind: token
    token: {file: /run/token}
    retry: false
    labels: {a: b}
`)
	if err != nil {
		t.Fatal(err)
	}
	ims := &imsOptions{
		URL:       []string{"https://a.example.com/latest"},
		Roles:     map[string]imsRole{"short": {Role: "a-long-name"}, "same": {}},
		AccountID: "012345678901",
	}
	ims.Proxy, ims.NoProxy = "http://proxy.example.com:3128", []string{"localhost", "10.0.0.0/8"}
	ims.ProxyPassword = credential.SecretRef{Value: credential.NewSecret("hunter2")}
	ims.TLS.CA = "/etc/ca.pem"
	ims.Timeouts.Dial, ims.Timeouts.TLS = 1500*time.Millisecond, 5*time.Second
	ims.Timeouts.Header, ims.Timeouts.Total = 10*time.Second, 15*time.Second
	want := map[string]Upstream{
		"dc": {Kind: "ims", Refresh: Refresh{Longest: 6 * time.Hour, Splay: 30 * time.Second, ListEvery: 2 * time.Hour}, Options: ims},
		"other": {Kind: "token", Required: true, Refresh: Refresh{ListEvery: time.Hour}, Options: &tokenOptions{
			Token: credential.SecretRef{File: "/run/token"}, Retry: new(false), Size: 7, Labels: map[string]string{"a": "b"},
		}},
	}
	if !reflect.DeepEqual(meaning(c.Upstreams), want) {
		t.Errorf("got %+v\nwant %+v", c.Upstreams, want)
	}
	if got := c.Upstreams["dc"].Options.(*imsOptions).ProxyPassword.Value.Reveal(); got != "hunter2" {
		t.Errorf("the password in the configuration: got %q, want hunter2", got)
	}
}

func TestUpstreamThatDidNotChangeIsEqual(t *testing.T) {
	const text = "upstreams: {dc: {kind: ims, url: [a, b], proxy_password: %s, timeouts: {dial: %s}}}"
	load := func(password, dial string) Upstream {
		t.Helper()
		c, err := loadText(t, fmt.Sprintf(text, password, dial))
		if err != nil {
			t.Fatal(err)
		}
		return c.Upstreams["dc"]
	}
	before := load("hunter2", "3s")
	for _, c := range []struct {
		name, password, dial string
		want                 bool
	}{
		{"nothing changed", "hunter2", "3s", true},
		{"the same in other words", `"hunter2"`, "3000ms", true},
		{"another password", "hunter3", "3s", false},
		{"a password from a file", "{file: /hunter2}", "3s", false},
		{"another time-out", "hunter2", "4s", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := before.Equal(load(c.password, c.dial)); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestPrintedConfigurationLoadsAndMeansTheSame(t *testing.T) {
	for _, archive := range []string{"defaults", "layers", "names", "environment", "alppaca", "alppaca-mixed"} {
		t.Run(archive, func(t *testing.T) {
			before := loadArchive(t, archive)
			text, err := before.YAML(false)
			if err != nil {
				t.Fatal(err)
			}
			after, err := loadText(t, string(text))
			if err != nil {
				t.Fatalf("%v in:\n%s", err, text)
			}
			for _, c := range []*Config{before, after} {
				c.Files, c.Notices, c.Alppaca, c.origins, c.Upstreams = nil, nil, "", nil, meaning(c.Upstreams)
			}
			if !reflect.DeepEqual(before, after) {
				t.Errorf("before: %+v\nafter: %+v\nprinted:\n%s", before, after, text)
			}
		})
	}
}

func TestNothingThatPrintsAConfigurationShowsASecret(t *testing.T) {
	c, err := loadText(t, `
upstreams:
  a: {kind: ims, url: https://ims.example.com, proxy_password: hunter2}
  b: {kind: token, token: hunter2, nested: {secret: hunter2}}
`)
	if err != nil {
		t.Fatal(err)
	}
	yaml, err := c.YAML(true)
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, upstream := range c.Upstreams { // fmt prints a pointer within as an address
		yaml = fmt.Appendf(yaml, "%+v %#v", upstream.Options, upstream.Options)
	}
	for form, text := range map[string]string{
		"YAML": string(yaml), "JSON": string(asJSON), "%v": fmt.Sprintf("%v", c), "%#v": fmt.Sprintf("%#v", c),
	} {
		if strings.Contains(text, "hunter2") {
			t.Errorf("%s shows a secret:\n%s", form, text)
		}
	}
}

func TestOriginTellsWhetherAValueWasSet(t *testing.T) {
	write(t, map[string]string{"a.yaml": "log:\n  level: debug\nupstreams:\n  a.b: {kind: token}\n"})
	o := options("a.yaml")
	o.Environ = []string{"PURSER_LOG__FORMAT=console"}
	c, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		names []string
		want  Origin
		set   bool
	}{
		{[]string{"log", "level"}, Origin{File: "a.yaml", Line: 2}, true},
		{[]string{"log", "format"}, Origin{Variable: "PURSER_LOG__FORMAT"}, true},
		{[]string{"upstreams", "a.b", "kind"}, Origin{File: "a.yaml", Line: 4}, true},
		{[]string{"admin", "socket"}, Origin{}, false},
		{[]string{"upstreams", "a", "b"}, Origin{}, false},
	} {
		if got, set := c.Origin(test.names...); got != test.want || set != test.set {
			t.Errorf("%v: got %v, %v; want %v, %v", test.names, got, set, test.want, test.set)
		}
	}
}

func TestDefaultPathsMayBeMissingInPart(t *testing.T) {
	for _, test := range []struct {
		name  string
		files map[string]string
		want  string // the files read, or the error
	}{
		{"both", map[string]string{"etc/purser.yaml": "", "etc/conf.d/b.yaml": "", "etc/conf.d/a.yml": ""},
			"etc/purser.yaml etc/conf.d/a.yml etc/conf.d/b.yaml"},
		{"only the file", map[string]string{"etc/purser.yaml": ""}, "etc/purser.yaml"},
		{"only the folder", map[string]string{"etc/conf.d/a.yaml": ""}, "etc/conf.d/a.yaml"},
		{"an empty folder", map[string]string{"etc/purser.yaml": "", "etc/conf.d/README": ""}, "etc/purser.yaml"},
		{"nothing", nil, "etc/purser.yaml: there is no configuration here; write one, " +
			"or name a file or folder with --config (such as /etc/alppaca)"},
		{"a file for the folder", map[string]string{"etc/purser.yaml": "", "etc/conf.d": ""}, "etc/conf.d: not a directory"},
		{"a folder for the file", map[string]string{"etc/purser.yaml/x": ""}, "etc/purser.yaml: this is no regular file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			write(t, test.files)
			c, err := load(options(), "etc/purser.yaml", "etc/conf.d")
			got := fmt.Sprint(err)
			if err == nil {
				got = strings.Join(c.Files, " ")
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestLinksAreFollowed(t *testing.T) {
	write(t, map[string]string{"store/v2/base.yaml": "user: a\n", "elsewhere": "group: b\n", "conf.d/20-own.yaml": "log: {level: warn}\n"})
	for name, target := range map[string]string{
		"store/current":       "v2",                               // a folder that is rotated by a link
		"conf.d/10-base.yaml": "../store/current/base.yaml",       // relative, through that link
		"conf.d/30-b.yaml":    filepath.Join(cwd(t), "elsewhere"), // absolute, another name
	} {
		if err := os.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Load(options("conf.d"))
	if err != nil {
		t.Fatal(err)
	}
	if c.User != "a" || c.Group != "b" || c.Log.Level != "warn" {
		t.Errorf("got user %q, group %q, level %q; want a, b, warn", c.User, c.Group, c.Log.Level)
	}
	if got, _ := c.Origin("user"); got.String() != "conf.d/10-base.yaml:1" {
		t.Errorf("origin: got %s, want the name of the link, which an administrator knows", got)
	}
}

func TestWhatIsNoReadableFileIsRefusedAtOnce(t *testing.T) {
	write(t, map[string]string{
		"conf.d/a.yaml": "", "closed.yaml": "user: a", "utf16.yaml": "\xff\xfeu\x00", "latin1.yaml": "# ok\nuser: M\xfcller\n",
		"nul.yaml": "a: \x00\n", "large.yaml": "# " + strings.Repeat("x", maxFile),
	})
	if err := errors.Join(os.Chmod("closed.yaml", 0), syscall.Mkfifo("pipe.yaml", 0o600), os.Symlink("nowhere", "conf.d/b.yaml")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ path, want string }{
		{"conf.d", "conf.d/b.yaml: no such file or directory"},
		{"pipe.yaml", "pipe.yaml: this is no regular file"},
		{"/dev/zero", "/dev/zero: this is no regular file"},
		{"large.yaml", "large.yaml: the file is longer than 2097152 bytes"},
		{"utf16.yaml", "utf16.yaml:1: the text is not UTF-8, or holds a control character"},
		{"latin1.yaml", "latin1.yaml:2: the text is not UTF-8, or holds a control character"},
		{"nul.yaml", "nul.yaml:1: the text is not UTF-8, or holds a control character"},
		{"closed.yaml", "closed.yaml: permission denied"},
	} {
		t.Run(test.path, func(t *testing.T) {
			if test.path == "closed.yaml" {
				asNobody(t)
			}
			if _, err := Load(options(test.path)); err == nil || err.Error() != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// asNobody takes root's right to read every file away from this test.
func asNobody(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	runtime.LockOSThread() // for good: the thread ends with the test's goroutine
	if err := unix.Setfsuid(65534); err != nil {
		t.Fatal(err)
	}
}

func cwd(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestFolderWithTooManyFilesIsRefused(t *testing.T) {
	files := map[string]string{}
	for i := range maxFiles + 1 {
		files[fmt.Sprintf("conf.d/%04d.yaml", i)] = ""
	}
	write(t, files)
	_, err := Load(options("conf.d"))
	if want := "conf.d: there are 1001 files, at most 1000 are read"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestErrorTextIsBounded(t *testing.T) {
	_, err := loadText(t, strings.Repeat("user: a\n", 1000)+"log: {level: "+strings.Repeat("x", 1000)+"}\n")
	wrong, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("got %v, want an *Error", err)
	}
	if len(wrong.Problems) != 1000 {
		t.Errorf("got %d problems, want 999 duplicates and a level", len(wrong.Problems))
	}
	lines := strings.Split(err.Error(), "\n")
	if got, want := lines[len(lines)-1], "and 950 more"; got != want || len(lines) != 51 {
		t.Errorf("got %d lines ending in %q, want 51 and %q", len(lines), got, want)
	}
	if last := wrong.Problems[999].Error(); len(last) > 300 {
		t.Errorf("a problem has %d bytes: %s", len(last), last)
	}
	if one, ok := errors.AsType[Problem](err); !ok || one.Origin.Line != 2 {
		t.Errorf("errors.As finds %v, want the problem of line 2", one)
	}
}

func TestGroupFollowsUserAndNobodyHasAFallback(t *testing.T) {
	for _, test := range []struct{ text, user, group, fallback string }{
		{"", "purser", "purser", ""},
		{"user: web", "web", "web", ""},
		{"{user: web, group: www}", "web", "www", ""},
		{"group: www", "purser", "www", ""},
		{"user: nobody", "nobody", "nobody", "nogroup"},
		{"{user: nobody, group: nogroup}", "nobody", "nogroup", ""},
	} {
		t.Run(test.text, func(t *testing.T) {
			c, err := loadText(t, test.text)
			if err != nil {
				t.Fatal(err)
			}
			if c.User != test.user || c.Group != test.group || c.GroupFallback != test.fallback {
				t.Errorf("got %q, %q, %q; want %q, %q, %q", c.User, c.Group, c.GroupFallback, test.user, test.group, test.fallback)
			}
		})
	}
}

func TestDefaultListenerCanBeRemoved(t *testing.T) {
	c, err := loadText(t, `listen: {main: null, other: {address: "[::1]:0", dialects: ecs, hop_limit: 64}}`)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Listener{"other": {Address: netip.MustParseAddrPort("[::1]:0"), Dialects: []string{"ecs"}, HopLimit: 64}}
	if !reflect.DeepEqual(c.Listen, want) {
		t.Errorf("got %+v, want %+v", c.Listen, want)
	}
	_, err = loadText(t, "listen: null")
	if err == nil || !strings.HasPrefix(err.Error(), "purser.yaml:1: there is no listener") {
		t.Errorf("got %v, want an error because nobody could ask", err)
	}
}

func TestNearestName(t *testing.T) {
	known := []string{"address", "dialects", "from", "hop_limit", "hosts", "user", "log__level"}
	for _, test := range []struct{ word, want string }{
		{"adress", "address"},
		{"Address", "address"},
		{"hop-limit", "hop_limit"},
		{"hoplimit", "hop_limit"},
		{"form", "from"},
		{"host", "hosts"},
		{"usr", "user"},
		{"LOG_LEVEL", "log__level"},
		{"x", ""},
		{"", ""},
		{"certificate", ""},
		{strings.Repeat("address", 100), ""},
	} {
		if got := nearest(test.word, known); got != test.want {
			t.Errorf("nearest(%q): got %q, want %q", test.word, got, test.want)
		}
	}
}

func TestShortDurationsLoadAgain(t *testing.T) {
	for _, test := range []struct {
		d    time.Duration
		want string
	}{
		{0, "0s"},
		{10 * time.Second, "10s"},
		{10 * time.Minute, "10m"},
		{6 * time.Hour, "6h"},
		{90 * time.Minute, "1h30m"},
		{time.Hour + time.Second, "1h0m1s"},
		{20*time.Hour + 10*time.Minute + 30*time.Second, "20h10m30s"},
		{1500 * time.Millisecond, "1.5s"},
		{-time.Hour, "-1h"},
	} {
		got := short(test.d)
		if again, err := time.ParseDuration(got); got != test.want || err != nil || again != test.d {
			t.Errorf("short(%v): got %q, want %q", test.d, got, test.want)
		}
	}
}
