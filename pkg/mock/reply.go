package mock

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A reply is what a stand-in would answer if nothing went wrong on the way.
type reply struct {
	status      int
	contentType string
	header      http.Header
	body        []byte
	listed      bool // the service answers errors as a list of texts
}

func text(body string) reply {
	return reply{status: http.StatusOK, contentType: "text/plain; charset=utf-8", body: []byte(body)}
}

// failure is an error as AFP answers it, traceback and all: what a client must
// neither trust nor print.
func failure(status int) reply {
	body := fmt.Sprintf(`{"status": "%d", "error": %q, "exception": null, "message": "%s", "traceback": "Traceback (most recent call last): SecretAccessKey=%s"}`,
		status, http.StatusText(status), "answered by purser-mock", secret(40))
	return reply{status: status, contentType: "application/json", body: []byte(body)}
}

// serve answers one request for a part of the service, unless a fault keeps it from
// that. The kind of stand-in makes the reply and sees to the faults in its content.
func (c *Control) serve(w http.ResponseWriter, r *http.Request, part, role string, answer func(faults) reply) {
	hits := c.take(part, role)
	status := 0
	start := time.Now()
	end := func() {} // after it was recorded, so that who sees it finds the request counted
	defer func() { end() }()
	defer func() { c.record(r, part, role, status, hits, time.Since(start)) }()

	if wait, ok := hits.find(Latency); ok && !pause(r.Context(), wait.Time) {
		panic(http.ErrAbortHandler) // a plain return would answer 200
	}
	switch {
	case hits.has(Hang):
		_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, maxOrder)) // before that, the server does not see the client go
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case hits.has(Reset):
		end = func() { cut(w, "") }
		return
	case hits.has(Garbage):
		end = func() { cut(w, "220 this is no HTTP "+secret(40)+"\r\n") }
		return
	}
	rep := answer(hits)
	for _, fault := range hits {
		rep = fault.spoil(rep)
	}
	status = rep.status
	w.Header().Set("Date", time.Now().Add(hits.skew()).UTC().Format(http.TimeFormat))
	rep.write(w, r, hits)
}

// spoil turns a good reply into the one that a fault asks for.
func (f Fault) spoil(rep reply) reply {
	switch f.Kind {
	case Status:
		failed := failure(f.Status)
		if rep.listed {
			failed.body = fmt.Appendf(nil, `{"errors":["answered by purser-mock %s"]}`+"\n", secret(40))
		}
		rep = failed
		rep.header = http.Header{}
		if f.RetryAfter > 0 {
			rep.header.Set("Retry-After", strconv.Itoa(int(f.RetryAfter.Seconds())))
		}
		if f.RetryAt != 0 {
			rep.header.Set("Retry-After", time.Now().Add(f.RetryAt).UTC().Format(http.TimeFormat))
		}
	case Redirect:
		rep = reply{status: http.StatusFound, header: http.Header{"Location": {"http://elsewhere.invalid/?" + secret(40)}}}
	case Empty:
		rep.body = nil
	case Malformed:
		rep.body = fmt.Appendf(nil, `{"Code": "Success", "SecretAccessKey": "%s`, secret(40))
	case HTML:
		rep.contentType = "text/html"
		rep.body = []byte("<!DOCTYPE html>\n<html><body><h1>Please log in</h1></body></html>\n")
	case Huge:
		rep.body = append(bytes.Repeat([]byte(" "), 16<<20), rep.body...)
	case Gzip:
		rep.header = http.Header{"Content-Encoding": {"gzip"}}
		rep.body = bomb()
	}
	return rep
}

var bomb = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(make([]byte, 2<<20)) // a bytes.Buffer takes all
	_ = z.Close()
	return b.Bytes()
})

func (rep reply) write(w http.ResponseWriter, r *http.Request, hits faults) {
	header := w.Header()
	maps.Copy(header, rep.header)
	if rep.contentType != "" {
		header.Set("Content-Type", rep.contentType)
	}
	header.Set("Content-Length", strconv.Itoa(len(rep.body)))
	w.WriteHeader(rep.status)
	flush := http.NewResponseController(w).Flush
	if hits.has(Truncated) {
		_, _ = w.Write(rep.body[:len(rep.body)/2]) // the client may be gone
		_ = flush()
		panic(http.ErrAbortHandler)
	}
	slow, ok := hits.find(Slow)
	if !ok {
		_, _ = w.Write(rep.body)
		return
	}
	for i := range rep.body {
		_ = flush()
		if !pause(r.Context(), slow.Time) {
			return
		}
		_, _ = w.Write(rep.body[i : i+1])
	}
}

// cut sends raw text, if any, and ends the connection: with a reset if there was
// none.
func cut(w http.ResponseWriter, raw string) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer conn.Close()
	if raw != "" {
		_, _ = io.Copy(conn, strings.NewReader(raw))
		return
	}
	inner := conn
	if secure, ok := conn.(*tls.Conn); ok {
		inner = secure.NetConn()
	}
	if tcp, ok := inner.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
		_ = tcp.Close()
	}
}

// pause reports false if the client gave up meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
