package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/purser-agent/purser/pkg/credential"
)

// A proxy carries the requests of one client, but for those to exempted addresses.
type proxy struct {
	url      *url.URL // without user
	user     string
	password credential.SecretRef
	exempt   []exemption
}

// newProxy returns nil where no proxy is configured.
func newProxy(o *Options) (*proxy, error) {
	if o.Proxy == "" {
		return nil, nil
	}
	u, err := ParseURL(o.Proxy)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	if u.Path != "" && u.Path != "/" {
		return nil, fmt.Errorf("proxy: %q has a path, which a proxy cannot have", o.Proxy)
	}
	exempt, err := parseNoProxy(o.NoProxy)
	if err != nil {
		return nil, fmt.Errorf("no_proxy: %w", err)
	}
	return &proxy{url: u, user: o.ProxyUser, password: o.ProxyPassword, exempt: exempt}, nil
}

// carries reports whether a request to u goes through the proxy.
func (p *proxy) carries(u *url.URL) bool {
	if p == nil {
		return false
	}
	host, port := hostPort(u)
	for _, e := range p.exempt {
		if e.matches(host, port) {
			return false
		}
	}
	return true
}

// forRequest is an http.Transport's Proxy.
func (p *proxy) forRequest(req *http.Request) (*url.URL, error) {
	if socketOf(req.Context()) != "" || !p.carries(req.URL) {
		return nil, nil
	}
	u := *p.url
	if p.user == "" {
		return &u, nil
	}
	password, err := p.password.Read()
	if err != nil {
		return nil, &Error{Kind: ClassProxy, Tried: describe(req, p), Err: fmt.Errorf("proxy_password: %w", err)}
	}
	u.User = url.UserPassword(p.user, password.Reveal())
	return &u, nil
}

// checkConnect is an http.Transport's OnProxyConnectResponse. Without it the
// transport would report the reason phrase, which is text of the proxy's.
func checkConnect(_ context.Context, proxyURL *url.URL, connect *http.Request, res *http.Response) error {
	if res.StatusCode == http.StatusOK {
		return nil
	}
	hint := ""
	if res.StatusCode == http.StatusProxyAuthRequired {
		hint = ": it wants proxy_user and proxy_password, or others than these"
	}
	return &Error{
		Kind:   ClassProxy,
		Tried:  fmt.Sprintf("CONNECT %s through proxy %s", connect.Host, proxyURL.Host),
		Status: res.StatusCode,
		Err:    fmt.Errorf("the proxy answered %d %s%s", res.StatusCode, http.StatusText(res.StatusCode), hint),
	}
}

// An exemption is one entry of no_proxy. The matching follows golang.org/x/net's
// httpproxy, with two differences: a malformed entry is an error, and loopback is
// not exempt by itself.
type exemption struct {
	domain  string       // lower case, without leading dot; empty for addresses
	below   bool         // only names below domain
	network netip.Prefix // of an address: the whole of its length
	port    string       // empty for any
}

func (e exemption) matches(host, port string) bool {
	if e.port != "" && e.port != port {
		return false
	}
	if address, err := netip.ParseAddr(host); err == nil {
		return e.network.IsValid() && e.network.Contains(address.Unmap().WithZone(""))
	}
	if e.domain == "" {
		return false
	}
	return !e.below && host == e.domain || strings.HasSuffix(host, "."+e.domain)
}

func parseNoProxy(entries []string) ([]exemption, error) {
	parsed := make([]exemption, 0, len(entries))
	for _, entry := range entries {
		if strings.Contains(entry, "@") { // to quote it could show a password
			return nil, errors.New("an entry holds an @; it is a host name, an address or a CIDR")
		}
		e, err := parseExemption(entry)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", entry, err)
		}
		parsed = append(parsed, e)
	}
	return parsed, nil
}

func parseExemption(entry string) (exemption, error) {
	if strings.Contains(entry, "/") {
		network, err := netip.ParsePrefix(entry)
		if err != nil {
			return exemption{}, fmt.Errorf("not a CIDR such as 10.0.0.0/8; names and addresses are given without a scheme")
		}
		return exemption{network: network.Masked()}, nil
	}
	var e exemption
	host := entry
	if h, port, err := net.SplitHostPort(entry); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return exemption{}, fmt.Errorf("%q is not a port", port)
		}
		host, e.port = h, port
	}
	if address, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		address = address.Unmap()
		e.network = netip.PrefixFrom(address, address.BitLen())
		return e, nil
	}
	host = canonicalHost(host)
	host, star := strings.CutPrefix(host, "*.")
	host, dot := strings.CutPrefix(host, ".")
	e.domain, e.below = host, star || dot
	if !isHostName(host) {
		return exemption{}, fmt.Errorf("not a host name, an address or a CIDR")
	}
	return e, nil
}

func isHostName(s string) bool {
	if s == "" || strings.HasPrefix(s, ".") || strings.Contains(s, "..") {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= '0' && r <= '9'
		return !letter && r != '.' && r != '-' && r != '_'
	})
}

func canonicalHost(host string) string { return strings.TrimSuffix(strings.ToLower(host), ".") }

// hostPort splits a URL's host and fills in its scheme's port.
func hostPort(u *url.URL) (host, port string) {
	host, port = canonicalHost(u.Hostname()), u.Port()
	if port == "" {
		port = "80"
		if u.Scheme == "https" {
			port = "443"
		}
	}
	return host, port
}
