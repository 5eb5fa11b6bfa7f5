package upstream

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// confidential stands for what an upstream sends and nobody may print.
const confidential = "CONFIDENTIAL0123456789"

// quick are options with time-outs that a test can wait for.
func quick() Options {
	o := Defaults()
	o.Timeouts = Timeouts{Dial: time.Second, TLS: time.Second, Header: time.Second, Total: 5 * time.Second}
	return o
}

func newClient(t *testing.T, o Options) *Client {
	t.Helper()
	client, err := NewClient(o, zerolog.New(t.Output()))
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func get(t *testing.T, c *Client, url string) (*Answer, *Error) {
	t.Helper()
	answer, err := c.Get(t.Context(), url)
	if err == nil {
		err = answer.Check()
	}
	if err == nil {
		return answer, nil
	}
	fault, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("the error is a %T, want *Error: %v", err, err)
	}
	if strings.Contains(fault.Error(), confidential) {
		t.Errorf("the error quotes the answer: %v", fault)
	}
	if strings.ContainsAny(fault.Error(), "\n\r") {
		t.Errorf("the error has more than one line: %q", fault)
	}
	return nil, fault
}

// raw serves connections that a handler of net/http could not make go wrong.
func raw(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return "http://" + listener.Addr().String() + "/latest"
}

// readRequest reads until the empty line.
func readRequest(conn net.Conn) {
	buffer := make([]byte, 64<<10)
	for n := 0; !bytes.Contains(buffer[:n], []byte("\r\n\r\n")); {
		m, err := conn.Read(buffer[n:])
		if err != nil {
			return
		}
		n += m
	}
}

func saying(text string) func(net.Conn) {
	return func(conn net.Conn) {
		readRequest(conn)
		_, _ = io.WriteString(conn, text)
	}
}

func TestGetReturnsTheWholeAnswer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s", r.Method, r.RequestURI, r.UserAgent())
	}))
	defer server.Close()
	answer, fault := get(t, newClient(t, quick()), server.URL+"/a%2Fb?x=1")
	if fault != nil {
		t.Fatal(fault)
	}
	if got, want := string(answer.Body), "GET /a%2Fb?x=1 purser"; got != want {
		t.Errorf("the server got %q, want %q", got, want)
	}
}

