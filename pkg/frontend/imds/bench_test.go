package imds

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/frontend"
)

// discard is a ResponseWriter that costs nothing, so that the benchmark shows the
// dialect alone.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

// BenchmarkWarmCredential is a GET of stored keys of a usual size, with a session
// token and the checks of the guard.
func BenchmarkWarmCredential(b *testing.B) {
	f := newFixture(b, nil)
	view := having(func(k *credential.AWS) { k.SessionToken = credential.NewSecret(strings.Repeat("t", 800)) })
	r := httptest.NewRequest(http.MethodGet, "http://169.254.169.254"+rolePath+"web", nil)
	r.Header.Set(tokenHeader, newToken(f, time.Hour))
	guard := frontend.NewGuard(netip.MustParseAddrPort("127.0.0.1:25772"))
	w := discard{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		out := f.Answer(w, frontend.Request{Request: r, View: view, Refused: guard.Check(r)})
		if out.Status != http.StatusOK {
			b.Fatal(out)
		}
	}
}
