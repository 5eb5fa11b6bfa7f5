package harness

import (
	"net"
	"os"
	"testing"
)

func TestNamespaceRedirectsTheMetadataAddresses(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	n, err := NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Delete(); err != nil {
			t.Error(err)
		}
	})
	const port = 25772
	for name, c := range map[string]struct {
		listen, dial, peer string
		redirect           func(int) error
	}{
		"IPv4": {"127.0.0.1:25772", "169.254.169.254:80", HostIPv4, n.Redirect},
		"IPv6": {"[::1]:25772", "[fd00:ec2::254]:80", HostIPv6, n.RedirectIPv6},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := n.Listen(c.listen)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if err := c.redirect(port); err != nil {
				t.Fatal(err)
			}
			client, err := n.Dial("tcp", c.dial)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			server, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			if got := server.RemoteAddr().(*net.TCPAddr).IP.String(); got != c.peer {
				t.Errorf("the redirected client seems to be %s, want the host's outward address %s", got, c.peer)
			}
		})
	}
}
