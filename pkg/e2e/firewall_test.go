package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// A firewalled is a host with Purser from its package, the redirect as a unit, and a
// real firewall that somebody else operates.
type firewalled struct{ *installed }

// TestRedirectSurvivesTheFirewallsOfOthers has one firewall after the other on one host.
func TestRedirectSurvivesTheFirewallsOfOthers(t *testing.T) {
	needsPackages(t)
	h := &firewalled{&installed{bootBare(t, "--role", "test_role", "--role", "finance"), debian}}
	h.firewall("nftables") // as the package of Purser recommends
	must(t, h.Copy(debian.path(dist(t), "purser", released(t)), "/srv/purser.deb"))
	h.must("systemctl", "start", "nftables") // so that systemd has it in memory as it was
	h.must("dpkg", "--install", "/srv/purser.deb")
	if files, err := h.Show("nftables", "DropInPaths"); err != nil || !strings.Contains(files, "purser-redirect.conf") {
		t.Errorf("after the installation nftables has the drop-ins %q, %v", files, err)
	}
	h.asks(h.upstream.URL + "/latest")
	must(t, h.Write("/etc/purser/conf.d/60-listen.yaml", "listen: {main: {dialects: [aws]}, six: {address: \"[::1]:25772\", dialects: [aws]}}\n", 0o644))
	h.must("systemctl", "enable", "--now", "purser", "purser-redirect")
	for _, firewall := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"nftables", h.nftables},
		{"firewalld", h.firewalld},
		{"ufw", h.ufw},
		{"netfilter-persistent", h.netfilterPersistent},
	} {
		if !t.Run(firewall.name, func(t *testing.T) { h.t = t; firewall.run(t) }) {
			break
		}
	}
	h.t = t
}

// firewall installs packages of one. Debian starts what it installs, but for nftables.
func (h *firewalled) firewall(packages ...string) {
	h.t.Helper()
	// firewalld wants polkit and NetworkManager's types, and needs neither.
	h.must("sh", "-c", "cd /srv && DEBIAN_FRONTEND=noninteractive dpkg --force-depends --install "+strings.Join(packages, "_*.deb ")+"_*.deb")
}

// with has the unit use one of Purser's backends.
func (h *firewalled) with(backend string) {
	h.t.Helper()
	command := "=/usr/bin/purser redirect install --with " + backend + "\n"
	must(h.t, h.Write("/etc/systemd/system/purser-redirect.service.d/with.conf",
		"[Service]\nExecStart=\nExecStart"+command+"ExecReload=\nExecReload"+command, 0o644))
	h.must("systemctl", "daemon-reload")
	h.must("systemctl", "restart", "purser-redirect")
}

// operate does what an operator does, and waits for all that systemd does in turn.
func (h *firewalled) operate(command string) {
	h.t.Helper()
	h.must("sh", "-ec", command)
	must(h.t, harness.Await(10*time.Second, func() error {
		jobs, err := h.Must("systemctl", "list-jobs", "--no-legend")
		if err == nil && strings.TrimSpace(jobs) != "" && !strings.Contains(jobs, "No jobs") {
			err = fmt.Errorf("still to be done: %s", jobs)
		}
		return err
	}))
}

// expectLed asks as a user of the host, and has `purser redirect check` agree.
func (h *firewalled) expectLed() {
	h.t.Helper()
	h.expectRole("daemon", "test_role")
	if _, err := h.Must("purser", "redirect", "check"); err != nil {
		h.t.Error(err)
		h.t.Log(h.must("sh", "-c", "grep dport=80 /proc/net/nf_conntrack; nft list ruleset"))
	}
}

// expectCheck runs `purser redirect check`, which is to fail and say this of an address.
func (h *firewalled) expectCheck(address, want string) {
	h.t.Helper()
	r, err := h.Run("purser", "redirect", "check")
	must(h.t, err)
	if want = address + " cannot be reached: " + want; r.Exit != 1 || !strings.Contains(r.Stderr, want) {
		h.t.Errorf("check ended with %d and said %s%s, want %q", r.Exit, r.Stdout, r.Stderr, want)
	}
}

const (
	metadataIPv4 = "169.254.169.254:80"
	metadataIPv6 = "[fd00:ec2::254]:80"
	notThere     = "the rule is not there, or no more: "
)

// An operation is a command of an operator.
type operation struct {
	command string
	// removes are the backends whose rules it removes without systemd's knowledge.
	removes []string
}

// survive does all operations, with each of Purser's backends.
func (h *firewalled) survive(t *testing.T, backends []string, operations []operation) {
	for _, backend := range backends {
		h.with(backend)
		for _, o := range operations {
			t.Run(backend+": "+o.command, func(t *testing.T) {
				h.t = t
				h.operate(o.command)
				if slices.Contains(o.removes, backend) {
					h.expectCheck(metadataIPv4, notThere)
					h.operate("systemctl reload-or-restart purser-redirect") // as it says
				}
				h.expectLed()
			})
		}
	}
	h.t = t
}

