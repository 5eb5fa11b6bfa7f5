package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// A Class says in one word why an upstream gave nothing. Metrics use it as a label.
type Class string

// The classes.
const (
	ClassTransport  Class = "transport"  // no connection, or it broke
	ClassTimeout    Class = "timeout"    // a time-out of Timeouts, or the caller's deadline
	ClassTLS        Class = "tls"        // handshake, certificates or our own certificate files
	ClassProxy      Class = "proxy"      // the proxy, not the upstream
	ClassServer     Class = "server"     // 5xx
	ClassThrottled  Class = "throttled"  // 429, or 503 with Retry-After
	ClassRefused    Class = "refused"    // 401 or 403: not for this host
	ClassRequest    Class = "request"    // another 4xx
	ClassRedirect   Class = "redirect"   // 3xx: redirects are not followed
	ClassMalformed  Class = "malformed"  // not what such an upstream answers
	ClassIncomplete Class = "incomplete" // a document without all it needs
	ClassExpired    Class = "expired"    // a credential that is already past its end
	ClassEmpty      Class = "empty"      // a success without content
	ClassTooLarge   Class = "too_large"  // more than MaxAnswer bytes
	ClassProgram    Class = "program"    // a program that cannot be started
	ClassExit       Class = "exit"       // a program that ended with a failure
	ClassCanceled   Class = "canceled"   // the caller gave up, which says nothing of the upstream
)

// An Error is one failed request. Its text says what was tried and what is wrong;
// it never quotes an upstream's body, which may hold secrets or a traceback.
type Error struct {
	Kind   Class
	Tried  string        // method and URL without query
	Status int           // HTTP status; 0 where there was no answer
	Wait   time.Duration // what Retry-After asks for, at most an hour; 0 where it says nothing
	Err    error         // what is wrong, in words of ours or of Go's network packages

	others []*Error // what other addresses of the same upstream said
}

// maxErrorText bounds an error's cause, in bytes: names in certificates are chosen
// by whoever made them.
const maxErrorText = 500

// Error implements error.
func (e *Error) Error() string {
	var text strings.Builder
	text.WriteString(e.Tried + ": " + Printable(e.Err.Error()))
	for _, other := range e.others {
		text.WriteString("; " + other.Error())
	}
	return text.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Class returns the class, for metrics.
func (e *Error) Class() string { return string(e.Kind) }

// RetryAfter returns how long the upstream wants to be left alone, 0 if it does not
// say.
func (e *Error) RetryAfter() time.Duration { return e.Wait }

// Refused reports whether the upstream says that this host may not have what it
// asked for.
func (e *Error) Refused() bool { return e.Kind == ClassRefused }

// Permanent reports whether somebody must change something before another attempt
// can succeed.
func (e *Error) Permanent() bool {
	switch e.Kind {
	case ClassRefused, ClassRequest, ClassRedirect, ClassEmpty, ClassProgram:
		return true
	case ClassProxy:
		return e.Status == http.StatusProxyAuthRequired
	}
	return false
}

// definite reports whether another address of the same upstream would say the same.
func (e *Error) definite() bool {
	switch e.Kind {
	case ClassRefused, ClassRequest, ClassEmpty, ClassCanceled:
		return true
	case ClassThrottled:
		return e.Status == http.StatusTooManyRequests
	}
	return false
}

// statusError describes an answer other than a success.
func statusError(tried string, status int, header http.Header, now time.Time) *Error {
	e := &Error{Tried: tried, Status: status, Wait: retryAfter(header, now)}
	hint := ""
	switch {
	case status == http.StatusProxyAuthRequired:
		e.Kind, hint = ClassProxy, ": the proxy wants proxy_user and proxy_password, or others than these"
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable && e.Wait > 0:
		e.Kind = ClassThrottled
		if e.Wait > 0 {
			hint = fmt.Sprintf(": it wants no request for %v", e.Wait)
		}
	case status >= 500:
		e.Kind = ClassServer
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		e.Kind, hint = ClassRefused, ": the upstream does not let this host have it"
	case status == http.StatusRequestTimeout || status == http.StatusTooEarly:
		e.Kind = ClassTimeout
	case status >= 400:
		e.Kind = ClassRequest
	case status >= 300:
		e.Kind, hint = ClassRedirect, redirectHint(header)
	default:
		e.Kind = ClassMalformed
	}
	e.Err = fmt.Errorf("answered %s%s", strings.TrimSpace(fmt.Sprintf("%d %s", status, http.StatusText(status))), hint)
	return e
}

// classify turns what Go's HTTP transport says into an Error. Only errors whose
// text is known to hold nothing of an answer are passed on: "malformed HTTP
// response" and its like quote what came over the wire.
func classify(ctx context.Context, tried string, err error, took time.Duration) *Error {
	if own, ok := errors.AsType[*Error](err); ok {
		if own.Tried == "" {
			own.Tried = tried
		}
		return own
	}
	e := &Error{Tried: tried, Err: err}
	network, isNetwork := errors.AsType[*net.OpError](err)
	timeout, _ := errors.AsType[net.Error](err)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		e.Kind, e.Err = ClassCanceled, context.Canceled
	case isNetwork && network.Op == "proxyconnect":
		e.Kind, e.Err = ClassProxy, fmt.Errorf("the proxy cannot be reached: %w", network.Err)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		e.Kind, e.Err = ClassTimeout, fmt.Errorf("no whole answer after %v", took.Round(10*time.Millisecond))
	case isTLS(err):
		e.Kind = ClassTLS
		if record, ok := errors.AsType[tls.RecordHeaderError](err); ok && string(record.RecordHeader[:]) == "HTTP/" {
			e.Err = errors.New("the server speaks HTTP, not HTTPS")
		}
	case timeout != nil && timeout.Timeout():
		e.Kind = ClassTimeout
	case errors.Is(err, io.ErrUnexpectedEOF):
		e.Kind, e.Err = ClassTransport, errCutShort
	case errors.Is(err, io.EOF) || strings.Contains(err.Error(), "server closed idle connection"):
		e.Kind, e.Err = ClassTransport, errNoAnswer
	case isNetwork || isErrno(err):
		e.Kind = ClassTransport
	case strings.Contains(err.Error(), "response headers exceeded"):
		e.Kind, e.Err = ClassTooLarge, fmt.Errorf("the answer's header is larger than %d bytes", maxHeader)
	default:
		e.Kind, e.Err = ClassMalformed, errNotHTTP
	}
	return e
}

var (
	errCutShort = fmt.Errorf("the answer ends early: %w", io.ErrUnexpectedEOF)
	errNoAnswer = errors.New("the connection was closed without an answer")
	errNotHTTP  = errors.New("the answer is not valid HTTP")
)

// isTLS knows the shapes in which crypto/tls reports: typed errors for certificates
// and records, alerts as net.OpError, and plain text for the rest.
func isTLS(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	if network, ok := errors.AsType[*net.OpError](err); ok && (network.Op == "remote error" || network.Op == "local error") {
		return true
	}
	return strings.HasPrefix(err.Error(), "tls: ") || strings.HasPrefix(err.Error(), "x509: ")
}

func isErrno(err error) bool {
	_, ok := errors.AsType[syscall.Errno](err)
	return ok
}

// Printable makes text of mixed origin fit for one line of a log.
func Printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	if len(text) > maxErrorText {
		return strings.ToValidUTF8(text[:maxErrorText], "") + "..."
	}
	return text
}
