package vault

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/purser-agent/purser/pkg/upstream"
)

// A curve is how long to leave Vault alone after a failure: first, doubling to most.
type curve struct{ first, most time.Duration }

var (
	// askCurve is after no answer that says anything: the server has trouble.
	askCurve = curve{time.Second, time.Minute}
	// loginCurve is after a login that was refused: somebody must change something.
	loginCurve = curve{time.Second, 5 * time.Minute}
	// breakCurve is after a fresh token was refused, too.
	breakCurve = curve{30 * time.Second, 10 * time.Minute}
)

// jitter is the share that is added at most, so that hosts that failed together do
// not stay together.
const jitter = 0.25

// wait is the pause after so many failures, random from 0 to 1.
func (c curve) wait(failures int, random float64) time.Duration {
	pause := min(c.first<<min(max(failures-1, 0), 20), c.most)
	return pause + time.Duration(jitter*random*float64(pause))
}

// A hold keeps from asking for a while after a failure. The zero value holds nothing
// back. It is guarded by its owner's lock.
type hold struct {
	failures int
	failed   time.Time // the last time
	until    time.Time
	why      *upstream.Error
}

// fail counts the failure of what was asked at a time, and lets it rest for what the
// curve says, or longer if Vault said so. It reports whether the rest grew.
func (h *hold) fail(asked, now time.Time, c curve, why *upstream.Error) bool {
	if asked.Before(h.failed) {
		return false // one outage seen by many at once counts once
	}
	before := c.wait(h.failures, 0)
	h.failures++
	h.failed, h.why = now, why
	h.until = now.Add(max(c.wait(h.failures, rand.Float64()), why.Wait))
	return h.failures == 1 || c.wait(h.failures, 0) > before
}

// active reports whether the rest goes on.
func (h *hold) active(now time.Time) bool { return now.Before(h.until) }

// fault is why nothing is asked now. It ends with the rest.
func (h *hold) fault(now time.Time, what string) *upstream.Error {
	e := *h.why
	e.Wait = h.until.Sub(now)
	e.Err = fmt.Errorf("no %s before %s: %w", what, clock(h.until, now), h.why.Err)
	return &e
}

// clock is a time for people, with its day if that is not today.
func clock(at, now time.Time) string {
	at, now = at.Local(), now.Local()
	if at.YearDay() != now.YearDay() || at.Year() != now.Year() {
		return at.Format("2006-01-02 15:04:05")
	}
	return at.Format("15:04:05")
}
