package telemetry

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestHealthFollowsTheRefresherOnly(t *testing.T) {
	for _, test := range []struct {
		name         string
		alive, ready bool
		code         int
		body         string
	}{
		{"alive and ready", true, true, 200, "ok\n"},
		{"alive while an upstream is down", true, false, 200, "ok\n"},
		{"stuck", false, true, 503, "the refresher is stuck\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			opts := options(t)
			opts.Alive = func() bool { return test.alive }
			opts.Ready = func() (bool, []string) { return test.ready, nil }
			response := get(New(opts).Handler(), "/healthz")
			if got := response.Body.String(); response.Code != test.code || got != test.body {
				t.Errorf("got %d %q, want %d %q", response.Code, got, test.code, test.body)
			}
		})
	}
}

func TestReadyzNamesWhatIsMissing(t *testing.T) {
	var many []string
	for i := range 12 {
		many = append(many, fmt.Sprintf("role_%02d", i))
	}
	for _, test := range []struct {
		name    string
		missing []string
		code    int
		body    string
	}{
		{"ready", nil, 200, "ok\n"},
		{"one missing", []string{"test_role"}, 503, "missing: test_role\n"},
		{"many missing", many, 503, "missing: " + strings.Join(many[:10], ", ") + " and 2 more\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			opts := options(t)
			opts.Ready = func() (bool, []string) { return test.missing == nil, test.missing }
			response := get(New(opts).Handler(), "/readyz")
			if got := response.Body.String(); response.Code != test.code || got != test.body {
				t.Errorf("got %d %q, want %d %q", response.Code, got, test.code, test.body)
			}
		})
	}
}

func TestOnlyReadingMethodsAreAnswered(t *testing.T) {
	handler := New(options(t)).Handler()
	for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
		for method, want := range map[string]int{
			http.MethodGet: 200, http.MethodHead: 200,
			http.MethodPost: 405, http.MethodPut: 405, http.MethodDelete: 405, http.MethodOptions: 405,
		} {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(method, path, nil))
			if w.Code != want {
				t.Errorf("%s %s: got %d, want %d", method, path, w.Code, want)
			}
		}
	}
}

func TestForeignHostIsRefusedOnLoopbackOnly(t *testing.T) {
	handler := New(options(t)).Handler()
	loopback, network := net.IPv4(127, 0, 0, 1), net.IPv4(192, 0, 2, 1)
	for _, test := range []struct {
		name  string
		local net.IP
		host  string
		want  int
	}{
		{"address", loopback, "127.0.0.1:25773", 200},
		{"IPv6 address", loopback, "[::1]:25773", 200},
		{"IPv6 address without port", loopback, "[::1]", 200},
		{"another address of this host", loopback, "192.0.2.1", 200},
		{"localhost", loopback, "localhost:25773", 200},
		{"localhost in full", loopback, "LocalHost.", 200},
		{"no host", loopback, "", 200},
		{"rebound name", loopback, "rebind.example.com:25773", 403},
		{"name that begins like an address", loopback, "127.0.0.1.example.com", 403},
		{"name that begins with localhost", loopback, "localhost.example.com", 403},
		{"name on the network", network, "web01.example.com:25773", 200},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/readyz", nil)
			r.Host = test.host
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: test.local})))
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != test.want {
				t.Errorf("Host %q: got %d, want %d", test.host, w.Code, test.want)
			}
		})
	}
}

func TestServeAnswersAndEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- New(options(t)).Serve(ctx, l) }()

	silent, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /readyz HTTP/1.1\r\nHost: rebind.example.com\r\n\r\nGET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	answers := bufio.NewReader(conn)
	for _, want := range []int{403, 200} {
		response, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		if response.StatusCode != want {
			t.Errorf("got %d, want %d", response.StatusCode, want)
		}
	}

	cancel()
	select {
	case err := <-served:
		if err != nil {
			t.Errorf("Serve returned %v, want nil", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Serve is still running")
	}
	if _, err := silent.Read(make([]byte, 1)); err == nil {
		t.Error("a silent connection is still open after the stop")
	}
}

func TestServeReportsAListenerThatBreaks(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := New(options(t)).Serve(t.Context(), l); err == nil {
		t.Error("Serve on a closed listener returned nil, want an error")
	}
}

func FuzzLocalHostIsAnAddressOrLocalhost(f *testing.F) {
	for _, seed := range []string{
		"", "localhost", "localhost:1", "127.0.0.1:80", "[::1]:80", "::1", "a.example", "[fe80::1%eth0]:1", "]", ":",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if !isLocalHost(host) {
			return
		}
		name := host
		if before, _, err := net.SplitHostPort(host); err == nil {
			name = before
		}
		name = strings.TrimSuffix(strings.ToLower(name), ".")
		if name != "localhost" && name != "[localhost]" && strings.Trim(name, "0123456789abcdef.:[]") != "" {
			t.Errorf("%q passes as local", host)
		}
	})
}
