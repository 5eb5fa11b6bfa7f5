package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// A redirected is an agent in a namespace whose firewall it manages.
type redirected struct {
	t      *testing.T
	inside *harness.Namespace
	agent  *harness.Agent
}

func startRedirected(t *testing.T) *redirected {
	t.Helper()
	inside := namespace(t)
	mock := startMock(t)
	ims := newRecorder(t, loopback(t, inside), mock.Server())
	r := &redirected{t, inside, startAgent(t, harness.AgentOptions{Namespace: inside, Config: upstream(ims.URL+"/latest") + everything})}
	t.Cleanup(func() { r.must("remove") }) // what is remembered of it, too
	return r
}

// do runs one of the commands as root.
func (r *redirected) do(args ...string) harness.Result {
	r.t.Helper()
	result, err := r.agent.Run(append([]string{"redirect"}, args...)...)
	must(r.t, err)
	return result
}

func (r *redirected) must(args ...string) string {
	r.t.Helper()
	result := r.do(args...)
	if result.Exit != 0 {
		r.t.Fatalf("purser redirect %s ended with %d: %s", strings.Join(args, " "), result.Exit, result.Stderr)
	}
	return result.Stdout
}

// firewall runs a tool in the namespace.
func (r *redirected) firewall(line string) string {
	r.t.Helper()
	args := strings.Fields(line)
	result, err := harness.Command{Path: "/usr/sbin/" + args[0], Args: args[1:], Namespace: r.inside}.Run()
	must(r.t, err)
	if result.Exit != 0 {
		r.t.Fatalf("%s ended with %d: %s", line, result.Exit, result.Stderr)
	}
	return result.Stdout
}

// expectCheck runs `purser redirect check` and compares what it says.
func (r *redirected) expectCheck(what, want string) {
	r.t.Helper()
	result := r.do("check")
	switch {
	case want == "" && result.Exit != 0, want != "" && (result.Exit != 1 || !strings.Contains(result.Stderr, want)):
		r.t.Errorf("%s: check ended with %d and said %s%s, want %q", what, result.Exit, result.Stdout, result.Stderr, want)
	}
}

func TestRedirectIsInstalledOnceAndRemovedWithoutATrace(t *testing.T) {
	needsRoot(t)
	for _, backend := range []struct{ name, list string }{
		{"nft", "nft list ruleset"},
		{"iptables-nft", "iptables-nft -t nat -S"},
		{"iptables-legacy", "iptables-legacy -t nat -S"},
	} {
		t.Run(backend.name, func(t *testing.T) {
			t.Parallel()
			r := startRedirected(t)
			r.firewall("iptables-nft -t nat -A OUTPUT -d 192.0.2.77 -p tcp -j DNAT --to-destination 127.0.0.1:9")
			r.firewall("nft add table ip somebody")
			foreign := r.firewall("nft list ruleset")
			before := r.firewall(backend.list)
			r.expectCheck("without a rule", "cannot be reached: the rule is not there, or no more: ")

			said := r.must("install", "--with", backend.name)
			if want := backend.name + ": 169.254.169.254:80 to " + r.agent.Address + "\n"; !strings.Contains(said, want) {
				t.Errorf("install says %q, want %q", said, want)
			}
			once := r.firewall(backend.list)
			r.must("install", "--with", backend.name)
			if twice := r.firewall(backend.list); twice != once {
				t.Errorf("after a second install there is\n%s\nafter the first\n%s", twice, once)
			}
			r.expectCheck("with the rule", "")
			client := caller{daemonUID, r.inside}
			for _, address := range []string{"169.254.169.254", "169.254.170.2"} {
				if status, _ := client.curl(t, "http://"+address+securityCredentials); status != 401 && status != 200 {
					t.Errorf("%s answers %d", address, status)
				}
			}
			checked, err := r.agent.Run("check")
			must(t, err)
			if checked.Exit != 0 || !strings.Contains(checked.Stdout, "redirect: ok, 169.254.169.254:80 to "+r.agent.Address) {
				t.Errorf("purser check ended with %d and said %s%s", checked.Exit, checked.Stdout, checked.Stderr)
			}

			r.must("remove")
			if after := r.firewall(backend.list); after != before {
				t.Errorf("remove left\n%s\nwhere there was\n%s", after, before)
			}
			if after := r.firewall("nft list ruleset"); backend.name != "iptables-legacy" && after != foreign {
				t.Errorf("what belongs to others has changed from\n%s\nto\n%s", foreign, after)
			}
			if said := r.must("remove"); said != "there was nothing to remove\n" {
				t.Errorf("a second remove says %q", said)
			}
		})
	}
}

func TestRedirectMovesFromOneBackendToAnother(t *testing.T) {
	needsRoot(t)
	r := startRedirected(t)
	r.must("install", "--with", "iptables-nft")
	r.must("install", "--with", "nft")
	if rules := r.firewall("iptables-nft -t nat -S"); strings.Contains(rules, "PURSER") {
		t.Errorf("the former backend still has\n%s", rules)
	}
	r.expectCheck("after the move", "")
}

