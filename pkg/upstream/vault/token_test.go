package vault

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/upstream"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestWhatATokenNeedsNext(t *testing.T) {
	hour := func(change func(*token)) *token {
		x := &token{from: noon, until: noon.Add(time.Hour), first: time.Hour, renewable: true}
		change(x)
		return x
	}
	for name, c := range map[string]struct {
		token *token
		what  step
		at    time.Duration
	}{
		"in the middle":          {hour(func(*token) {}), renew, 40 * time.Minute},
		"early":                  {hour(func(x *token) { x.spread = -1 }), renew, 36 * time.Minute},
		"late":                   {hour(func(x *token) { x.spread = 1 }), renew, 44 * time.Minute},
		"not renewable":          {hour(func(x *token) { x.renewable = false }), login, 48 * time.Minute},
		"found not renewable":    {hour(func(*token) {}).settled(noon.Add(40 * time.Minute)), login, 56 * time.Minute},
		"no end":                 {hour(func(x *token) { x.until = time.Time{} }), stay, 0},
		"given, renewable":       {hour(func(x *token) { x.given = true }), renew, 40 * time.Minute},
		"given, to be replaced":  {hour(func(x *token) { x.given, x.renewable = true, false }), stay, 0},
		"renewed":                {hour(func(*token) {}).after(noon.Add(40*time.Minute), time.Hour, true), renew, 80 * time.Minute},
		"renewed to its last":    {hour(func(*token) {}).after(noon.Add(40*time.Minute), 20*time.Minute, true), login, 56 * time.Minute},
		"renewed and dwindled":   {hour(func(x *token) { x.until = noon.Add(time.Minute) }).after(noon.Add(50*time.Second), 11*time.Minute, true), login, 50*time.Second + 528*time.Second},
		"renewed for the last":   {hour(func(*token) {}).after(noon.Add(40*time.Minute), time.Hour, false), login, 88 * time.Minute},
		"renewed to have no end": {hour(func(*token) {}).after(noon.Add(40*time.Minute), 0, true), stay, 0},
	} {
		what, at := c.token.next()
		want := time.Time{}
		if c.what != stay {
			want = noon.Add(c.at)
		}
		if what != c.what || !at.Round(time.Second).Equal(want) {
			t.Errorf("%s: got %v at %v, want %v at %v", name, what, at.Sub(noon), c.what, c.at)
		}
	}
}

// case 23: the clock on the wall counts, too; the other stands still in a suspend.
func TestATokenEndsByEitherClock(t *testing.T) {
	now := time.Now()
	x := &token{until: now.Add(time.Hour)}
	for name, c := range map[string]struct {
		at   time.Time
		want bool
	}{
		"now":             {now, false},
		"then":            {now.Add(time.Hour), true},
		"after a suspend": {now.Round(0).Add(2 * time.Hour), true},
		"a moment before": {now.Add(time.Hour - 1), false},
	} {
		if got := x.ended(c.at); got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
	if (&token{}).ended(now) {
		t.Error("a token without an end has one")
	}
}

func TestSecondsAreReadInEachForm(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"3600": time.Hour, "3.6e3": time.Hour, "0": 0, "1.5": 1500 * time.Millisecond, "18446744073709551316": maxLife,
	} {
		if got, ok := seconds(json.Number(text)); !ok || got != want {
			t.Errorf("%s: got %v, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "-1", "x", "NaN", "-Inf"} {
		if got, ok := seconds(json.Number(text)); ok {
			t.Errorf("%s: got %v", text, got)
		}
	}
}

func TestAHoldGrowsAndEnds(t *testing.T) {
	why := &upstream.Error{Kind: upstream.ClassServer, Tried: "GET x", Err: errNotVault}
	var h hold
	at := noon
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		grew := h.fail(at, at, askCurve, why)
		if wait := h.until.Sub(at); wait < want*time.Second || wait > want*time.Second*5/4 || grew != (i < 7) {
			t.Errorf("failure %d: a wait of %v, grown: %v, want %v and at most a quarter more", i+1, wait, grew, want*time.Second)
		}
		if h.fail(at.Add(-time.Second), at.Add(time.Millisecond), askCurve, why) || h.failures != i+1 {
			t.Error("one outage counts twice")
		}
		if !h.active(h.until.Add(-1)) || h.active(h.until) {
			t.Error("the rest ends at another time")
		}
		at = h.until
	}
	h = hold{}
	h.fail(noon, noon, askCurve, &upstream.Error{Kind: upstream.ClassThrottled, Wait: 9 * time.Second, Err: errNotVault})
	if h.until.Sub(noon) != 9*time.Second { // case 39
		t.Errorf("a Retry-After of 9 s gives %v", h.until.Sub(noon))
	}
	got := h.fault(noon, "login")
	if got.Wait != 9*time.Second || got.Err.Error() != "no login before "+clock(noon.Add(9*time.Second), noon)+": "+errNotVault.Error() {
		t.Errorf("got %v, %v", got.Wait, got.Err)
	}
}

func TestClock(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.Local)
	for want, at := range map[string]time.Time{
		"12:41:07": now.Add(41*time.Minute + 7*time.Second), "2026-11-24 12:00:00": now.AddDate(0, 0, 1), "2027-11-23 12:00:00": now.AddDate(1, 0, 0),
	} {
		if got := clock(at, now); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
