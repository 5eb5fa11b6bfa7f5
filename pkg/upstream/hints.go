package upstream

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// explain puts what Go says of certificates and time limits into words of ours, with the
// key that changes it.
func (c *Client) explain(e *Error) {
	text := e.Err.Error()
	name, wrongName := errors.AsType[x509.HostnameError](e.Err)
	_, unknown := errors.AsType[x509.UnknownAuthorityError](e.Err)
	switch {
	case e.Kind == ClassTLS && unknown && c.options.TLS.CA != "":
		e.Err = fmt.Errorf("the server's certificate is signed by an authority that is not in tls.ca (%s)", c.options.TLS.CA)
	case e.Kind == ClassTLS && unknown:
		e.Err = errors.New("the server's certificate is signed by an authority that is not trusted; set tls.ca")
	case e.Kind == ClassTLS && wrongName:
		hint := "; if that is the right server, set tls.server_name"
		if c.proxy != nil && name.Host == c.proxy.url.Hostname() { // tls.server_name is not for the proxy
			hint = ""
		}
		e.Err = fmt.Errorf("the server's certificate is for %s, not for %s%s", namesOf(name.Certificate), name.Host, hint)
	case e.Kind == ClassTimeout && strings.HasSuffix(text, "timeout awaiting response headers"):
		e.Err = fmt.Errorf("no answer within %v (timeouts.header)", c.options.Timeouts.Header)
	case e.Kind == ClassTimeout && strings.HasSuffix(text, "TLS handshake timeout"):
		e.Err = fmt.Errorf("no TLS handshake within %v (timeouts.tls)", c.options.Timeouts.TLS)
	}
}

// namesOf lists what a server's certificate is for, bounded.
func namesOf(certificate *x509.Certificate) string {
	const most = 5
	all := slices.Clone(certificate.DNSNames)
	for _, address := range certificate.IPAddresses {
		all = append(all, address.String())
	}
	switch {
	case len(all) == 0:
		return "no host at all"
	case len(all) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
	}
	return strings.Join(all, ", ")
}

// plainToTLS are parts of what servers answer who were asked by HTTP where they speak
// HTTPS: Go's, nginx, Apache.
var plainToTLS = []string{
	"Client sent an HTTP request to an HTTPS server",
	"The plain HTTP request was sent to HTTPS port",
	"speaking plain HTTP to an SSL-enabled server port",
}

// WantsHTTPS reports whether an answer to a request by HTTP looks like that of a server
// which speaks HTTPS.
func (a *Answer) WantsHTTPS() bool {
	return a.Status == http.StatusBadRequest && strings.Contains(a.tried, " http://") &&
		slices.ContainsFunc(plainToTLS, func(text string) bool { return strings.Contains(string(a.Body), text) })
}
