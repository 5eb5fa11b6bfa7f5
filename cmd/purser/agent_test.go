package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/caller"
	"github.com/purser-agent/purser/pkg/config"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/mock"
	"github.com/purser-agent/purser/pkg/server"
	"github.com/purser-agent/purser/pkg/status"
	"github.com/purser-agent/purser/pkg/testkit"
)

// A running is an agent on loopback whose configuration is a file of the test.
type running struct {
	t     *testing.T
	agent *agent
	file  string
	url   string
	life  context.Context
	stop  func() // and wait
}

// startIMS starts a stand-in for an upstream with these roles.
func startIMS(t *testing.T, roles ...string) (*mock.IMS, string) {
	t.Helper()
	var granted []mock.Role
	for _, role := range roles {
		granted = append(granted, mock.Role{Name: role})
	}
	ims := mock.NewIMS(mock.IMSOptions{Roles: granted})
	return ims, ims.URL(testkit.Serve(t, ims).URL)
}

// startAgent starts an agent with a configuration, to which listeners on free ports and a
// socket are added. It is prepared before it runs.
func startAgent(t *testing.T, text string, prepare ...func(*agent)) *running {
	t.Helper()
	return startAgentThatLogs(t, text, zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.InfoLevel), prepare...)
}

func startAgentThatLogs(t *testing.T, text string, log zerolog.Logger, prepare ...func(*agent)) *running {
	t.Helper()
	folder := t.TempDir()
	r := &running{t: t, file: filepath.Join(folder, "purser.yaml")}
	r.write(text)
	load := func() (*config.Config, error) {
		c, err := config.Load(configOptions([]string{r.file}, nil))
		if err == nil {
			c.Admin.Socket = filepath.Join(folder, "purser.sock")
		}
		return c, err
	}
	c, err := load()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := loadKeys(folder, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	listeners, err := server.Listen(t.Context(), specs(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	resolver, err := caller.New()
	if err != nil {
		t.Fatal(err)
	}
	admin, err := net.Listen("unix", c.Admin.Socket) // status.Listen sets the umask, which agents side by side share
	if err != nil {
		t.Fatal(err)
	}
	if r.agent, err = newAgent(c, log, keys, listeners, resolver, programs); err != nil {
		t.Fatal(err)
	}
	for _, change := range prepare {
		change(r.agent)
	}
	var ended sync.WaitGroup
	life, stop := context.WithCancel(context.Background())
	r.life = life
	ended.Go(func() {
		if err := r.agent.run(life, &bound{starter: uint32(os.Geteuid()), listeners: listeners, admin: admin}, nil, load); err != nil {
			t.Error(err)
		}
	})
	r.stop = func() { stop(); ended.Wait() }
	t.Cleanup(r.stop)
	r.url = "http://" + listeners[0].Addr().String()
	return r
}

func (r *running) write(text string) {
	r.t.Helper()
	text = "listen: {main: {address: \"127.0.0.1:0\"}}\ntelemetry: {listen: null}\naws: {imds_v1: true}\n" + text
	if err := os.WriteFile(r.file, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) waitReady() {
	r.t.Helper()
	select {
	case <-r.agent.ready.Reached():
	case <-time.After(10 * time.Second):
		r.t.Fatalf("not ready: %v", r.agent.missing())
	}
}

// reload is what the command of that name does.
func (r *running) reload() error {
	return r.client().Reload(r.t.Context())
}

// change replaces the configuration, which must work.
func (r *running) change(text string) {
	r.t.Helper()
	r.write(text)
	if err := r.reload(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) client() *status.Client {
	return status.NewClient(filepath.Join(filepath.Dir(r.file), "purser.sock"))
}

// get asks the front end for a role, or for the list if there is none.
func (r *running) get(role string) (int, string) {
	r.t.Helper()
	answer, err := http.Get(r.url + "/latest/meta-data/iam/security-credentials/" + role)
	if err != nil {
		r.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

// keysOf is the document of a role that is in stock.
func (r *running) keysOf(role string) string {
	r.t.Helper()
	code, body := r.get(role)
	if code != http.StatusOK || !strings.Contains(body, `"Code" : "Success"`) {
		r.t.Fatalf("role %s: got %d %s", role, code, body)
	}
	return body
}

func fromIMS(url string) string {
	return fmt.Sprintf("upstreams: {dc: {kind: ims, url: %q}}\ngrants: {everyone: {credentials: ['*']}}\n", url)
}

func TestTheLineFromUpstreamToFrontEnd(t *testing.T) {
	_, url := startIMS(t, "web", "db")
	r := startAgent(t, fromIMS(url))
	r.waitReady()
	if _, list := r.get(""); list != "db" {
		t.Errorf("got the list %q, want the first name only", list)
	}
	for _, role := range []string{"web", "db"} {
		if !strings.Contains(r.keysOf(role), mock.Marker) {
			t.Errorf("role %s: these are not the upstream's keys", role)
		}
	}
	if code, _ := r.get("ghost"); code != http.StatusNotFound {
		t.Errorf("got %d for a role that does not exist", code)
	}
}

func TestPromise8AReloadThatCannotWorkChangesNothing(t *testing.T) {
	ims, url := startIMS(t, "web")
	down, downURL := startIMS(t, "other")
	down.SetFaults(mock.Fault{Kind: mock.Status, Status: 503})
	_, emptyURL := startIMS(t, "other")
	good := fromIMS(url)
	r := startAgent(t, good)
	r.waitReady()
	before := r.keysOf("web")
	for _, c := range []struct{ name, text, want string }{
		{"a typo", strings.Replace(good, "grants", "grant", 1), `unknown key "grant"`},
		{"an upstream that is down", strings.Replace(good, "dc: {", fmt.Sprintf("new: {kind: ims, url: %q}, dc: {", downURL), 1), `upstream "new"`},
		{"the same upstream, changed and down", fromIMS(downURL), `upstream "dc"`},
		{"a listener", good + "connections: {most: 1000}\n", "connections needs a restart"},
		{"an upstream that is down and not required", strings.Replace(good, "dc: {", fmt.Sprintf("new: {kind: ims, required: false, url: %q}, dc: {", downURL), 1), `upstream "new"`},
		{"a user", good + "user: root\n", "user, group need a restart"},
		{"two upstreams that declare one name", fmt.Sprintf("upstreams: {a: {kind: ims, url: %q, roles: {x: {}}}, b: {kind: ims, url: %q, roles: {x: {}}}}\n", emptyURL, emptyURL), `both declare the credential "x"`},
		{"a file that cannot be read", fmt.Sprintf("upstreams: {dc: {kind: ims, url: %q, tls: {ca: /does/not/exist}}}\n", strings.Replace(url, "http:", "https:", 1)), "/does/not/exist"},
	} {
		r.write(c.text)
		if err := r.reload(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want %s", c.name, err, c.want)
		}
		if r.keysOf("web") != before {
			t.Errorf("%s: the credential changed", c.name)
		}
		report, err := r.client().Status(t.Context())
		if err != nil || report.Reload == nil || !strings.Contains(report.Reload.Error, c.want) {
			t.Errorf("%s: status does not show the refusal: %+v, %v", c.name, report.Reload, err)
		}
	}
	ims.ResetRequests()
	if err := r.client().Refresh(t.Context(), "web"); err != nil {
		t.Errorf("the old upstream is not asked any more: %v", err)
	}
	r.write(good)
	if err := r.reload(); err != nil {
		t.Errorf("what runs already was refused: %v", err)
	}
}

func TestReloadTakesOverUpstreamsGrantsAndDialects(t *testing.T) {
	_, url := startIMS(t, "web")
	_, second := startIMS(t, "db")
	r := startAgent(t, fromIMS(url))
	r.waitReady()
	before := r.keysOf("web")

	r.change(fmt.Sprintf("upstreams: {dc: {kind: ims, url: %q}, second: {kind: ims, url: %q}}\ngrants: {everyone: {credentials: [db, web]}}\n", url, second))
	r.keysOf("db")
	if r.keysOf("web") != before {
		t.Error("an upstream that did not change lost its stock")
	}

	r.change(fmt.Sprintf("upstreams: {second: {kind: ims, url: %q}}\ngrants: {everyone: {credentials: ['*']}}\n", second))
	if code, _ := r.get("web"); code != http.StatusNotFound {
		t.Errorf("got %d for what a removed upstream gave", code)
	}
	r.keysOf("db")

	r.change(fmt.Sprintf("upstreams: {second: {kind: ims, url: %q}}\n", second))
	if code, _ := r.get("db"); code != http.StatusNotFound {
		t.Errorf("got %d without any grant", code)
	}
}

func TestPromise5AReloadClosesADoorOnOpenConnections(t *testing.T) {
	_, url := startIMS(t, "web")
	r := startAgent(t, fromIMS(url))
	r.waitReady()
	r.keysOf("web") // http.DefaultClient keeps the connection
	r.change(fmt.Sprintf("upstreams: {dc: {kind: ims, url: %q}}\n", url))
	if code, _ := r.get("web"); code != http.StatusNotFound {
		t.Errorf("got %d on a connection from before", code)
	}
}

func TestReloadsDoNotDisturbReaders(t *testing.T) {
	_, url := startIMS(t, "web")
	_, other := startIMS(t, "web")
	r := startAgent(t, fromIMS(url))
	r.waitReady()
	testkit.LookWhile(t, func() error {
		if code, body := r.get("web"); code != http.StatusOK || !strings.Contains(body, "Success") {
			return fmt.Errorf("got %d %s during a reload", code, body)
		}
		return nil
	}, func() {
		for i := range 20 {
			r.change(fromIMS([]string{url, other}[i%2]))
		}
	})
}

func TestAListedNameOutlivesADeclaredOneThatCameAndWent(t *testing.T) {
	_, url := startIMS(t, "pub")
	_, other := startIMS(t, "pub")
	listed := fmt.Sprintf("upstreams: {listed: {kind: ims, url: %q}%%s}\ngrants: {everyone: {credentials: ['*']}}\n", url)
	r := startAgent(t, fmt.Sprintf(listed, ""))
	r.waitReady()
	for _, also := range []string{fmt.Sprintf(", declared: {kind: ims, url: %q, roles: {pub: {}}}", other), ""} {
		r.change(fmt.Sprintf(listed, also))
	}
	if err := r.client().Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.keysOf("pub")
}

func TestPromise5NothingNewIsServedUnderOldGrants(t *testing.T) {
	_, url := startIMS(t, "pub")
	_, secret := startIMS(t, "payroll")
	before := fromIMS(url)
	after := fmt.Sprintf("upstreams: {dc: {kind: ims, url: %q}, pay: {kind: ims, url: %q}}\ngrants: {everyone: {credentials: [pub]}}\n", url, secret)
	r := startAgent(t, before)
	r.waitReady()
	testkit.LookWhile(t, func() error {
		if code, _ := r.get("payroll"); code != http.StatusNotFound {
			return fmt.Errorf("got %d for what no grant gives", code)
		}
		return nil
	}, func() {
		for i := range 30 {
			r.change([]string{after, before}[i%2])
		}
	})
}

func TestWaitIsNotOverBeforeAnythingIsKnown(t *testing.T) {
	ims, url := startIMS(t, "web")
	ims.SetFaults(mock.Fault{Kind: mock.Hang})
	r := startAgent(t, strings.Replace(fromIMS(url), "kind: ims", "kind: ims, timeouts: {header: 1s}", 1))
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	for _, visible := range []func(string) bool{
		func(string) bool { return true },  // an administrator
		func(string) bool { return false }, // somebody whose grants show nothing yet
	} {
		for _, names := range [][]string{nil, {"web"}} {
			missing, err := r.agent.wait(short, names, visible)
			if len(missing) == 0 || err != nil {
				t.Errorf("waiting for %q: got %q, %v while the upstream hangs", names, missing, err)
			}
		}
	}
	ims.SetFaults()
	if err := r.client().Refresh(t.Context()); err != nil {
		t.Log(err) // the attempt that hung may be the one that was joined
	}
	r.waitReady()
	for _, c := range []struct {
		name    string
		visible bool
		want    error
	}{{"web", true, nil}, {"web", false, credential.ErrNotFound}, {"wbe", true, credential.ErrNotFound}} {
		if _, err := r.agent.wait(t.Context(), []string{c.name}, func(string) bool { return c.visible }); !errors.Is(err, c.want) {
			t.Errorf("%s, visible %v: got %v, want %v", c.name, c.visible, err, c.want)
		}
	}
}
