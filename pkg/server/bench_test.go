package server

import (
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/purser-agent/purser/pkg/caller"
)

// The benchmarks compare with the least that net/http can do: a ServeMux and one
// Write of the same bytes with preset headers.

var document = make([]byte, 268)

var (
	plainText = []string{"text/plain"}
	ec2       = []string{"EC2ws"}
	length    = []string{"268"}
)

func writeDocument(w http.ResponseWriter) {
	h := w.Header()
	h["Server"] = ec2
	h["Content-Type"] = plainText
	h["Content-Length"] = length
	_, _ = w.Write(document)
}

const request = "GET /latest/meta-data/iam/security-credentials/web HTTP/1.1\r\nHost: 169.254.169.254\r\n" +
	"User-Agent: Boto3/1.40.0 md/Botocore#1.40.0\r\nX-aws-ec2-metadata-token: AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"

func serveBare(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /latest/meta-data/iam/security-credentials/web", func(w http.ResponseWriter, _ *http.Request) {
		writeDocument(w)
	})
	bare := &http.Server{Handler: mux}
	go func() { _ = bare.Serve(l) }()
	b.Cleanup(func() { _ = bare.Close() })
	return l.Addr().String()
}

func serveOurs(b *testing.B) string {
	b.Helper()
	resolver, err := caller.New()
	if err != nil {
		b.Fatal(err)
	}
	listeners, err := Listen(b.Context(), []Spec{{Name: "main", Address: loopback, HopLimit: 1}}, nil)
	if err != nil {
		b.Fatal(err)
	}
	s := New(Options{
		Resolver: resolver,
		Log:      zerolog.New(io.Discard),
		Handler: func(w http.ResponseWriter, _ *http.Request, peer Peer) Access {
			if !peer.Identity.Known || peer.Refused != "" {
				b.Errorf("not identified or refused: %+v", peer)
			}
			writeDocument(w)
			return Access{Dialect: "imds", Route: "role", Status: http.StatusOK, Decision: "served", Credential: "web"}
		},
	})
	served := make(chan error, 1)
	go func() { served <- s.Serve(listeners...) }()
	b.Cleanup(func() {
		if err := s.Shutdown(b.Context()); err != nil && b.Context().Err() == nil {
			b.Error(err)
		}
		if err := <-served; err != nil {
			b.Error(err)
		}
		_ = resolver.Close()
	})
	return listeners[0].Addr().String()
}

// cpuTime is what this process used so far.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// clients runs eight clients that together make b.N round trips. It also reports
// the processor time of both sides, which says more on a busy machine.
func clients(b *testing.B, address string, run func(dial func() *net.TCPConn, times int)) {
	b.Helper()
	dial := func() *net.TCPConn {
		conn, err := (&net.Dialer{KeepAlive: -1}).Dial("tcp4", address)
		if err != nil {
			b.Error(err)
			return nil
		}
		return conn.(*net.TCPConn)
	}
	const many = 8
	used := cpuTime(b)
	b.ResetTimer()
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() { run(dial, (b.N+i)/many) })
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(cpuTime(b)-used)/float64(b.N), "cpu-ns/op")
}

// roundTrip asks once and reads the answer, whose length is always the same.
func roundTrip(b *testing.B, conn *net.TCPConn, buf []byte) bool {
	if _, err := io.WriteString(conn, request); err != nil {
		b.Error(err)
		return false
	}
	for got := 0; got < len(document)+len("\r\n\r\n"); {
		n, err := conn.Read(buf)
		if err != nil {
			b.Error(err)
			return false
		}
		got += n
	}
	return true
}

func BenchmarkKeepAlive(b *testing.B) {
	run := func(b *testing.B, address string) {
		clients(b, address, func(dial func() *net.TCPConn, times int) {
			conn := dial()
			if conn == nil {
				return
			}
			defer conn.Close()
			buf := make([]byte, 4096)
			for range times {
				if !roundTrip(b, conn, buf) {
					return
				}
			}
		})
	}
	b.Run("bare", func(b *testing.B) { run(b, serveBare(b)) })
	b.Run("server", func(b *testing.B) { run(b, serveOurs(b)) })
}

func BenchmarkNewConnection(b *testing.B) {
	run := func(b *testing.B, address string) {
		clients(b, address, func(dial func() *net.TCPConn, times int) {
			buf := make([]byte, 4096)
			for range times {
				conn := dial()
				if conn == nil || !roundTrip(b, conn, buf) {
					return
				}
				_ = conn.SetLinger(0) // else the benchmark runs out of ports
				_ = conn.Close()
			}
		})
	}
	b.Run("bare", func(b *testing.B) { run(b, serveBare(b)) })
	b.Run("server", func(b *testing.B) { run(b, serveOurs(b)) })
}
