package harness

import (
	"os"
	"strings"
	"testing"
)

func TestHostBootsAndRunsUnitsAsUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	h, err := NewHost()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := h.Boot(); err != nil {
		t.Fatal(err)
	}
	r, err := h.Unit("proof", "daemon", "sh", "-c", "id -un; cat /proc/self/cgroup; ip -br a")
	if err != nil || r.Exit != 0 {
		t.Fatal(r, err)
	}
	if !strings.HasPrefix(r.Stdout, "daemon\n") || !strings.Contains(r.Stdout, "/system.slice/proof.service\n") {
		t.Errorf("the unit says %q", r.Stdout)
	}
	t.Log(r.Stdout)
}
