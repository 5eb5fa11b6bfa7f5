package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/rs/zerolog"
)

// A keyring holds the transport made from the TLS files as they were last good.
type keyring struct {
	options Options
	proxy   *proxy
	kept    *Kept[*transport]
}

// A transport is the one for one state of the files.
type transport struct {
	*http.Transport
	leaf *x509.Certificate // of the client certificate; nil without one
}

func newKeyring(o Options, p *proxy, log zerolog.Logger) *keyring {
	k := &keyring{options: o, proxy: p}
	files := []string{o.TLS.CA, o.TLS.Certificate, o.TLS.Key}
	k.kept = Keep(files, func() (*transport, error) {
		m, err := readMaterial(o.TLS)
		if err != nil {
			return nil, err
		}
		return &transport{k.newTransport(m), m.leaf()}, nil
	}, log)
	return k
}

// hint explains a failed handshake with what is known of our own certificate.
func (k *keyring) hint(used *transport, fault error) string {
	switch {
	case fault != nil:
		return fmt.Sprintf("; the certificate files changed but cannot be used: %v", fault)
	case used.leaf != nil && time.Now().After(used.leaf.NotAfter):
		return fmt.Sprintf("; our own certificate %s expired on %s", k.options.TLS.Certificate, used.leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return ""
}

type material struct {
	roots       *x509.CertPool   // nil for the system's
	certificate *tls.Certificate // nil for none
}

func (m material) leaf() *x509.Certificate {
	if m.certificate == nil {
		return nil
	}
	return m.certificate.Leaf
}

func readMaterial(o TLS) (material, error) {
	var m material
	if o.CA != "" {
		text, err := ReadFile(o.CA)
		if err != nil {
			return m, fmt.Errorf("tls.ca: %w", err)
		}
		roots, err := ParseCertificates(text)
		if err != nil {
			return m, fmt.Errorf("tls.ca: %s: %w", o.CA, err)
		}
		m.roots = x509.NewCertPool()
		for _, root := range roots {
			m.roots.AddCert(root)
		}
	}
	if o.Certificate == "" {
		return m, nil
	}
	chain, err := ReadFile(o.Certificate)
	if err != nil {
		return m, fmt.Errorf("tls.certificate: %w", err)
	}
	key, err := ReadFile(o.Key)
	if err != nil {
		return m, fmt.Errorf("tls.key: %w", err)
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return m, fmt.Errorf("tls.certificate %s with tls.key %s: %w", o.Certificate, o.Key, err)
	}
	m.certificate = &pair
	return m, nil
}

// ParseCertificates reads the certificates of a PEM text, one at least. Unlike
// AppendCertsFromPEM it does not pass over one that is broken.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(all)+1, err)
		}
		all = append(all, certificate)
	}
	if all == nil {
		return nil, errors.New("there is no PEM certificate in it")
	}
	return all, nil
}

// newTransport makes the transport for one state of the files. It keeps no
// connection: requests are minutes apart, a fresh one meets the present addresses
// and certificates, nothing is ever sent twice, and what a confused server sends
// after its answer is dropped rather than logged by net/http.
func (k *keyring) newTransport(m material) *http.Transport {
	dialer := &net.Dialer{Timeout: k.options.Timeouts.Dial}
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: m.roots, ServerName: k.options.TLS.ServerName}
	if m.certificate != nil {
		// Without this a certificate that the server's list of authorities does not
		// cover would be left out silently.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return m.certificate, nil
		}
	}
	t := &http.Transport{
		Proxy:                  k.proxy.forRequest,
		OnProxyConnectResponse: checkConnect,
		DialContext:            dialSocket(dialer),
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    k.options.Timeouts.TLS,
		ResponseHeaderTimeout:  k.options.Timeouts.Header,
		MaxResponseHeaderBytes: maxHeader,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	if k.proxy != nil && k.proxy.url.Scheme == "https" {
		t.DialTLSContext = k.dialTLS(dialer, config)
	}
	return t
}

// dialSocket dials what WithSocket says instead of the address.
func dialSocket(dialer *net.Dialer) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if socket := socketOf(ctx); socket != "" {
			network, address = "unix", socket
		}
		return dialer.DialContext(ctx, network, address)
	}
}

// dialTLS makes the first TLS connection where there is an https proxy: to the
// proxy, which must get neither the client certificate nor the name that are meant
// for the upstream, or straight to an exempted upstream. The one inside the proxy's
// tunnel is the transport's own.
func (k *keyring) dialTLS(dialer *net.Dialer, config *tls.Config) func(context.Context, string, string) (net.Conn, error) {
	proxyHost, proxyPort := hostPort(k.proxy.url)
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		config := config.Clone()
		if canonicalHost(host) == proxyHost && port == proxyPort {
			config.GetClientCertificate, config.ServerName = nil, ""
		}
		if config.ServerName == "" {
			config.ServerName = host
		}
		ctx, cancel := context.WithTimeout(ctx, k.options.Timeouts.TLS)
		defer cancel()
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return secure, nil
	}
}
