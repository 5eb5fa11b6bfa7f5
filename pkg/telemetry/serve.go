package telemetry

import (
	"context"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Bounds of the telemetry server.
const (
	readLimit      = 5 * time.Second
	writeLimit     = 30 * time.Second
	idleLimit      = 2 * time.Minute // longer than scrapes are usually apart
	shutdownLimit  = 200 * time.Millisecond
	maxHeader      = 16 << 10 // bytes
	maxConnections = 64
	maxScrapes     = 2
	maxNamed       = 10 // of what is missing
)

// Serve answers on l until ctx ends. It closes l.
func (t *Telemetry) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           t.Handler(),
		ReadHeaderTimeout: readLimit,
		ReadTimeout:       readLimit,
		WriteTimeout:      writeLimit,
		IdleTimeout:       idleLimit,
		MaxHeaderBytes:    maxHeader,
		ConnState:         new(crowd).follow,
		ErrorLog:          stdlog.New(t.options.Log, "", 0),
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.Background(), shutdownLimit)
		defer cancel()
		if server.Shutdown(grace) != nil {
			_ = server.Close()
		}
	})
	err := server.Serve(l)
	if stop() {
		return fmt.Errorf("telemetry: %w", err)
	}
	<-stopped
	return nil
}

// Handler answers /metrics, /healthz and /readyz.
//
// A request to a loopback address must name an IP address or localhost as its host:
// a web page that makes a name of its own point to this machine (DNS rebinding)
// could otherwise read the metrics with the browser of a local user. On other
// addresses, which the network reaches anyway, any host goes.
func (t *Telemetry) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{
		ErrorLog:            stdlog.New(t.options.Log, "", 0),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
	}))
	mux.HandleFunc("GET /healthz", t.healthz)
	mux.HandleFunc("GET /readyz", t.readyz)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if onLoopback(r) && !isLocalHost(r.Host) {
			http.Error(w, "on a loopback address the host must be an IP address or localhost", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (t *Telemetry) healthz(w http.ResponseWriter, _ *http.Request) {
	if !t.options.Alive() {
		say(w, http.StatusServiceUnavailable, "the refresher is stuck")
		return
	}
	say(w, http.StatusOK, "ok")
}

func (t *Telemetry) readyz(w http.ResponseWriter, _ *http.Request) {
	ready, missing := t.options.Ready()
	if ready {
		say(w, http.StatusOK, "ok")
		return
	}
	more := ""
	if n := len(missing) - maxNamed; n > 0 {
		missing, more = missing[:maxNamed], fmt.Sprintf(" and %d more", n)
	}
	say(w, http.StatusServiceUnavailable, "missing: "+strings.Join(missing, ", ")+more)
}

func say(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text+"\n")
}

func onLoopback(r *http.Request) bool {
	address, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && address.IP.IsLoopback()
}

// isLocalHost looks at a Host header, with or without port. Without a host (HTTP/1.0)
// no browser asks.
func isLocalHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if host == "" || strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Zone() == "" // a zone may be any text
}