func TestFaultsOfTheConnectionHaveTheirClass(t *testing.T) {
	closed := raw(t, func(net.Conn) {})
	for _, test := range []struct {
		name  string
		serve func(net.Conn)
		class Class
		text  string
	}{
		{"closed at once", func(net.Conn) {}, ClassTransport, ""},
		{"closed after the request", readRequest, ClassTransport, "closed without an answer"},
		{"reset", func(conn net.Conn) { readRequest(conn); _ = conn.(*net.TCPConn).SetLinger(0) }, ClassTransport, "reset"},
		{"silent", func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }, ClassTimeout, "no answer within 1s (timeouts.header)"},
		{"not HTTP", saying("220 " + confidential + "\r\n"), ClassMalformed, "not valid HTTP"},
		{"broken header", saying("HTTP/1.1 200 OK\r\n" + confidential + "\r\n\r\n"), ClassMalformed, "not valid HTTP"},
		{"broken status", saying("HTTP/1.1 " + confidential + "\r\n\r\n"), ClassMalformed, "not valid HTTP"},
		{"broken chunk", saying("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + confidential + "\r\n"), ClassMalformed, "not valid HTTP"},
		{"huge header", saying("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 80<<10) + "\r\n\r\n"), ClassTooLarge, "header"},
		{"truncated", saying("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + confidential), ClassTransport, "ends early"},
		{"huge by its header", saying("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"), ClassTooLarge, "1048576"},
		{"huge without a length", saying("HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("x", MaxAnswer+1)), ClassTooLarge, "1048576"},
		{"odd reason phrase", saying("HTTP/1.1 500 " + confidential + "\r\nContent-Length: 0\r\n\r\n"), ClassServer, "500 Internal Server Error"},
		{"unknown status", saying("HTTP/1.1 777 " + confidential + "\r\nContent-Length: 0\r\n\r\n"), ClassServer, "answered 777"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, fault := get(t, newClient(t, quick()), raw(t, test.serve))
			if fault == nil {
				t.Fatal("no error")
			}
			if fault.Kind != test.class || !strings.Contains(fault.Error(), test.text) {
				t.Errorf("got %s: %v, want %s: ...%s...", fault.Kind, fault, test.class, test.text)
			}
			if !strings.HasPrefix(fault.Error(), "GET http://127.0.0.1:") {
				t.Errorf("%q does not say what was tried", fault)
			}
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		_, fault := get(t, newClient(t, quick()), strings.Replace(closed, "127.0.0.1", "127.0.0.9", 1))
		if fault == nil || fault.Kind != ClassTransport || !strings.Contains(fault.Error(), "refused") {
			t.Errorf("got %v, want a refused connection", fault)
		}
	})
	t.Run("no such host", func(t *testing.T) {
		_, fault := get(t, newClient(t, quick()), "http://host.invalid/")
		if fault == nil || fault.Kind != ClassTransport && fault.Kind != ClassTimeout {
			t.Errorf("got %v, want a failed look-up", fault)
		}
	})
}

func TestAnAnswerThatTricklesEndsAtTheTotalTimeout(t *testing.T) {
	o := quick()
	o.Timeouts.Total = 300 * time.Millisecond
	address := raw(t, func(conn net.Conn) {
		readRequest(conn)
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		for {
			if _, err := io.WriteString(conn, "x"); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	start := time.Now()
	_, fault := get(t, newClient(t, o), address)
	if fault == nil || fault.Kind != ClassTimeout || !strings.Contains(fault.Error(), "no whole answer after 300ms") {
		t.Errorf("got %v, want a time-out", fault)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestACallerThatGivesUpIsNoFaultOfTheUpstream(t *testing.T) {
	address := raw(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err := newClient(t, quick()).Get(ctx, address)
	fault, _ := errors.AsType[*Error](err)
	if fault == nil || fault.Kind != ClassCanceled || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the class canceled", err)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var followed atomic.Bool
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Store(true) }))
	defer elsewhere.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		server := httptest.NewServer(http.RedirectHandler(elsewhere.URL+"/path?token="+confidential, status))
		_, fault := get(t, newClient(t, quick()), server.URL)
		server.Close()
		if fault == nil || fault.Kind != ClassRedirect || !fault.Permanent() {
			t.Fatalf("%d: got %v, want a permanent error", status, fault)
		}
		if want := fmt.Sprintf("leads to %q", elsewhere.URL); !strings.Contains(fault.Error(), want) {
			t.Errorf("%d: %q does not say that it %s", status, fault, want)
		}
	}
	if followed.Load() {
		t.Error("a redirect was followed")
	}
}

func TestCompressedAnswersAreNotUnpacked(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := z.Write(make([]byte, 4*MaxAnswer)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Accept-Encoding"); got != "" {
			t.Errorf("Accept-Encoding is %q", got)
		}
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb.Bytes())
	}))
	defer server.Close()
	_, fault := get(t, newClient(t, quick()), server.URL)
	if fault == nil || fault.Kind != ClassMalformed {
		t.Errorf("got %v, want a malformed answer", fault)
	}
}

func TestNothingIsSentTwiceAndNoConnectionIsKept(t *testing.T) {
	var requests, connections atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	client := newClient(t, quick())
	for range 3 {
		if _, fault := get(t, client, server.URL); fault != nil {
			t.Fatal(fault)
		}
	}
	if requests.Load() != 3 || connections.Load() != 3 {
		t.Errorf("%d requests on %d connections, want 3 and 3", requests.Load(), connections.Load())
	}
}

// net/http logs bytes that follow an answer on a connection it keeps.
func TestBytesAfterAnAnswerReachNoLog(t *testing.T) {
	var logged bytes.Buffer
	defer log.SetOutput(log.Writer())
	log.SetOutput(&logged)
	address := raw(t, func(conn net.Conn) {
		saying("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + confidential)(conn)
		time.Sleep(50 * time.Millisecond)
	})
	if _, fault := get(t, newClient(t, quick()), address); fault != nil {
		t.Fatal(fault)
	}
	time.Sleep(100 * time.Millisecond)
	if logged.Len() > 0 {
		t.Errorf("logged %q", logged.String())
	}
}

func TestAnswersDoNotPrintTheirBody(t *testing.T) {
	a := &Answer{Status: 200, Body: []byte(confidential), Header: http.Header{"X": {confidential}}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if got, want := fmt.Sprintf(verb, a), "status 200, 22 bytes"; got != want {
			t.Errorf("%s prints %q, want %q", verb, got, want)
		}
	}
}

func TestSkewIsMeasuredFromTheDateHeader(t *testing.T) {
	var offset atomic.Int64
	var status atomic.Int64
	status.Store(200)
	age := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(time.Duration(offset.Load())).UTC().Format(http.TimeFormat))
		if age != "" {
			w.Header().Set("Age", age)
		}
		w.WriteHeader(int(status.Load()))
	}))
	defer server.Close()
	client := newClient(t, quick())
	ask := func(d time.Duration) time.Duration {
		offset.Store(int64(d))
		_, _ = client.Get(t.Context(), server.URL)
		return client.Skew()
	}
	if got := client.Skew(); got != 0 {
		t.Errorf("before the first answer %v, want 0", got)
	}
	for _, want := range []time.Duration{10 * time.Minute, -10 * time.Minute, 0} {
		if got := ask(want); (got - want).Abs() > time.Second {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	status.Store(502)
	if got := ask(time.Hour); got != 0 {
		t.Errorf("a gateway's error changed the skew to %v", got)
	}
	status.Store(200)
	age = "3600"
	if got := ask(-time.Hour); got != 0 {
		t.Errorf("a cached answer changed the skew to %v", got)
	}
}

func TestClockSkew(t *testing.T) {
	sent := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name string
		took time.Duration
		date time.Duration // against sent
		want time.Duration
	}{
		{"same second", 100 * time.Millisecond, 0, 0},
		{"one second ahead", 100 * time.Millisecond, time.Second, 0},
		{"a minute ahead", 100 * time.Millisecond, time.Minute, time.Minute},
		{"a minute behind", 100 * time.Millisecond, -time.Minute, -time.Minute + time.Second},
		{"slow answer, dated at its end", 10 * time.Second, 10 * time.Second, 0},
		{"slow answer, far off", 10 * time.Second, time.Hour, time.Hour - 4*time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := clockSkew(sent, sent.Add(test.took), sent.Add(test.date)); (got - test.want).Abs() > time.Second {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
