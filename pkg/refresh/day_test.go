package refresh_test

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// TestADayOfFaultsLeavesNothingBehind: for 24 simulated hours an upstream fails again
// and again for up to 20 minutes in some way, and nothing expires, piles up or keeps
// running.
func TestADayOfFaultsLeavesNothingBehind(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		h.log = zerolog.Nop()
		names := manyRoles(50)
		u := newUpstream(names...)
		l := h.run(h.loop("datacenter", u))
		settle()
		quiet := runtime.NumGoroutine()
		luck := rand.New(rand.NewPCG(1, 2))
		for begin := time.Now(); time.Since(begin) < 24*time.Hour; {
			u.set(func() {
				switch luck.IntN(5) {
				case 0:
					u.down = errDown
				case 1:
					u.hang = true
				case 2:
					u.down = upstreamError{permanent: true, refused: true}
				case 3:
					u.down = upstreamError{after: 90 * time.Second}
				case 4:
					u.failing[names[luck.IntN(len(names))]] = errDown
				}
			})
			time.Sleep(time.Duration(luck.Int64N(int64(20 * time.Minute))))
			u.set(func() { u.down, u.hang, u.failing = nil, false, map[string]error{} })
			time.Sleep(time.Duration(luck.Int64N(int64(40 * time.Minute))))
			synctest.Wait()
			for _, name := range names {
				h.must(name)
			}
			if rows := l.Rows(); len(rows) != len(names) {
				t.Fatalf("%d credentials became %d", len(names), len(rows))
			}
			if n := runtime.NumGoroutine(); n > quiet+50 {
				t.Fatalf("%d goroutines became %d", quiet, n)
			}
		}
	})
}
