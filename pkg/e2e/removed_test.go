package e2e

import (
	"slices"
	"strings"
	"testing"
)

func (h *installed) removal(t *testing.T) {
	if status := h.must("purser", "status"); strings.Contains(status, "refused") {
		t.Errorf("the sandbox refuses what Purser does:\n%s", status)
	}
	h.must("systemctl", "enable", "purser-file@daemon") // of which systemd alone knows
	h.remove()
	if rules := h.must("sh", "-c", "iptables-save; nft list ruleset || true"); strings.Contains(rules, "DNAT") {
		t.Errorf("rules left behind: %s", rules)
	}
	account, err := h.Run("getent", "passwd", "purser")
	must(t, err)
	if there := account.Exit == 0; there != (h.kind.target == "rpm") {
		t.Errorf("whether the account is left: %v", there)
	}
}

func (h *installed) removalOfAFailure(t *testing.T) {
	h.install(higher)
	must(t, h.Write("/etc/purser/conf.d/90-mistake.yaml", "lisen: {}\n", 0o644))
	if r, err := h.Run("systemctl", "start", "purser-redirect"); err != nil || r.Exit == 0 {
		t.Errorf("with a mistake in the configuration the redirect starts, %v", err)
	}
	h.must("rm", "/etc/purser/conf.d/90-mistake.yaml")
	if said := h.remove(); strings.Contains(said, "Failed") {
		t.Errorf("the removal says\n%s", said)
	}
	if failed := h.must("systemctl", "list-units", "--plain", "--no-legend", "--failed", "purser*"); failed != "" {
		t.Errorf("after the removal systemd still knows %s", failed)
	}
}

// remove removes both packages, of which nothing may be left, and returns what was said.
func (h *installed) remove() string {
	h.t.Helper()
	r, err := h.Run(slices.Concat(h.kind.remove, []string{"purser", "purser-mock"})...)
	must(h.t, err)
	if r.Exit != 0 {
		h.t.Fatalf("the removal ends with %d: %s%s", r.Exit, r.Stdout, r.Stderr)
	}
	found := h.must("find", "/", "/run", "-xdev", "-path", "/srv", "-prune", "-o", "-name", "*purser*", "-print")
	if got := strings.Fields(found); !slices.Equal(got, h.kind.left) {
		h.t.Errorf("left behind: %q, want %q", got, h.kind.left)
	}
	return r.Stdout + r.Stderr
}
