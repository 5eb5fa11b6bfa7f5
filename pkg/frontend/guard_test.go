package frontend

import (
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
)

var local = netip.MustParseAddrPort("127.0.0.1:25772")

func request(host, proto string, header http.Header) *http.Request {
	major, minor, _ := http.ParseHTTPVersion(proto)
	return &http.Request{Method: http.MethodGet, Host: host, ProtoMajor: major, ProtoMinor: minor, Header: header}
}

func TestGuardKnowsTheHostsOfMetadataServices(t *testing.T) {
	guard := NewGuard(local, "metadata.google.internal", "[fd20:ce::254]", "fd00:ec2::254", "Creds.Example.com", "")
	for _, test := range []struct {
		host  string
		known bool
	}{
		{"169.254.169.254", true},
		{"169.254.170.2", true},
		{"169.254.170.23", true},
		{"[fd00:ec2::254]", true},
		{"[FD00:EC2:0:0::254]:80", true},
		{"[::ffff:169.254.169.254]", true},
		{"localhost", true},
		{"LocalHost:25772", true},
		{"127.0.0.1:25772", true},
		{"127.9.9.9:25772", true},
		{"[::1]:25772", true},
		{"[::ffff:127.0.0.1]", true},
		{"169.254.169.254:80", true},
		{"localhost:", true},
		{"metadata.google.internal", true},
		{"metadata.google.internal.", true},
		{"[fd20:ce::254]", true},
		{"creds.example.com:25772", true},

		{"evil.example", false},
		{"evil.example:25772", false},
		{"localhost.evil.example", false},
		{"127.0.0.1.evil.example", false},
		{"[fd00:ec2::23]", false}, // of a dialect that is not spoken here
		{"10.0.0.1", false},
		{"0.0.0.0", false},
		{"2130706433", false},
		{"127.1", false},
		{"[fe80::1]", false},
		{"[::1", false},
		{"[::1]evil", false},
		{"::1", false},
		{":25772", false},
		{".", false},
		{"[]", false},
		{"localhost:8080", false},
		{"localhost:025772", false},
		{"localhost:80:80", false},
		{"[::1]:443", false},
	} {
		reason := guard.Check(request(test.host, "HTTP/1.1", nil))
		if known := reason == ""; known != test.known {
			t.Errorf("Host %q: known %v, want %v (%s)", test.host, known, test.known, reason)
		}
	}
}

func TestGuardKnowsTheAddressOfItsListener(t *testing.T) {
	for _, test := range []struct {
		listener, host string
		known          bool
	}{
		{"10.9.8.7:25780", "10.9.8.7:25780", true},
		{"10.9.8.7:25780", "10.9.8.7", true},
		{"10.9.8.7:25780", "[::ffff:10.9.8.7]:25780", true},
		{"10.9.8.7:25780", "10.9.8.7:25772", false},
		{"10.9.8.7:25780", "10.9.8.6:25780", false},
		{"[::ffff:10.9.8.7]:25780", "10.9.8.7:25780", true},
		{"[fd00::2]:25780", "[FD00:0::2]:25780", true},
		{"[fe80::1%eth0]:25780", "[fe80::1]:25780", true}, // clients send no zone
		{"[fe80::1%eth0]:25780", "[fe80::2]:25780", false},
		{"0.0.0.0:25780", "0.0.0.0:25780", false},
		{"0.0.0.0:25780", "10.9.8.7:25780", false},
		{"[::]:25780", "[::]:25780", false},
	} {
		reason := NewGuard(netip.MustParseAddrPort(test.listener)).Check(request(test.host, "HTTP/1.1", nil))
		if known := reason == ""; known != test.known {
			t.Errorf("%s, Host %q: known %v, want %v (%s)", test.listener, test.host, known, test.known, reason)
		}
	}
}

func TestGuardLetsOnlyOldClientsOmitTheHost(t *testing.T) {
	guard := NewGuard(local)
	if reason := guard.Check(request("", "HTTP/1.0", nil)); reason != "" {
		t.Errorf("HTTP/1.0 without Host was refused: %s", reason)
	}
	if guard.Check(request("", "HTTP/1.1", nil)) == "" {
		t.Error("HTTP/1.1 with an empty Host passed")
	}
	if guard.Check(request("evil.example", "HTTP/1.0", nil)) == "" {
		t.Error("HTTP/1.0 with a foreign Host passed")
	}
}

func TestGuardRefusesForwardedRequests(t *testing.T) {
	guard := NewGuard(local)
	for _, test := range []struct {
		name    string
		values  []string
		refused bool
	}{
		{"absent", nil, false},
		{"empty", []string{""}, false},
		{"one address", []string{"1.2.3.4"}, true},
		{"an empty line, then an address", []string{"", "1.2.3.4"}, true},
	} {
		reason := guard.Check(request("localhost", "HTTP/1.1", http.Header{"X-Forwarded-For": test.values}))
		if refused := reason != ""; refused != test.refused {
			t.Errorf("%s: refused %v, want %v (%s)", test.name, refused, test.refused, reason)
		}
	}
}

func TestGuardBoundsWhatItTellsTheLog(t *testing.T) {
	guard := NewGuard(local)
	for _, host := range []string{strings.Repeat("x", 8000), "localhost:" + strings.Repeat("9", 8000), "a\nb"} {
		reason := guard.Check(request(host, "HTTP/1.1", nil))
		if reason == "" || len(reason) > 200 || strings.ContainsAny(reason, "\n\r") {
			t.Errorf("Host of %d bytes: reason %.200q of %d bytes", len(host), reason, len(reason))
		}
	}
}

func TestGuardDoesNotAllocateForRequestsThatPass(t *testing.T) {
	guard := NewGuard(local, "metadata.google.internal", "fd00:ec2::254")
	for _, host := range []string{"169.254.169.254", "127.0.0.1:25772", "localhost:25772", "[::1]:25772", "[fd00:ec2::254]", "metadata.google.internal"} {
		r := request(host, "HTTP/1.1", http.Header{"X-Forwarded-For": {""}})
		allocations := testing.AllocsPerRun(100, func() {
			if reason := guard.Check(r); reason != "" {
				t.Fatal(reason)
			}
		})
		if allocations != 0 {
			t.Errorf("Host %q: %v allocations", host, allocations)
		}
	}
}

func FuzzGuard(f *testing.F) {
	for _, seed := range []string{"169.254.169.254", "[::1]:80", "localhost:25772", "[", "]", "[]:", "::", "evil.example:80", "127.0.0.1%eth0", "[::1%25lo]:80"} {
		f.Add(seed)
	}
	guard := NewGuard(local)
	f.Fuzz(func(t *testing.T, host string) {
		if guard.Check(request(host, "HTTP/1.1", nil)) != "" || strings.Contains(host, "%") {
			return
		}
		u, err := url.Parse("http://" + host) // another parser's opinion
		if err != nil {
			t.Fatalf("Host %q passed: %v", host, err)
		}
		name := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
		address, err := netip.ParseAddr(name)
		link := err == nil && slices.Contains([]string{MetadataAddress, ContainerAddress, PodIdentityAddress}, address.Unmap().String())
		if name != "localhost" && !link && !address.Unmap().IsLoopback() {
			t.Errorf("Host %q passed as %q", host, name)
		}
		if port := u.Port(); port != "" && port != "80" && port != "25772" {
			t.Errorf("Host %q passed with port %q", host, port)
		}
	})
}
