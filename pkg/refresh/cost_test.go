package refresh_test

import (
	"flag"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// cpu is what this process has used so far.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

var credentials = flag.Int("credentials", 500, "how many credentials TestManyCredentialsKeepFresh keeps")

// TestManyCredentialsKeepFresh also reports what an hour of that costs: make bench
// runs it with ten thousand.
func TestManyCredentialsKeepFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.log = zerolog.Nop()
		names := manyRoles(*credentials)
		u := newUpstream(names...)
		u.lifetime = 2 * time.Hour
		h.run(h.loop("datacenter", u))
		time.Sleep(3 * time.Hour)
		before := cpu(t)
		time.Sleep(time.Hour)
		synctest.Wait()
		t.Logf("cpu seconds per simulated hour: %.2f", (cpu(t) - before).Seconds())
		for _, name := range names {
			if left := time.Until(h.must(name).Expires); left < 59*time.Minute {
				t.Fatalf("%s: only %v left", name, left)
			}
		}
	})
}
