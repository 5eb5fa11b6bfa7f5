package e2e

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// TestAnAddressFamilyThatLeadsNowhereCostsAMoment: the upstream's name has an
// IPv6 address from which nothing ever comes back, and an IPv4 one that answers.
func TestAnAddressFamilyThatLeadsNowhereCostsAMoment(t *testing.T) { // case 72
	inside := namespace(t)
	mock := startMock(t)
	ims := newRecorder(t, loopback(t, inside), mock.Server())
	at, err := url.Parse(ims.URL)
	must(t, err)
	folder := t.TempDir()
	must(t, os.Chmod(filepath.Dir(folder), 0o755))
	must(t, os.Chmod(folder, 0o755))
	hosts := filepath.Join(folder, "hosts")
	must(t, os.WriteFile(hosts, []byte("2001:db8::99 both.example\n127.0.0.1 both.example\n"), 0o644))
	config := filepath.Join(folder, "purser.yaml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, "user: nobody\ngroup: nogroup\nupstreams: {dc: {kind: ims, url: \"http://both.example:%s/latest\"}}\n", at.Port()), 0o644))
	binary, err := harness.Binary("purser")
	must(t, err)
	began := time.Now()
	r, err := harness.Command{Path: "/usr/bin/unshare", Args: []string{"--mount", "/bin/sh", "-c",
		"mount --bind " + hosts + " /etc/hosts && exec " + binary + " check --config " + config}, Namespace: inside}.Run()
	must(t, err)
	// A list and a role are two connections, each 300 ms late (RFC 8305 wants 250).
	if took := time.Since(began); r.Exit != 0 || !strings.Contains(r.Stdout, "upstream dc: ok") || took > 2*time.Second || took < 300*time.Millisecond {
		t.Errorf("after %v check ended with %d: %s%s", took, r.Exit, r.Stdout, r.Stderr)
	}
}
