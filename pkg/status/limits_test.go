package status

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// pipes is a listener inside a synctest bubble, where sockets would stop the clock.
type pipes struct {
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.accept:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// dial connects as an administrator or as somebody else.
func (p *pipes) dial(admin bool) net.Conn {
	ours, theirs := net.Pipe()
	p.accept <- &gateConn{Conn: theirs, peer: peer{uid: stranger}, admin: admin, leave: func() {}}
	return ours
}

// inBubble runs test with an Admin that serves pipes on simulated time.
func inBubble(t *testing.T, admin *Admin, test func(t *testing.T, dial func(admin bool) net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		admin.Log = zerolog.New(t.Output())
		p := &pipes{accept: make(chan net.Conn), closed: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		var served sync.WaitGroup
		served.Go(func() {
			if err := admin.serve(ctx, p); err != nil {
				t.Error(err)
			}
		})
		test(t, p.dial)
		cancel()
		served.Wait()
	})
}

// endsAfter reads conn to its end and reports how long that took.
func endsAfter(conn net.Conn) time.Duration {
	begun := time.Now()
	_, _ = io.Copy(io.Discard, conn)
	return time.Since(begun)
}

func TestConnectionsThatSayNothingAreClosed(t *testing.T) {
	for _, test := range []struct {
		name, sent string
	}{
		{"silent from the start", ""},
		{"half a header", "GET /v1/status HTTP/1.1\r\nHost:"},
		{"half a body", "POST /v1/reload HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nxx"},
		{"silent after an answer", "GET /none HTTP/1.1\r\nHost: a\r\n\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, &Admin{}, func(t *testing.T, dial func(bool) net.Conn) {
				conn := dial(false)
				defer conn.Close()
				if test.sent != "" {
					_, _ = io.WriteString(conn, test.sent)
				}
				if got := endsAfter(conn); got > adminRead+time.Second {
					t.Errorf("closed after %v, want %v", got, adminRead)
				}
			})
		})
	}
}

func TestWaitMayTakeLongerThanReadingARequest(t *testing.T) {
	var polled time.Duration
	admin := &Admin{Wait: func(ctx context.Context, _ []string, _ func(string) bool) ([]string, error) {
		begun := time.Now()
		<-ctx.Done()
		polled = time.Since(begun)
		return []string{"a"}, nil
	}}
	inBubble(t, admin, func(t *testing.T, dial func(bool) net.Conn) {
		conn := dial(true)
		defer conn.Close()
		fmt.Fprint(conn, "GET /v1/wait?seconds=3600 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		if got, want := string(body), `{"missing":["a"]}`+"\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if polled != longPoll {
			t.Errorf("the request waited %v, want %v", polled, longPoll)
		}
	})
}

func TestRefreshThatHangsIsGivenUp(t *testing.T) {
	admin := &Admin{Refresh: func(ctx context.Context, _ []string) error {
		<-ctx.Done()
		return ctx.Err()
	}}
	inBubble(t, admin, func(t *testing.T, dial func(bool) net.Conn) {
		conn := dial(true)
		defer conn.Close()
		begun := time.Now()
		fmt.Fprint(conn, "POST /v1/refresh HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); response.StatusCode != http.StatusGatewayTimeout || took != commandLimit {
			t.Errorf("status %d after %v, want 504 after %v", response.StatusCode, took, commandLimit)
		}
	})
}

func TestReadersThatDoNotReadKeepNoPlace(t *testing.T) {
	admin := &Admin{
		Status: func(context.Context) Report {
			return Report{Credentials: []Credential{{Name: strings.Repeat("a", 1<<20)}}}
		},
		View: func(uint32, int32) func(string) bool { return func(string) bool { return true } },
	}
	inBubble(t, admin, func(t *testing.T, dial func(bool) net.Conn) {
		const request = "GET /v1/status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
		for range limitedReports {
			conn := dial(false)
			defer conn.Close()
			fmt.Fprint(conn, request)
		}
		synctest.Wait()
		for _, test := range []struct {
			name  string
			pause time.Duration
			admin bool
			want  int
		}{
			{"an administrator has a place anyway", 0, true, 200},
			{"others get none while they are taken", 0, false, 429},
			{"and one after a while", statusLimit, false, 200},
		} {
			time.Sleep(test.pause)
			conn := dial(test.admin)
			fmt.Fprint(conn, request)
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, response.Body)
			conn.Close()
			if response.StatusCode != test.want {
				t.Errorf("%s: got %d, want %d", test.name, response.StatusCode, test.want)
			}
		}
	})
}
