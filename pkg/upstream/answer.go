package upstream

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// MaxAnswer bounds the body of an answer, in bytes.
const MaxAnswer = 1 << 20

// maxRetryAfter bounds what Retry-After can ask for.
const maxRetryAfter = time.Hour

// An Answer is a whole answer of an upstream, whatever its status.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte // at most MaxAnswer bytes; often secret

	tried    string
	received time.Time
}

// Format prints what an answer is like and nothing of what is in it.
func (a *Answer) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "status %d, %d bytes", a.Status, len(a.Body))
}

// Check returns nil for a 2xx answer and an *Error for any other.
func (a *Answer) Check() error {
	if a.Status >= 200 && a.Status < 300 {
		return nil
	}
	e := statusError(a.tried, a.Status, a.Header, a.received)
	if a.WantsHTTPS() {
		e.Err = fmt.Errorf("%w: the server may speak HTTPS; use https://", e.Err)
	}
	return e
}

// Errorf returns an *Error that says what is wrong with the content of an answer.
// The arguments must not be taken from its body.
func (a *Answer) Errorf(class Class, format string, args ...any) error {
	return &Error{Kind: class, Tried: a.tried, Status: a.Status, Err: fmt.Errorf(format, args...)}
}

// readBody reads a body to its end, but never more than MaxAnswer bytes.
func readBody(res *http.Response) ([]byte, error) {
	tooLarge := &Error{Kind: ClassTooLarge, Err: fmt.Errorf("the answer is larger than %d bytes", MaxAnswer)}
	if res.ContentLength > MaxAnswer {
		return nil, tooLarge
	}
	if coding := res.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return nil, &Error{Kind: ClassMalformed, Err: errors.New("the answer is compressed, which was not asked for")}
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, MaxAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(body) > MaxAnswer {
		return nil, tooLarge
	}
	return body, nil
}

// retryAfter reads Retry-After (RFC 9110, 10.2.3): seconds, or a date, which is
// compared with the upstream's own clock where its answer shows it. The result lies
// between 0 and maxRetryAfter.
func retryAfter(header http.Header, now time.Time) time.Duration {
	value := header.Get("Retry-After")
	if value == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	until, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if theirs, err := http.ParseTime(header.Get("Date")); err == nil {
		now = theirs
	}
	return min(max(until.Sub(now), 0), maxRetryAfter)
}

// redirectHint says where a redirect leads, as far as that cannot be secret.
func redirectHint(header http.Header) string {
	const advice = "redirects are not followed, set the address itself"
	to, err := url.Parse(header.Get("Location"))
	if err != nil || to.Host == "" {
		return ": " + advice
	}
	return fmt.Sprintf(": it leads to %q; %s", to.Scheme+"://"+to.Host, advice)
}
