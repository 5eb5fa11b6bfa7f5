package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/caller"
	"github.com/purser-agent/purser/pkg/testkit"
)

// childEnv makes the test binary run as a server of its own, so that its memory and
// its limits are not those of the clients.
const childEnv = "PURSER_TEST_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		if err := serveAsChild(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serveAsChild prints its address, serves until SIGTERM and says how the stop went.
func serveAsChild() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	listeners, err := Listen(ctx, []Spec{{Name: "main", Address: loopback}}, nil)
	if err != nil {
		return err
	}
	s := New(Options{
		Resolver: &fakeResolver{},
		Handler:  answer,
		Log:      zerolog.New(os.Stderr),
		// A client that opens 10,000 connections one after the other takes a while.
		HeaderTimeout: time.Minute,
	})
	fmt.Println(listeners[0].Addr())
	serving := make(chan error, 1)
	go func() { serving <- s.Serve(listeners...) }()
	<-ctx.Done()
	bounded, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return errors.Join(s.Shutdown(bounded), <-serving)
}

// A child is a server in a process of its own.
type child struct {
	*exec.Cmd
	address string
	log     *jsonLog
}

// startChild starts a child; prefix is a command that starts another one, as prlimit.
func startChild(t *testing.T, prefix ...string) *child {
	t.Helper()
	command := append(prefix, os.Args[0])
	c := &child{Cmd: exec.Command(command[0], command[1:]...), log: new(jsonLog)}
	c.Env = append(os.Environ(), childEnv+"=1")
	c.Stderr = c.log
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if c.ProcessState == nil {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
		if t.Failed() {
			text := c.log.String()
			t.Logf("end of the child's log:\n%s", text[max(0, len(text)-4096):])
		}
	})
	c.address, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("address of the child: %v\n%s", err, c.log)
	}
	c.address = strings.TrimSpace(c.address)
	return c
}

var loopback = netip.MustParseAddrPort("127.0.0.1:0")

// A fakeResolver takes the last byte of a client's address for its user: 127.0.0.7
// is uid 1007.
type fakeResolver struct {
	calls   atomic.Int64
	unknown error // every look-up fails with it
	block   func(uid uint32)
	change  func(*caller.Origin)
}

func (f *fakeResolver) Resolve(c *net.TCPConn) (caller.Origin, error) {
	f.calls.Add(1)
	address := addrPort(c.RemoteAddr())
	raw := address.Addr().AsSlice()
	uid := 1000 + uint32(raw[len(raw)-1])
	if f.block != nil {
		f.block(uid)
	}
	o := caller.Origin{
		Identity:    caller.Identity{UID: uid, Known: true, Unit: fmt.Sprintf("client-%d.service", uid)},
		Peer:        address,
		Destination: addrPort(c.LocalAddr()),
		Local:       true,
	}
	if f.change != nil {
		f.change(&o)
	}
	return o, f.unknown
}

// answer serves a few bytes in one piece.
func answer(w http.ResponseWriter, r *http.Request, peer Peer) Access {
	h := w.Header()
	h["Content-Type"] = []string{"text/plain"}
	if peer.Refused != "" {
		w.WriteHeader(http.StatusForbidden)
		return Access{Dialect: "test", Route: "any", Status: http.StatusForbidden, Decision: "refused", Reason: peer.Refused}
	}
	_, _ = io.WriteString(w, "web")
	return Access{Dialect: "test", Route: "any", Status: http.StatusOK, Decision: "served", Credential: "web"}
}

// A fixture is a running server.
type fixture struct {
	*Server
	t        *testing.T
	listener *Listener
	log      *jsonLog
	served   chan error
}

// start serves on a loopback address and stops, without leaving a goroutine behind,
// when the test ends.
func start(t *testing.T, o Options) *fixture {
	t.Helper()
	return startOn(t, o, Spec{Name: "main", Address: loopback})
}