func (h *firewalled) nftables(t *testing.T) {
	h.survive(t, []string{"nft", "iptables-nft"}, []operation{
		{"systemctl start nftables", nil},
		{"systemctl reload nftables", nil},
		{"systemctl restart nftables", nil},
		{"systemctl stop nftables", nil},
		{"nft -f /etc/nftables.conf", []string{"nft", "iptables-nft"}},
	})
}

func (h *firewalled) firewalld(t *testing.T) {
	h.with("nft")
	h.firewall("python3-firewall", "firewalld")
	h.operate("firewall-cmd --state") // which waits until its rules are in force
	h.expectRole("daemon", "test_role")
	h.expectCheck(metadataIPv6, "an unreachable route is in the way, see `ip route get fd00:ec2::254`, or a firewall denies what goes out: "+
		"let it allow TCP to [::1]:25772, or have it pass as loopback's: ip route add fd00:ec2::254 dev lo src ::1")
	h.operate("ip route add fd00:ec2::254 dev lo src ::1") // as it says
	h.expectLed()
	for _, backend := range []string{"nftables", "iptables"} {
		h.must("sed", "-i", "s/^FirewallBackend=.*/FirewallBackend="+backend+"/", "/etc/firewalld/firewalld.conf")
		t.Run("its backend "+backend, func(t *testing.T) {
			h.survive(t, []string{"nft"}, []operation{
				{"systemctl restart firewalld; firewall-cmd --set-default-zone=drop", nil},
				{"systemctl reload firewalld; firewall-cmd --state", nil},
				{"firewall-cmd --reload", nil},
				{"firewall-cmd --complete-reload", nil},
				{"systemctl stop firewalld; systemctl start nftables", nil},
				{"systemctl start firewalld; firewall-cmd --state", nil}, // which stops nftables
			})
		})
	}
	h.t = t
	h.survive(t, []string{"iptables-nft"}, []operation{{"firewall-cmd --reload", []string{"iptables-nft"}}})
	if said := h.must("journalctl", "--no-pager", "-o", "cat", "-u", "purser-redirect"); !strings.Contains(said, "each reload of firewalld may remove rules of iptables") {
		t.Errorf("with rules of iptables beside firewalld, purser-redirect says only\n%s", said)
	}
	h.must("systemctl", "disable", "--now", "firewalld")
	h.must("ip", "route", "delete", "fd00:ec2::254", "dev", "lo")
}

func (h *firewalled) ufw(t *testing.T) {
	h.firewall("ufw")
	h.survive(t, []string{"nft", "iptables-nft"}, []operation{
		{"ufw --force enable; ufw default deny incoming", nil},
		{"ufw reload", nil},
		{"ufw disable; ufw --force enable", nil},
		{"systemctl restart ufw", nil},
	})
	h.must("sed", "-i", "s/^MANAGE_BUILTINS=.*/MANAGE_BUILTINS=yes/", "/etc/default/ufw")
	h.survive(t, []string{"iptables-nft", "nft"}, []operation{
		{"systemctl restart ufw # that removes the rules of others", nil},
		{"ufw reload # that removes the rules of others", []string{"iptables-nft"}},
	})

	h.operate("ufw default deny outgoing")
	h.expectCheck(metadataIPv4, "no answer: another rule comes before the one that is there, or a firewall denies what goes out: let it allow TCP to 127.0.0.1:25772")
	h.operate("ufw allow out to 127.0.0.1 port 25772 proto tcp; ufw allow out to ::1 port 25772 proto tcp")
	h.expectLed()
	h.operate("ufw --force delete 1; ufw --force delete 1; ufw default reject outgoing")
	h.expectCheck(metadataIPv4, "the connection is refused, though the rule is there: a firewall denies what goes out")
	h.operate("ip route add 169.254.169.254 dev lo src 127.0.0.1; ip route add fd00:ec2::254 dev lo src ::1") // as it says
	h.expectLed()
	h.must("sh", "-ec", "ip route delete 169.254.169.254 dev lo; ip route delete fd00:ec2::254 dev lo; ufw disable; dpkg --purge ufw")
}

func (h *firewalled) netfilterPersistent(t *testing.T) {
	h.firewall("netfilter-persistent", "iptables-persistent")
	for _, version := range []string{"4", "6"} {
		must(t, h.Write("/etc/iptables/rules.v"+version, "*nat\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n*filter\n:INPUT DROP [0:0]\n-A INPUT -i lo -j ACCEPT\nCOMMIT\n", 0o640))
	}
	h.survive(t, []string{"nft", "iptables-nft"}, []operation{
		{"systemctl restart netfilter-persistent", nil},
		{"systemctl stop netfilter-persistent; systemctl start netfilter-persistent", nil},
		{"netfilter-persistent reload", []string{"iptables-nft"}},
		{"netfilter-persistent flush", []string{"iptables-nft"}},
	})
}
