package testkit

import (
	"os"
	"testing"
)

// Lacks skips a test for what the machine does not have, loudly. In CI that is a
// failure: what is never run proves nothing.
func Lacks(t interface {
	Fatal(...any)
	Skip(...any)
}, what string) {
	if t, ok := t.(*testing.T); ok {
		t.Helper()
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("needs " + what + ", and CI=true allows no skip")
	}
	t.Skip("SKIPPED, needs " + what)
}

// NeedRoot skips a test that only root can run.
func NeedRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		Lacks(t, "root")
	}
}
