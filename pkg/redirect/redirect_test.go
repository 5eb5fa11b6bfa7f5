package redirect

import (
	"errors"
	"flag"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

func rules() []Rule {
	rules := []Rule{
		{netip.MustParseAddrPort("[fd00:ec2::254]:80"), netip.MustParseAddrPort("[::1]:25772")},
		{netip.MustParseAddrPort("169.254.170.2:80"), netip.MustParseAddrPort("127.0.0.1:25772")},
		{netip.MustParseAddrPort("169.254.169.254:80"), netip.MustParseAddrPort("127.0.0.1:25772")},
	}
	Sort(rules)
	return rules
}

func TestRulesArePrintedAsTheyAreInstalled(t *testing.T) {
	for name, got := range map[string]string{
		"nft":             nft("nft").Print(rules()),
		"nft-ipv4":        nft("nft").Print(rules()[:2]),
		"iptables-legacy": iptables("iptables-legacy").Print(rules()),
		"iptables":        iptables("iptables").Print(rules()[:2]),
	} {
		file := filepath.Join("testdata", name+".golden")
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
	}
}

func TestACloudIsKnownByItsFirmware(t *testing.T) {
	for _, c := range []struct{ file, text, want string }{
		{"sys_vendor", "Amazon EC2\n", "Amazon EC2"},
		{"product_name", "Google Compute Engine\n", "Google Compute Engine"},
		{"chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n", "Azure"},
		{"bios_version", "4.11.amazon\n", "Amazon EC2"},
		{"sys_vendor", "Dell Inc.\n", ""},
		{"product_name", "Virtual Machine\n", ""},
	} {
		folder := t.TempDir()
		if err := os.WriteFile(filepath.Join(folder, c.file), []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := cloudOf(folder); got != c.want {
			t.Errorf("%s %q: got %q, want %q", c.file, c.text, got, c.want)
		}
	}
}

// serve starts an HTTP server on loopback.
func serve(t *testing.T, handler http.HandlerFunc) netip.AddrPort {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

// service answers as the metadata service whose tokens are these.
func service(token string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut && r.URL.Path == tokenPath:
			_, _ = w.Write([]byte(token))
		case r.Header.Get(tokenHeader) == token:
			w.WriteHeader(http.StatusNotFound)
		default:
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
}

func closed(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}

func TestTheWayIsProvenByATokenThatOnlyPurserCanMake(t *testing.T) {
	ours := serve(t, service("ours"))
	web := serve(t, http.NotFound)
	for _, c := range []struct {
		name string
		from netip.AddrPort
		to   netip.AddrPort
		want string // in the error; empty for none
	}{
		{"itself", ours, ours, ""},
		{"another of the same kind", serve(t, service("theirs")), ours, "something else than Purser's listener " + ours.String() + " answers at "},
		{"one whose token is no token", serve(t, service("two\nlines")), ours, "something else than Purser's listener"},
		{"a web server", web, ours, "it answers 404 Not Found where Purser gives a session token"},
		{"nobody", closed(t), ours, " cannot be reached: the "},
		{"no Purser", ours, closed(t), "no listener answers on "},
		{"another in Purser's place", ours, web, "something else than Purser listens on " + web.String() + ": it answers 404 Not Found to a session token that is none"},
	} {
		err := CheckListener(t.Context(), c.to)
		if err == nil {
			err = Check(t.Context(), Rule{c.from, c.to}, Sight{})
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got error %v, want %q", c.name, err, c.want)
		}
		if idle := c.name == "no Purser"; errors.Is(err, ErrNotServing) != idle {
			t.Errorf("%s: that nobody is there is said: %v", c.name, !idle)
		}
	}
}

func TestAFailureIsExplainedByWhatIsKnownOfTheRule(t *testing.T) {
	slow := &net.OpError{Err: os.ErrDeadlineExceeded}
	unknown, absent, present := Sight{}, Sight{Known: true}, Sight{Known: true, To: rules()[1].To}
	for _, c := range []struct {
		err  error
		rule Sight
		want string // beginning
	}{
		{slow, absent, "the rule is not there, or no more: "},
		{syscall.EHOSTUNREACH, absent, "the rule is not there, or no more: "}, // a router said it
		{syscall.ECONNREFUSED, absent, "the rule is not there, or no more: "},
		{slow, present, "no answer: another rule comes before the one that is there, or a firewall denies what goes out: let it allow TCP to 127.0.0.1:25772, " +
			"or have it pass as loopback's: ip route add 169.254.170.2 dev lo src 127.0.0.1"},
		{syscall.EHOSTUNREACH, present, "an unreachable route is in the way, see `ip route get 169.254.170.2`, or a firewall denies"},
		{syscall.ECONNREFUSED, present, "the connection is refused, though the rule is there: a firewall denies"},
		{syscall.ECONNREFUSED, unknown, "the connection is refused: the rule leads to another port, see purser redirect install, or a firewall denies"},
		{slow, unknown, "no answer: the rule is not there, which root can see, or another one comes first, or a firewall denies"},
		{syscall.ENETUNREACH, absent, "this host has no route to it, and the kernel looks for one before it applies the rule; add one, such as: ip route add"},
		{syscall.EINVAL, absent, "a blackhole route is in the way"},
		{syscall.EACCES, absent, "a prohibit route or a firewall forbids it"},
	} {
		if got := explain(rules()[1], c.err, c.rule).Error(); !strings.HasPrefix(got, c.want) {
			t.Errorf("%v with the rule %v: got %q, want %q", c.err, c.rule, got, c.want)
		}
	}
}

func TestABackendThatIsNotThereIsAnErrorThatNamesThose(t *testing.T) {
	withTools(t, "iptables-legacy", "nft")
	if _, err := Choose(t.Context(), "pf"); err == nil || err.Error() != "there is no pf here, only nft, iptables-legacy" {
		t.Errorf("got error %v", err)
	}
	withTools(t)
	if _, err := Choose(t.Context(), ""); err == nil || err.Error() != "this host has neither nft nor iptables; install nftables or iptables" {
		t.Errorf("got error %v", err)
	}
}

func TestThePlainNameStandsForTheVariantThatItIs(t *testing.T) {
	for said, want := range map[string]string{
		"iptables v1.8.9 (nf_tables)\n": "iptables-nft",
		"iptables v1.8.9 (legacy)\n":    "iptables-legacy",
		"iptables v1.6.1\n":             "iptables-legacy",
	} {
		folder := withTools(t, "nft", "iptables", "iptables-nft", "iptables-legacy")
		if err := os.WriteFile(filepath.Join(folder, "version"), []byte(said), 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err := Choose(t.Context(), "iptables"); err != nil || b.Name != want {
			t.Errorf("%q: got %q, %v, want %s", said, b.Name, err, want)
		}
	}
}

func TestARuleIsPrintedOnAHostWithoutTools(t *testing.T) {
	withTools(t)
	for _, c := range []struct{ with, want string }{{"", "nft"}, {"nft", "nft"}, {"iptables", "iptables"}, {"iptables-nft", "iptables-nft"}} {
		if b, err := Form(c.with); err != nil || b.Name != c.want {
			t.Errorf("%q: got %s, %v", c.with, b.Name, err)
		}
	}
	if _, err := Form("pf"); err == nil || err.Error() != `"pf" is none of nft, iptables, iptables-nft and iptables-legacy` {
		t.Errorf("got error %v", err)
	}
}
