package refresh_test

import (
	"sync/atomic"
	"testing"
	"time"
)

// stuckUpstream is one whose file is on a dead file system: a look at it never ends.
type stuckUpstream struct {
	*upstream
	dead     atomic.Bool
	repaired chan struct{}
}

func (u *stuckUpstream) Changed() bool {
	if u.dead.Load() {
		<-u.repaired
	}
	return false
}

// TestAStuckLoopIsNotAlive: this is what keeps systemd's watchdog from being fed.
func TestAStuckLoopIsNotAlive(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := &stuckUpstream{upstream: newUpstream("web"), repaired: make(chan struct{})}
		u.down = errDown // files are looked at while something fails
		l := h.run(h.loop("datacenter", u))
		time.Sleep(time.Hour)
		settle()
		if !l.Alive() {
			t.Fatal("not alive, although only its upstream is down")
		}
		u.dead.Store(true)
		time.Sleep(time.Minute)
		if l.Alive() {
			t.Error("alive a minute after it got stuck")
		}
		if got := len(l.Missing()); got != 1 { // would hang if the lock were held
			t.Errorf("%d things missing, want the list", got)
		}
		u.dead.Store(false)
		close(u.repaired)
		time.Sleep(2 * time.Second) // it looks every second
		if !l.Alive() {
			t.Error("not alive after it went on")
		}
	})
}

func TestALoopThatDoesNotRunIsNotAlive(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		l := h.loop("datacenter", newUpstream("web"))
		if l.Alive() {
			t.Error("alive before its beginning")
		}
		l.Begin()
		if !l.Alive() {
			t.Error("not alive at its beginning")
		}
		time.Sleep(time.Minute)
		if l.Alive() {
			t.Error("alive a minute later, although nobody ran it")
		}
	})
}
