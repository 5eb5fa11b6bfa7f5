package telemetry

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// startServer serves on loopback until the test ends.
func startServer(t *testing.T, o Options) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		if err := New(o).Serve(t.Context(), l); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(served.Wait)
	return l.Addr().String()
}

// open connects and says something. The connection stays until the test ends.
func open(t *testing.T, address, say string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, say); err != nil {
		t.Fatal(err)
	}
	return conn
}

// ask sends a request on a new connection and fails if no answer comes soon.
func ask(t *testing.T, address, path string) {
	t.Helper()
	conn := open(t, address, requestOf(path))
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	answer(t, conn, http.StatusOK)
}

func requestOf(path string) string {
	return fmt.Sprintf("GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path)
}

func answer(t *testing.T, conn net.Conn, want int) {
	t.Helper()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	if response.StatusCode != want {
		t.Fatalf("got %d, want %d", response.StatusCode, want)
	}
}

func TestConnectionsAtRestKeepNobodyOut(t *testing.T) {
	for _, test := range []struct {
		name, say string
		answered  bool
	}{
		{"silent from the start", "", false},
		{"half a header", "GET /readyz HTTP/1.1\r\nHost:", false},
		{"idle after an answer", requestOf("/readyz"), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			address := startServer(t, options(t))
			var first net.Conn
			for i := range maxConnections + 1 {
				conn := open(t, address, test.say)
				if test.answered {
					answer(t, conn, http.StatusOK)
				}
				if i == 0 {
					first = conn
				}
			}
			for _, path := range []string{"/readyz", "/healthz", "/metrics"} {
				ask(t, address, path)
			}
			if n, err := first.Read(make([]byte, 1)); err == nil {
				t.Errorf("the connection that was at rest longest got %d bytes, want it closed", n)
			}
		})
	}
}

func TestAnAnswerUnderWayOutlivesConnectionsAtRest(t *testing.T) {
	o, begun, release := holding(t)
	address := startServer(t, o)
	waiting := open(t, address, requestOf("/readyz"))
	<-begun
	for range 2 * maxConnections {
		open(t, address, "")
	}
	ask(t, address, "/healthz")
	close(release)
	answer(t, waiting, http.StatusOK)
}

func TestSlowAnswersKeepNobodyOut(t *testing.T) {
	o, begun, release := holding(t)
	defer close(release)
	address := startServer(t, o)
	for range maxConnections {
		open(t, address, requestOf("/readyz"))
		<-begun
	}
	ask(t, address, "/healthz")
}

// holding are options with which answers of /readyz begin and then wait.
func holding(t *testing.T) (o Options, begun, release chan struct{}) {
	o, begun, release = options(t), make(chan struct{}), make(chan struct{})
	o.Ready = func() (bool, []string) {
		begun <- struct{}{}
		<-release
		return true, nil
	}
	return o, begun, release
}
