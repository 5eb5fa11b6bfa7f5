package upstream

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/testkit"
)

func TestRoundTripKeepsTheLimits(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Got", string(body))
		w.WriteHeader(http.StatusTeapot)
		if r.URL.Path == "/much" {
			_, _ = io.WriteString(w, strings.Repeat("x", MaxAnswer+1))
		}
		_, _ = io.WriteString(w, "short and stout")
	}))
	defer server.Close()
	c, err := NewClient(Defaults(), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	library := &http.Client{Transport: c}
	res, err := library.Post(server.URL, "text/plain", strings.NewReader("tea"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	if string(body) != "short and stout" || res.StatusCode != http.StatusTeapot || res.Header.Get("X-Got") != "tea" || res.ContentLength != int64(len(body)) {
		t.Errorf("got %d %q %v", res.StatusCode, body, res.Header)
	}
	answer := AnswerOf(res)
	if answer == nil || string(answer.Body) != string(body) {
		t.Fatalf("the answer is %v", answer)
	}
	if got, want := answer.Check().Error(), "POST "+server.URL+": answered 418 I'm a teapot"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	_, err = library.Get(server.URL + "/much")
	if fault, ok := errors.AsType[*Error](err); !ok || fault.Kind != ClassTooLarge {
		t.Errorf("got %v", err)
	}
	if AnswerOf(&http.Response{Body: http.NoBody}) != nil {
		t.Error("another response has an answer of ours")
	}
}

func TestRequestsGoToASocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) }))
	server.Listener = listener
	server.Start()
	defer server.Close()
	o := Defaults()
	o.Proxy = "http://127.0.0.1:1"
	c, err := NewClient(o, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ctx := WithSocket(t.Context(), path)
	a, err := c.Get(ctx, "http://localhost/v1/x?secret")
	if err != nil || string(a.Body) != "localhost" {
		t.Fatalf("got %v, %v", a, err)
	}
	server.Close()
	_, err = c.Get(ctx, "http://localhost/v1/x?secret")
	if err == nil || !strings.HasPrefix(err.Error(), "GET /v1/x on unix://"+path+": ") {
		t.Errorf("got %v", err)
	}
}

func TestClientTellsItsCertificate(t *testing.T) {
	a := newAuthority(t, "hosts")
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.TLS = a.serverConfig("upstream.example.com")
	server.StartTLS()
	defer server.Close()
	certificate, key := a.issue("web01", time.Now().Add(time.Hour))
	o := Defaults()
	o.TLS = TLS{CA: testkit.File(t, "ca.pem", a.pem()), Certificate: testkit.File(t, "host.pem", certificate), Key: testkit.File(t, "host.key", key)}
	c, err := NewClient(o, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if c.Certificate() != nil {
		t.Error("there is a certificate before a file was read")
	}
	if _, err := c.Get(t.Context(), server.URL); err != nil {
		t.Fatal(err)
	}
	if got := c.Certificate(); got == nil || got.Subject.CommonName != "web01" {
		t.Errorf("got %v", got)
	}
}