// TestRulesOfAFormerConfigurationAreFound has the rules of an address that purser listened
// on before.
func TestRulesOfAFormerConfigurationAreFound(t *testing.T) {
	needsRoot(t)
	r := startRedirected(t)
	for _, backend := range []string{"nft", "iptables-nft", "iptables-legacy"} {
		command := r.agent.Command("redirect", "install", "--with", backend)
		command.Env = append(command.Env, "PURSER_LISTEN__MAIN__ADDRESS=127.0.0.1:25999")
		if installed, err := command.Run(); err != nil || installed.Exit != 0 {
			t.Fatalf("%s: install says %s, %v", backend, installed.Stderr, err)
		}
		want := "169.254.169.254:80: the rule leads to 127.0.0.1:25999, the configuration says " + r.agent.Address + "; run purser redirect install"
		r.expectCheck(backend, want)
		checked, err := r.agent.Run("check")
		must(t, err)
		if checked.Exit != 1 || !strings.Contains(checked.Stderr, "redirect: "+want) {
			t.Errorf("%s: purser check ended with %d and said %s%s", backend, checked.Exit, checked.Stdout, checked.Stderr)
		}
		r.must("install")
		r.expectCheck(backend+", installed again", "")
	}
}

// TestRedirectCheckSaysWhatIsInTheWay makes each fault for real.
func TestRedirectCheckSaysWhatIsInTheWay(t *testing.T) {
	needsRoot(t)
	r := startRedirected(t)
	other := newRecorder(t, loopback(t, r.inside), startMock(t).Server()) // some web server
	web := strings.TrimPrefix(other.URL, "http://")

	r.must("install", "--with", "nft")
	r.expectCheck("installed", "")
	r.firewall("nft flush ruleset")
	r.expectCheck("flushed by somebody", "cannot be reached: the rule is not there, or no more: ")
	command := r.agent.Command("redirect", "check")
	command.UID, command.GID = daemonUID, daemonUID
	asUser, err := command.Run()
	must(t, err)
	if want := "no answer: the rule is not there, which root can see, or another one comes first, or a firewall denies what goes out"; asUser.Exit != 1 || !strings.Contains(asUser.Stderr, want) {
		t.Errorf("to a user check says %s, want %q", asUser.Stderr, want)
	}
	checked, err := r.agent.Run("check")
	must(t, err)
	if checked.Exit != 1 || !strings.Contains(checked.Stderr, "redirect: 169.254.169.254:80 cannot be reached: the rule is not there, or no more: ") {
		t.Errorf("purser check ended with %d and said %s%s", checked.Exit, checked.Stdout, checked.Stderr)
	}

	r.must("install", "--with", "nft")
	r.firewall("nft add table ip shadow")
	r.firewall("nft add chain ip shadow output { type nat hook output priority -150 ; }")
	r.firewall("nft add rule ip shadow output ip daddr 169.254.169.254 tcp dport 80 dnat to " + web)
	r.expectCheck("shadowed", "where Purser gives a session token: the rule is missing or comes after that of another agent")
	r.firewall("nft delete table ip shadow")

	r.firewall("ip route add prohibit 169.254.169.254")
	r.expectCheck("a prohibit route", "169.254.169.254:80 cannot be reached: a prohibit route or a firewall forbids it")
	r.firewall("ip route del prohibit 169.254.169.254")
	r.firewall("ip route add blackhole 169.254.169.254")
	r.expectCheck("a blackhole route", "a blackhole route is in the way")
	r.firewall("ip route del blackhole 169.254.169.254")
	r.firewall("ip route del default")
	r.expectCheck("no route", "this host has no route to it, and the kernel looks for one before it applies the rule; add one, such as: ip route add 169.254.169.254 dev lo src 127.0.0.1")
	r.firewall("ip route add 169.254.169.254 dev lo src 127.0.0.1")
	r.firewall("ip route add 169.254.170.2 dev lo src 127.0.0.1")
	r.firewall("ip route add 169.254.170.23 dev lo src 127.0.0.1")
	r.expectCheck("the route that was advised", "")
	_, err = r.agent.Stop()
	must(t, err)
	r.expectCheck("stopped", "no listener answers on "+r.agent.Address+": connect: connection refused; start purser first")
}

func TestRedirectNeedsRootAndSaysSo(t *testing.T) {
	needsRoot(t)
	mock := startMock(t)
	agent := startAgent(t, harness.AgentOptions{Config: upstream(mock.URL()) + everything})
	for _, action := range []string{"install", "remove"} {
		command := agent.Command("redirect", action)
		command.UID, command.GID = daemonUID, daemonUID
		result, err := command.Run()
		must(t, err)
		if result.Exit != 1 || !strings.Contains(result.Stderr, "only root can change the firewall; use sudo") {
			t.Errorf("%s ended with %d: %s", action, result.Exit, result.Stderr)
		}
	}
	printed, err := agent.Run("redirect", "print", "--with", "nft")
	must(t, err)
	if !strings.Contains(printed.Stdout, fmt.Sprintf("ip daddr 169.254.169.254 tcp dport 80 fib saddr type local counter dnat to %s\n", agent.Address)) {
		t.Errorf("print says %s%s", printed.Stdout, printed.Stderr)
	}
}
