package status

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/testkit"
)

func TestAdministratorsMayDoEverything(t *testing.T) {
	many := []uint32{stranger}
	for i := range uint32(200) { // more than fit the first buffer
		many = append(many, 60000+i)
	}
	for _, test := range []struct {
		name   string
		client func(t *testing.T, socket string) *Client
	}{
		{"the account that runs Purser", func(_ *testing.T, socket string) *Client { return NewClient(socket) }},
		{"a member by effective group", func(t *testing.T, socket string) *Client {
			return clientAs(t, socket, stranger, operators)
		}},
		{"a member by supplementary group", func(t *testing.T, socket string) *Client {
			return clientAs(t, socket, stranger, stranger, 4, operators)
		}},
		{"a member of many groups", func(t *testing.T, socket string) *Client {
			return clientAs(t, socket, stranger, append(many, operators)...)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := startAgent(t)
			client := test.client(t, a.socket)
			report, err := client.Status(t.Context())
			if err != nil || report.Limited || len(report.Credentials) != 2 || report.Credentials[1].Upstream != "up" {
				t.Errorf("status: %+v, %v, want all of it", report, err)
			}
			if err := client.Refresh(t.Context(), "a", "b"); err != nil {
				t.Error(err)
			}
			if err := client.Refresh(t.Context()); err != nil {
				t.Error(err)
			}
			if err := client.Reload(t.Context()); err != nil {
				t.Error(err)
			}
			if err := client.Wait(t.Context(), nil, "b"); err != nil {
				t.Error(err)
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			if want := [][]string{{"a", "b"}, nil}; len(a.refreshed) != 2 || !slices.Equal(a.refreshed[0], want[0]) || len(a.refreshed[1]) != 0 {
				t.Errorf("refreshed %q, want %q", a.refreshed, want)
			}
			if a.reloads != 1 {
				t.Errorf("%d reloads, want 1", a.reloads)
			}
		})
	}
}

func TestAdministratorsAreRootTheOwnerAndMembersOfTheGroup(t *testing.T) {
	const owner = stranger + 1
	for _, test := range []struct {
		name  string
		owner uint32
		peer  peer
		want  bool
	}{
		{"root", owner, peer{uid: 0}, true},
		{"the account that started Purser", owner, peer{uid: owner}, true},
		{"the same account if root started Purser", 0, peer{uid: owner}, false},
		{"a member of the group", 0, peer{uid: stranger, groups: []uint32{stranger, operators}}, true},
		{"a member of other groups", owner, peer{uid: stranger, groups: []uint32{0, owner, stranger}}, false},
	} {
		admin := &Admin{Owner: test.owner, Groups: []uint32{operators}}
		if got := admin.isAdmin(test.peer); got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

func TestOthersSeeTheirOwnAndChangeNothing(t *testing.T) {
	a := startAgent(t)
	client := clientAs(t, a.socket, stranger, stranger, 4, 20)
	report, err := client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !report.Limited || len(report.Credentials) != 1 || report.Credentials[0] != (Credential{Name: "a", State: Fresh}) {
		t.Errorf("status = %+v, want limited to a", report)
	}
	for name, call := range map[string]func() error{
		"refresh": func() error { return client.Refresh(t.Context(), "a") },
		"reload":  func() error { return client.Reload(t.Context()) },
	} {
		want := "permission denied: root and members of the group operators (admin.group) may " + name
		if err := call(); !errors.Is(err, ErrDenied) || err.Error() != want {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
	if a.reloads != 0 || a.refreshed != nil {
		t.Errorf("%d reloads, refreshed %q, want none", a.reloads, a.refreshed)
	}
	if err := client.Wait(t.Context(), nil, "a"); err != nil {
		t.Errorf("wait for a: %v", err)
	}
	for _, name := range []string{"b", "no-such", ""} {
		want := fmt.Sprintf("%q: no such credential", name)
		if err := client.Wait(t.Context(), nil, name); !errors.Is(err, credential.ErrNotFound) || err.Error() != want {
			t.Errorf("wait for %q: got %v, want %s", name, err, want)
		}
	}
	a.set("b")
	if err := client.Wait(t.Context(), nil); err != nil {
		t.Errorf("wait while only b is missing: %v", err)
	}
}

func TestWaitReturnsWhenTheCredentialIsThere(t *testing.T) {
	a := startAgent(t)
	a.set("b")
	var seen []string
	progress := func(missing []string) {
		seen = missing
		a.set()
	}
	if err := NewClient(a.socket).Wait(t.Context(), progress, "b"); err != nil {
		t.Fatal(err)
	}
	if want := []string{"b"}; !slices.Equal(seen, want) {
		t.Errorf("progress was told %q, want %q", seen, want)
	}
}

func TestWaitTellsAtOnceWhatIsMissing(t *testing.T) {
	a := startAgent(t)
	a.set("b")
	begun := time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	err := NewClient(a.socket).Wait(ctx, func([]string) { cancel() }, "b")
	if took := time.Since(begun); err == nil || took >= progressEvery {
		t.Errorf("progress was told after %v, %v", took, err)
	}
}

func TestWaitEndsWithItsClient(t *testing.T) {
	a := startAgent(t)
	a.set("b")
	gone := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	failed := make(chan error, 1)
	go func() { failed <- NewClient(a.socket).Wait(ctx, nil, "b") }()
	<-a.waiting
	cancel(gone)
	if err := <-failed; !errors.Is(err, gone) {
		t.Errorf("got %v, want %v", err, gone)
	}
	<-a.waiting // the server noticed
}

func TestStopEndsWaitsAndRemovesTheSocket(t *testing.T) {
	a := startAgent(t)
	a.set("b")
	failed := make(chan error, 1)
	go func() { failed <- NewClient(a.socket).Wait(t.Context(), nil, "b") }()
	<-a.waiting
	silent, err := net.Dial("unix", a.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	a.stop()
	if err := <-failed; !errors.Is(err, ErrNotRunning) {
		t.Errorf("wait: got %v, want %v", err, ErrNotRunning)
	}
	if _, err := silent.Read(make([]byte, 1)); err == nil {
		t.Error("a silent connection is still open")
	}
	if err := <-a.served; err != nil {
		t.Errorf("Serve returned %v, want nil", err)
	}
	a.served <- nil
	if _, err := os.Lstat(a.socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestErrorsOfCommandsReachThePersonCleanAndWhole(t *testing.T) {
	a := startAgent(t)
	a.problem = errors.New("conf.d/60.yaml:3: unknown key \"lisen\"\nconf.d/60.yaml:4: \x1b[31mwrong type")
	client := NewClient(a.socket)
	want := "conf.d/60.yaml:3: unknown key \"lisen\"\nconf.d/60.yaml:4: \\x1b[31mwrong type"
	if err := client.Reload(t.Context()); err == nil || err.Error() != want {
		t.Errorf("reload: got %v, want %s", err, want)
	}
	if err := client.Refresh(t.Context(), "nobody"); !errors.Is(err, credential.ErrNotFound) {
		t.Errorf("refresh: got %v, want %v", err, credential.ErrNotFound)
	}
}

func TestReloadOutlivesItsClientButNotTheServer(t *testing.T) {
	begun, left, checked, ended := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
	admin := &Admin{Owner: uint32(os.Geteuid()), Log: zerolog.New(t.Output()), Reload: func(ctx context.Context) error {
		close(begun)
		<-left
		if err := ctx.Err(); err != nil {
			t.Errorf("the reload's context when the client was gone: %v, want nil", err)
		}
		close(checked)
		<-ctx.Done()
		close(ended)
		return nil
	}}
	socket := filepath.Join(folder(t), "s")
	l, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	serving, stop := context.WithCancel(t.Context())
	var served sync.WaitGroup
	served.Go(func() { _ = admin.Serve(serving, l) })
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() { failed <- NewClient(socket).Reload(ctx) }()
	<-begun
	cancel()
	<-failed
	close(left)
	<-checked
	stop()
	served.Wait()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the reload goes on after the server has stopped")
	}
}

func TestOneUserCannotKeepOthersOut(t *testing.T) {
	testkit.NeedRoot(t)
	a := startAgent(t)
	var open []net.Conn
	for range maxPerUser {
		conn, err := dialAs(a.socket, stranger, stranger)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		open = append(open, conn)
	}
	greedy, other := clientAs(t, a.socket, stranger, stranger), clientAs(t, a.socket, stranger+1, stranger)
	if _, err := greedy.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("connection %d of one user: got %v, want it closed", maxPerUser+1, err)
	}
	for name, client := range map[string]*Client{"another user": other, "root": NewClient(a.socket)} {
		if _, err := client.Status(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, conn := range open {
		fmt.Fprint(conn, "GET /v1/status HTTP/1.0\r\n\r\n")
		_, _ = io.Copy(io.Discard, conn)
	}
	if _, err := greedy.Status(t.Context()); err != nil {
		t.Errorf("after the others were closed: %v", err)
	}
}

func TestAdminSocketAnswersGarbageWithErrors(t *testing.T) {
	a := startAgent(t)
	for _, test := range []struct {
		name, request string
		want          int
	}{
		{"unknown command", "GET /v2/status HTTP/1.0\r\n\r\n", 404},
		{"wrong method", "POST /v1/status HTTP/1.0\r\n\r\n", 405},
		{"reload by a link", "GET /v1/reload HTTP/1.0\r\n\r\n", 405},
		{"no HTTP", "\x00\x01\x02\r\n\r\n", 400},
		{"huge header", "GET /v1/status HTTP/1.0\r\nA: " + strings.Repeat("x", 2*maxAdminHeader) + "\r\n\r\n", 431},
		{"endless poll", "GET /v1/wait?seconds=99999999999999999999 HTTP/1.0\r\n\r\n", 200},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn, err := net.Dial("unix", a.socket)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, test.request)
			answer, _ := io.ReadAll(conn)
			var code int
			if _, err := fmt.Sscanf(string(answer), "HTTP/1.%d %d", new(int), &code); err != nil || code != test.want {
				t.Errorf("got %.60q, want status %d", answer, test.want)
			}
		})
	}
	if a.reloads != 0 {
		t.Error("a GET reloaded")
	}
}

func TestPollTimeIsBounded(t *testing.T) {
	for query, want := range map[string]time.Duration{
		"":              longPoll,
		"seconds=2":     2 * time.Second,
		"seconds=0":     0,
		"seconds=-1":    longPoll,
		"seconds=60000": longPoll,
		"seconds=1e9":   longPoll,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://purser/v1/wait?"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := pollTime(r); got != want {
			t.Errorf("%q: got %v, want %v", query, got, want)
		}
	}
}
