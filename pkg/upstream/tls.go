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
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// A keyring holds the transport made from the TLS files as they were last good, and
// makes another when they have changed.
type keyring struct {
	options Options
	proxy   *proxy
	log     zerolog.Logger

	mu      sync.Mutex
	seen    string            // fingerprint of the files at the last attempt to load them
	fault   error             // why that attempt gave nothing new
	current *http.Transport   // nil until the first success
	leaf    *x509.Certificate // of the client certificate; nil without one
}

// transport returns the transport for one request. With files that changed but
// cannot be used it returns the former one together with the reason.
func (k *keyring) transport() (*http.Transport, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	files := k.files()
	seen := Fingerprint(files)
	if k.current != nil && seen == k.seen {
		return k.current, k.fault
	}
	material, err := k.load(files, seen)
	if err != nil {
		if seen != k.seen && k.current != nil {
			k.log.Warn().Err(err).Msg("changed certificate files cannot be used, keeping the former ones")
		}
		k.seen, k.fault = seen, err
		return k.current, err
	}
	if k.current != nil {
		k.log.Info().Msg("certificate files changed and are in use")
	}
	k.seen, k.fault, k.leaf = seen, nil, material.leaf()
	k.current = k.newTransport(material)
	return k.current, nil
}

// hint explains a failed handshake with what is known of our own certificate.
func (k *keyring) hint(fault error) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case fault != nil:
		return fmt.Sprintf("; the certificate files changed but cannot be used: %v", fault)
	case k.leaf != nil && time.Now().After(k.leaf.NotAfter):
		return fmt.Sprintf("; our own certificate %s expired on %s", k.options.TLS.Certificate, k.leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return ""
}

func (k *keyring) files() []string {
	return []string{k.options.TLS.CA, k.options.TLS.Certificate, k.options.TLS.Key}
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

var errRotating = errors.New("the certificate files are being replaced")

// load reads all files and makes sure that they did not change meanwhile, so that
// nothing of an old set is mixed with a new one.
func (k *keyring) load(files []string, before string) (material, error) {
	for range 3 {
		m, err := readMaterial(k.options.TLS)
		after := Fingerprint(files)
		if after == before {
			return m, err
		}
		before = after
	}
	return material{}, errRotating
}

func readMaterial(o TLS) (material, error) {
	var m material
	if o.CA != "" {
		text, err := ReadFile(o.CA)
		if err != nil {
			return m, fmt.Errorf("tls.ca: %w", err)
		}
		if m.roots, err = parseRoots(text, x509.NewCertPool()); err != nil {
			return m, fmt.Errorf("tls.ca: %s: %w", o.CA, err)
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

// parseRoots adds the certificates of a PEM bundle to pool. Unlike
// AppendCertsFromPEM it does not pass over one that is broken.
func parseRoots(text []byte, pool *x509.CertPool) (*x509.CertPool, error) {
	found := 0
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		found++
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", found, err)
		}
		pool.AddCert(certificate)
	}
	if found == 0 {
		return nil, errors.New("there is no PEM certificate in it")
	}
	return pool, nil
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
