package vault

import (
	"errors"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/openbao/openbao/api/v2"

	"github.com/purser-agent/purser/pkg/upstream"
)

// An address is one place where Vault is asked.
type address struct {
	url    *url.URL // what goes before /v1/
	socket string   // where the requests go, if that is a Unix socket
	api    *api.Client
}

// String is the form for messages.
func (a address) String() string {
	if a.socket != "" {
		return "unix://" + a.socket
	}
	return a.url.String()
}

// parseAddress parses https://HOST:PORT, with a path in front of /v1/ perhaps, or
// unix:///PATH. Its errors quote nothing.
func parseAddress(raw string) (address, error) {
	if socket, ok := strings.CutPrefix(raw, "unix://"); ok {
		if !filepath.IsAbs(socket) || len(socket) > maxSocket {
			return address{}, errors.New("is no absolute path of a socket, such as unix:///run/vault-agent.sock")
		}
		return address{url: &url.URL{Scheme: "http", Host: "localhost"}, socket: socket}, nil
	}
	u, err := upstream.ParseURL(raw)
	if err != nil {
		return address{}, err
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	if u.Path == "/v1" || strings.HasSuffix(u.Path, "/v1") {
		return address{}, errors.New("ends with /v1, which is added by itself; leave it out")
	}
	return address{url: u}, nil
}

// maxSocket is the longest path of a socket that Linux takes.
const maxSocket = 107

// open reports whether requests to an address can be read on the way: without TLS, and
// not within this host.
func (a address) open() bool {
	if a.socket != "" || a.url.Scheme == "https" {
		return false
	}
	host := a.url.Hostname()
	ip, err := netip.ParseAddr(host)
	return host != "localhost" && (err != nil || !ip.IsLoopback())
}

// origin is what tells one server from another.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "80"
		if u.Scheme == "https" {
			port = "443"
		}
	}
	return strings.ToLower(u.Scheme + "://" + u.Hostname() + ":" + port)
}
