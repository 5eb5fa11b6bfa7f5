package main

import (
	"fmt"
	"net"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/purser-agent/purser/pkg/config"
	"github.com/purser-agent/purser/pkg/frontend/imds"
	"github.com/purser-agent/purser/pkg/server"
	"github.com/purser-agent/purser/pkg/testkit"
)

func TestListenersKnowTheNamesOfTheirOwnDialects(t *testing.T) {
	c := loadText(t, `listen:
  main: {address: "127.0.0.1:0", dialects: aws}
  pods: {address: "127.0.0.1:0", dialects: ecs, hosts: [creds.example.com]}
`)
	fronts := openFronts(t, c)
	for _, test := range []struct {
		host       string
		main, pods bool
	}{
		{"169.254.169.254", true, true},
		{"169.254.170.2", true, true},
		{"169.254.170.23", true, true},
		{"localhost", true, true},
		{"[fd00:ec2::254]", true, false},
		{"[fd00:ec2::23]", false, true},
		{"creds.example.com", false, true},
		{"evil.example.com", false, false},
	} {
		for name, want := range map[string]bool{"main": test.main, "pods": test.pods} {
			if why := refusal(fronts[name], test.host); (why == "") != want {
				t.Errorf("%s, Host %s: known is %v, want %v (%s)", name, test.host, why == "", want, why)
			}
		}
	}
}

func TestAListenerOnAnAddressOfThisHostKnowsIt(t *testing.T) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	var own netip.Addr
	for _, address := range addresses {
		if prefix, err := netip.ParsePrefix(address.String()); err == nil && prefix.Addr().IsGlobalUnicast() {
			own = prefix.Addr()
			break
		}
	}
	if !own.IsValid() {
		testkit.Lacks(t, "an address that is not loopback")
	}
	fronts := openFronts(t, loadText(t, fmt.Sprintf("listen: {main: null, lan: {address: %q}}", netip.AddrPortFrom(own, 0))))
	host := own.String()
	if own.Is6() {
		host = "[" + host + "]"
	}
	if why := refusal(fronts["lan"], host); why != "" {
		t.Error(why)
	}
	if refusal(fronts["lan"], "198.51.100.7") == "" {
		t.Error("another address is known")
	}
}

// openFronts binds the listeners of a configuration until the test ends.
func openFronts(t *testing.T, c *config.Config) map[string]*front {
	t.Helper()
	listeners, err := server.Listen(t.Context(), specs(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{keys: &localKeys{sessionTokens: imds.NewTokenKey()}, listeners: listeners}
	for _, l := range listeners {
		t.Cleanup(func() { _ = l.Close() })
	}
	fronts, err := a.newFronts(c)
	if err != nil {
		t.Fatal(err)
	}
	return fronts
}

func refusal(f *front, host string) string {
	r := httptest.NewRequest("GET", "/", nil)
	r.Host = host
	return f.guard.Check(r)
}