func startOn(t *testing.T, o Options, spec Spec) *fixture {
	t.Helper()
	checkLeaks(t)
	listeners, err := Listen(t.Context(), []Spec{spec}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, listener: listeners[0], log: new(jsonLog), served: make(chan error, 1)}
	if o.Resolver == nil {
		o.Resolver = &fakeResolver{}
	}
	if o.Handler == nil {
		o.Handler = answer
	}
	if reflect.DeepEqual(o.Log, zerolog.Logger{}) {
		o.Log = zerolog.New(f.log)
	}
	f.Server = New(o)
	go func() { f.served <- f.Serve(listeners...) }()
	t.Cleanup(func() { f.shutdown(); f.wait() })
	return f
}

// shutdown stops the server; again does nothing.
func (f *fixture) shutdown() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := f.Shutdown(ctx); err != nil {
		f.t.Errorf("Shutdown: %v", err)
	}
}

func (f *fixture) wait() {
	f.t.Helper()
	if f.served == nil {
		return
	}
	if err := <-f.served; err != nil {
		f.t.Errorf("Serve: %v", err)
	}
	f.served = nil
}

// checkLeaks fails the test if goroutines of this package outlive it.
func checkLeaks(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		var stacks string
		for range 200 {
			buf := make([]byte, 1<<20)
			stacks = string(buf[:runtime.Stack(buf, true)])
			if !strings.Contains(stacks, "net/http.(*conn).serve") && !strings.Contains(stacks, "server.(*Server)") {
				return
			}
			runtime.Gosched()
			time.Sleep(5 * time.Millisecond)
		}
		t.Errorf("goroutines outlive the server:\n%s", stacks)
	})
}

// A client is one connection.
type client struct {
	*net.TCPConn
	t *testing.T
	r *bufio.Reader
}

// dial connects as a user: 7 is uid 1007.
func (f *fixture) dial(user byte) *client {
	f.t.Helper()
	return dialTo(f.t, user, f.listener.Addr().String())
}

func dialTo(t *testing.T, user byte, address string) *client {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, user)}, KeepAlive: -1}
	conn, err := d.DialContext(t.Context(), "tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &client{TCPConn: conn.(*net.TCPConn), t: t, r: bufio.NewReader(conn)}
}

const get = "GET /latest HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n"

// send writes raw bytes. The server may have closed already.
func (c *client) send(text string) *client {
	_, _ = io.WriteString(c, text)
	return c
}

// receive reads one answer and returns its status, or 0 if the connection closed.
func (c *client) receive() (status int, header http.Header, body string) {
	c.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	r, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.noTimeout(err)
		return 0, nil, ""
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		c.noTimeout(err)
	}
	if r.Close {
		r.Header.Set("Connection", "close") // ReadResponse takes it out
	}
	return r.StatusCode, r.Header, string(text)
}

// get asks once and wants an answer.
func (c *client) get() {
	c.t.Helper()
	if status, _, _ := c.send(get).receive(); status != http.StatusOK {
		c.t.Errorf("status %d, want 200", status)
	}
}

// wantClosed waits until the server closes the connection without another answer.
func (c *client) wantClosed() {
	c.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	rest, err := io.ReadAll(c.r)
	c.noTimeout(err)
	if len(rest) > 0 {
		c.t.Errorf("received %q, want the connection closed", rest)
	}
}

func (c *client) noTimeout(err error) {
	c.t.Helper()
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		c.t.Errorf("the connection stayed open: %v", err)
	}
}

// A jsonLog is a log whose lines are objects with a message.
type jsonLog struct{ testkit.Log }

// lines returns those with a message.
func (l *jsonLog) lines(t *testing.T, message string) []map[string]any {
	t.Helper()
	var found []map[string]any
	for text := range strings.Lines(l.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(text), &entry); err != nil {
			t.Fatalf("log line %q: %v", text, err)
		}
		if entry["message"] == message {
			found = append(found, entry)
		}
	}
	return found
}

// eventually waits for something that another goroutine does.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
