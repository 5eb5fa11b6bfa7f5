package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/purser-agent/purser/pkg/redirect"
)

func TestARuleThatMisleadsIsFoundBesideAListenerThatIsDown(t *testing.T) {
	var asked atomic.Int64
	ours := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut:
			_, _ = w.Write([]byte("ours"))
		case r.Header.Get("X-aws-ec2-metadata-token") != "ours":
			asked.Add(1)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer ours.Close()
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = free.Close()
	address := func(a net.Addr) netip.AddrPort { return netip.MustParseAddrPort(a.String()) }
	up, web, down := address(ours.Listener.Addr()), address(other.Listener.Addr()), address(free.Addr())
	for _, c := range []struct {
		name  string
		rules []redirect.Rule
		leads netip.AddrPort // what is sent to up, by the firewall; not valid if nobody can see that
		tried bool
		said  string
		wrong []string // lines of the error
	}{
		{"all is well", []redirect.Rule{{From: up, To: up}, {From: up, To: up}}, up, true, strings.Repeat("redirect: ok, "+up.String()+" to "+up.String()+"\n", 2), nil},
		{"nobody can see the rules", []redirect.Rule{{From: up, To: up}}, netip.AddrPort{}, true, "redirect: ok, " + up.String() + " to " + up.String() + "\n", nil},
		{"one listener is down, and one rule leads elsewhere", []redirect.Rule{{From: up, To: down}, {From: up, To: down}, {From: web, To: up}}, down, true, "",
			[]string{"no listener answers on " + down.String() + ": ", web.String() + " cannot be reached: it answers 404"}},
		{"nothing runs", []redirect.Rule{{From: up, To: down}}, netip.AddrPort{}, false, "", []string{"no listener answers on " + down.String() + ": "}},
		{"nothing runs, and the rule is of another configuration", []redirect.Rule{{From: up, To: down}}, web, true, "",
			[]string{up.String() + ": the rule leads to " + web.String() + ", the configuration says " + down.String() + "; run purser redirect install"}},
		{"there is no rule", nil, netip.AddrPort{}, true, "", []string{errNoRule.Error()}},
	} {
		asked.Store(0)
		var out strings.Builder
		tried, err := tryRules(t.Context(), c.rules, sights{up: {Known: c.leads.IsValid(), To: c.leads}}, &out)
		var lines []string
		if err != nil {
			lines = strings.Split(err.Error(), "\n")
		}
		good := len(lines) == len(c.wrong)
		for i := range min(len(lines), len(c.wrong)) {
			good = good && strings.HasPrefix(lines[i], c.wrong[i])
		}
		if tried != c.tried || out.String() != c.said || !good || asked.Load() > 1 {
			t.Errorf("%s: tried %v, said %q, the listener was asked %d times, and the error is\n%v", c.name, tried, out.String(), asked.Load(), err)
		}
	}
}
