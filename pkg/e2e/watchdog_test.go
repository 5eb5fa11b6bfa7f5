package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// awaitFood waits until systemd's watchdog is fed.
func (n *notifySocket) awaitFood(t *testing.T) {
	t.Helper()
	before := n.fed()
	must(t, harness.Await(5*time.Second, func() error {
		if n.fed() == before {
			return errors.New("the watchdog is not fed")
		}
		return nil
	}))
}

func (n *notifySocket) fed() int { return len(all(n, "WATCHDOG=1")) }

// deadFileSystem mounts one at that folder of the system's /run. Whoever looks at what
// is in it waits until the process ends.
func (s *system) deadFileSystem(folder string) *harness.Process {
	s.t.Helper()
	_, err := os.Stat("/dev/fuse")
	needs(s.t, "/dev/fuse", err == nil)
	script := `mkdir "$1" && exec 9<>/dev/fuse &&
		mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0,allow_other none "$1" && echo mounted && exec sleep 300`
	dead, err := harness.Command{Path: "/usr/bin/nsenter", Args: []string{"--target", strconv.Itoa(s.PID()), "--mount", "--",
		"/bin/sh", "-c", script, "sh", folder}}.Start()
	must(s.t, err)
	s.t.Cleanup(func() { _, _ = dead.Stop() })
	must(s.t, harness.Await(5*time.Second, func() error {
		if dead.Output() != "mounted\n" {
			return fmt.Errorf("mounting a dead file system: %s", dead.Output())
		}
		return nil
	}))
	return dead
}

// TestWatchdogIsNotFedWhileTheRefresherIsStuck lets the refresher look at a file on a
// dead file system. The process runs and answers, and is not healthy all the same.
func TestWatchdogIsNotFedWhileTheRefresherIsStuck(t *testing.T) {
	inside := namespace(t)
	mock := startMock(t)
	record := newRecorder(t, loopback(t, inside), mock.Server())
	systemd := newNotifySocket(t)
	ca := filepath.Join(filepath.Dir(systemd.path), "ca.pem")
	must(t, os.Symlink("/etc/ssl/certs/ca-certificates.crt", ca))
	s := startSystem(t, inside, "purser", "purser.yaml", fmt.Sprintf("user: nobody\ngroup: nogroup\n"+
		"upstreams: {datacenter: {kind: ims, url: \"%s/latest\", tls: {ca: %s}}}\n", record.URL, ca)+everything,
		"NOTIFY_SOCKET="+systemd.path, "WATCHDOG_USEC=1000000")
	must(t, mock.SetFaults("status=503")) // files are looked at while something fails
	if r := s.run(0, "refresh"); r.Exit != 1 {
		t.Fatalf("a refresh with a failing upstream exits with %d", r.Exit)
	}
	systemd.awaitFood(t)

	dead := s.deadFileSystem("/run/dead")
	must(t, errors.Join(os.Symlink("/run/dead/ca.pem", ca+".new"), os.Rename(ca+".new", ca)))
	last, since := systemd.fed(), time.Now()
	must(t, harness.Await(time.Minute, func() error {
		if now := systemd.fed(); now != last {
			last, since = now, time.Now()
		}
		if hungry := time.Since(since); hungry < 3*time.Second {
			return fmt.Errorf("the watchdog, to be fed twice a second, was fed %d times, the last time %v ago", last, hungry)
		}
		return nil
	}))
	if got := (caller{daemonUID, inside}).role(t, fmt.Sprintf("http://127.0.0.1:%d", frontPort)); got != "test_role" {
		t.Errorf("meanwhile a caller gets %s", got)
	}
	_, err := dead.Stop()
	must(t, err)
	systemd.awaitFood(t)
}
