// Package upstream holds what all upstreams share: an HTTP client with limits on
// time and size, proxy and TLS options, classes of errors, several addresses with a
// memory of which of them works, and a watch on the files that the options name.
//
// It leaves to the folders below it what one kind of upstream is asked and how its
// answers read, and to pkg/refresh when to ask again: nothing here retries.
package upstream

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
)

// Options are the keys that every kind of upstream which speaks HTTP has. A kind
// embeds them in its own options with `koanf:",squash"`.
type Options struct {
	// Proxy is the http or https URL of a proxy that carries every request, to
	// loopback addresses too; empty means none. The proxy variables of the
	// environment have no say.
	Proxy string `koanf:"proxy"`
	// ProxyUser and ProxyPassword are sent to the proxy, never to the upstream. The
	// password's file is read again for each request.
	ProxyUser     string               `koanf:"proxy_user"`
	ProxyPassword credential.SecretRef `koanf:"proxy_password"`
	// NoProxy lists what is asked without the proxy: a host name (with all below
	// it), .example.com (only what is below it), an IP address or a CIDR, each but
	// the CIDR with an optional :port. Names are not resolved for the comparison.
	NoProxy  []string `koanf:"no_proxy"`
	TLS      TLS      `koanf:"tls"`
	Timeouts Timeouts `koanf:"timeouts"`
}

// TLS names the files for an https upstream. They are read again, all together,
// when one of them changes.
type TLS struct {
	// CA is a PEM bundle that replaces the system's authorities, for an https proxy
	// too.
	CA string `koanf:"ca"`
	// Certificate is a PEM file with the client certificate and its chain, Key the
	// one with its unencrypted private key; it may be the same file.
	Certificate string `koanf:"certificate"`
	Key         string `koanf:"key"`
	// ServerName is expected in the upstream's certificate instead of the host in
	// its URL.
	ServerName string `koanf:"server_name"`
}

// Timeouts bound the phases of one request.
type Timeouts struct {
	Dial   time.Duration `koanf:"dial"`   // name resolution and TCP connect
	TLS    time.Duration `koanf:"tls"`    // one TLS handshake
	Header time.Duration `koanf:"header"` // from the request sent to the answer's header
	Total  time.Duration `koanf:"total"`  // everything, to the last byte of the answer
}

// maxTotal is what pkg/refresh gives one attempt; nobody would wait for more.
const maxTotal = time.Minute

// Defaults returns the options of an upstream that sets none.
func Defaults() Options {
	return Options{Timeouts: Timeouts{
		Dial:   3 * time.Second,
		TLS:    5 * time.Second,
		Header: 10 * time.Second,
		Total:  15 * time.Second,
	}}
}

// Validate reports every error of form, each beginning with its key. It opens no
// file and asks nobody.
func (o *Options) Validate() error {
	var all []error
	fault := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }

	if _, err := newProxy(o); err != nil {
		all = append(all, err)
	}
	if o.Proxy == "" && (o.ProxyUser != "" || !o.ProxyPassword.IsZero() || len(o.NoProxy) > 0) {
		fault("proxy: missing, but proxy_user, proxy_password or no_proxy is set")
	}
	if o.ProxyUser == "" && !o.ProxyPassword.IsZero() {
		fault("proxy_user: missing, but proxy_password is set")
	}
	if o.TLS.Certificate != "" && o.TLS.Key == "" {
		fault("tls.key: missing, but tls.certificate is set")
	}
	if o.TLS.Key != "" && o.TLS.Certificate == "" {
		fault("tls.certificate: missing, but tls.key is set")
	}
	for _, t := range []struct {
		key   string
		value time.Duration
	}{
		{"dial", o.Timeouts.Dial}, {"tls", o.Timeouts.TLS}, {"header", o.Timeouts.Header}, {"total", o.Timeouts.Total},
	} {
		if t.value <= 0 || t.value > maxTotal {
			fault("timeouts.%s: %v is not between 0s and %v", t.key, t.value, maxTotal)
		}
	}
	return errors.Join(all...)
}

// Files lists the files that the options name and that are read again later.
func (o *Options) Files() []string {
	var files []string
	for _, path := range []string{o.TLS.CA, o.TLS.Certificate, o.TLS.Key, o.ProxyPassword.File} {
		if path != "" {
			files = append(files, path)
		}
	}
	return files
}

// ParseURL parses the address of an upstream or a proxy: http or https with an
// ASCII host, and no user, query or fragment, since those would show in messages.
// Its errors quote nothing: what is no URL may still hold a password.
func ParseURL(raw string) (*url.URL, error) {
	if strings.Contains(raw, "@") { // however misspelt the rest is
		return nil, errors.New("holds an @; a user or password does not belong in a URL")
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, errors.New("not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("does not begin with http:// or https://")
	case u.Hostname() == "":
		return nil, errors.New("has no host")
	case !isASCII(u.Host):
		return nil, errors.New("write the host name in its ASCII form (xn--...)")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("has a query or a fragment")
	}
	return u, nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
