package upstream

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// maxHeader bounds the header of an answer, in bytes.
const maxHeader = 64 << 10

// A Client asks one upstream over HTTP/1.1 with the limits of its Options. It
// follows no redirect, retries nothing, ignores the environment's proxies and keeps
// no connection. It is safe for concurrent use.
type Client struct {
	options Options
	proxy   *proxy
	keyring *keyring
	skew    atomic.Int64 // nanoseconds
}

// NewClient checks the options and returns a client. It opens no file: that comes
// with the first request, so that a file which is being replaced stops no start.
func NewClient(o Options, log zerolog.Logger) (*Client, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	p, err := newProxy(&o)
	if err != nil {
		return nil, err
	}
	return &Client{options: o, proxy: p, keyring: newKeyring(o, p, log)}, nil
}

// Get asks for what is at an address.
func (c *Client) Get(ctx context.Context, address string) (*Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	return c.Do(req)
}

// Do sends a request and reads the whole answer, within Timeouts.Total. The error
// is an *Error; an answer of any status is none, see Answer.Check.
func (c *Client) Do(req *http.Request) (*Answer, error) {
	ctx, cancel := context.WithTimeout(req.Context(), c.options.Timeouts.Total)
	defer cancel()
	req = req.Clone(ctx)
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "purser")
	}
	tried := describe(req, c.proxy)

	transport, loaded, fault := c.keyring.kept.Get()
	if !loaded {
		return nil, &Error{Kind: ClassTLS, Tried: tried, Err: fault}
	}
	start := time.Now()
	answer, err := roundTrip(transport.Transport, req)
	if err == nil {
		answer.tried = tried
		c.measure(start, answer)
		return answer, nil
	}
	// A dial outlives its request, in case another could use the connection. No
	// other will; this ends it.
	transport.CloseIdleConnections()
	e := classify(ctx, tried, err, time.Since(start))
	c.explain(e)
	if e.Kind == ClassTLS {
		e.Err = fmt.Errorf("%w%s", e.Err, c.keyring.hint(transport, fault))
	}
	return nil, e
}

func roundTrip(transport *http.Transport, req *http.Request) (*Answer, error) {
	res, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	received := time.Now()
	body, err := readBody(res)
	if err != nil {
		return nil, err
	}
	return &Answer{Status: res.StatusCode, Header: res.Header, Body: body, received: received}, nil
}

// Certificate is the client certificate as it was last presented, nil for none.
func (c *Client) Certificate() *x509.Certificate {
	if used, ok := c.keyring.kept.last(); ok {
		return used.leaf
	}
	return nil
}

// Files lists the files that the client reads again when they change.
func (c *Client) Files() []string { return c.options.Files() }

// Check reports what can be known of the client's files without asking the
// upstream: that the current user can read them and that they can be used.
func (c *Client) Check() error {
	if err := CheckReadable(c.Files()); err != nil {
		return err
	}
	if _, err := readMaterial(c.options.TLS); err != nil {
		return err
	}
	if _, err := c.options.ProxyPassword.Read(); err != nil {
		return fmt.Errorf("proxy_password: %w", err)
	}
	return nil
}

// minSkew is the least difference of clocks that a header with whole seconds shows.
const minSkew = 2 * time.Second

// Skew returns the upstream's clock minus ours, as the Date of the latest answer
// showed it against the middle of its request; 0 if unknown or below two seconds.
func (c *Client) Skew() time.Duration { return time.Duration(c.skew.Load()) }

func (c *Client) measure(start time.Time, a *Answer) {
	// Date in a gateway's own error, or in an answer from a cache, shows another clock.
	if a.Status >= 500 || a.Status == http.StatusProxyAuthRequired || a.Header.Get("Age") != "" {
		return
	}
	date, err := http.ParseTime(a.Header.Get("Date"))
	if err != nil {
		return
	}
	c.skew.Store(int64(clockSkew(start, a.received, date)))
}

// clockSkew compares date, which is cut to the second, with the middle of the
// request. A difference that a slow answer explains is none.
func clockSkew(sent, received, date time.Time) time.Duration {
	took := received.Sub(sent)
	skew := date.Add(500 * time.Millisecond).Sub(sent.Add(took / 2)).Round(time.Second)
	if skew.Abs() < minSkew || skew.Abs() <= took/2+time.Second {
		return 0
	}
	return skew
}

// describe names a request for a message: method, URL without query, and the proxy
// that carries it or the socket that it goes to.
func describe(req *http.Request, p *proxy) string {
	if socket := socketOf(req.Context()); socket != "" {
		return fmt.Sprintf("%s %s on unix://%s", req.Method, req.URL.EscapedPath(), socket)
	}
	u := url.URL{Scheme: req.URL.Scheme, Host: req.URL.Host, Path: req.URL.Path, RawPath: req.URL.RawPath}
	text := req.Method + " " + u.String()
	if p.carries(req.URL) {
		text += " through proxy " + p.url.Host
	}
	return text
}
