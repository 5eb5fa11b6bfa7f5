package refresh

import (
	"fmt"
	"testing"
	"time"
)

var epoch = time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)

func TestMargin(t *testing.T) {
	for _, c := range []struct {
		lifetime, want time.Duration
	}{
		{12 * time.Hour, 6 * time.Hour},
		{6 * time.Hour, 3 * time.Hour},
		{time.Hour, 30 * time.Minute},
		{45 * time.Minute, 25 * time.Minute},
		{30 * time.Minute, 20 * time.Minute},
		{15 * time.Minute, 10 * time.Minute},
		{time.Minute, 40 * time.Second},
	} {
		if got := Margin(c.lifetime, 0, 0); got != c.want {
			t.Errorf("lifetime %v: got a margin of %v, want %v", c.lifetime, got, c.want)
		}
		most := c.want + c.want/10
		for _, spread := range []float64{0.001, 0.5, 0.999} {
			if got := Margin(c.lifetime, spread, 0); got < c.want || got > most {
				t.Errorf("lifetime %v, spread %v: got %v, want between %v and %v", c.lifetime, spread, got, c.want, most)
			}
		}
	}
}

func TestMarginGrowsWithTheSkewButLeavesALife(t *testing.T) {
	for _, skew := range []time.Duration{2 * time.Minute, -2 * time.Minute} {
		if got, want := Margin(time.Hour, 0, skew), 32*time.Minute; got != want {
			t.Errorf("skew %v: got %v, want %v", skew, got, want)
		}
	}
	if got, want := Margin(time.Hour, 0, 5*time.Hour), 54*time.Minute; got != want {
		t.Errorf("got %v, want %v: a wrong clock must not make us ask all the time", got, want)
	}
}

func TestDueIsNeverLaterThanLongest(t *testing.T) {
	fetched, expires := epoch, epoch.Add(12*time.Hour)
	for _, c := range []struct {
		longest time.Duration
		spread  float64
		want    time.Duration
	}{
		{0, 0, 6 * time.Hour},
		{8 * time.Hour, 0, 6 * time.Hour},
		{time.Hour, 0, time.Hour},
		{time.Hour, 0.5, 57 * time.Minute},
	} {
		got := Schedule{Longest: c.longest}.Due(epoch, expires, fetched, Draw{Spread: c.spread}, 0)
		if want := epoch.Add(c.want); !got.Equal(want) {
			t.Errorf("longest %v, spread %v: got %v, want %v", c.longest, c.spread, got, want)
		}
	}
}

func TestBackOffCurves(t *testing.T) {
	for _, c := range []struct {
		curve    curve
		failures int
		want     time.Duration
	}{
		{fast, 1, time.Second}, {fast, 2, 2 * time.Second}, {fast, 6, 32 * time.Second}, {fast, 7, time.Minute}, {fast, 1 << 30, time.Minute},
		{slow, 1, time.Second}, {slow, 9, 256 * time.Second}, {slow, 10, 5 * time.Minute}, {slow, 1 << 30, 5 * time.Minute},
	} {
		if got := c.curve.ceiling(c.failures); got != c.want {
			t.Errorf("%v after %d failures: got at most %v, want %v", c.curve, c.failures, got, c.want)
		}
		for _, luck := range []float64{0, 0.3, 0.999} {
			got := c.curve.after(c.failures, luck, 0)
			if got < soonest || got > c.want {
				t.Errorf("%v after %d failures, luck %v: got %v", c.curve, c.failures, luck, got)
			}
		}
	}
	if got := fast.after(9, 0.999, 10*time.Second); got < 10*time.Second || got > 11*time.Second {
		t.Errorf("a Retry-After of 10 s gave a wait of %v", got)
	}
}

func TestJudge(t *testing.T) {
	now := epoch
	at := func(m int) time.Time { return now.Add(time.Duration(m) * time.Minute) }
	for _, c := range []struct {
		name          string
		stock, answer time.Time
		want          verdict
	}{
		{"nothing in stock", time.Time{}, at(60), take},
		{"ends later", at(30), at(60), take},
		{"ends at the same moment", at(60), at(60), nothingNew},
		{"ends earlier", at(60), at(30), nothingNew},
		{"ends earlier than one that is no longer valid", at(-1), at(5), take},
		{"ends now", at(30), at(0), useless},
		{"has ended, with nothing in stock", time.Time{}, at(-1), useless},
		{"has ended, as what is in stock", at(-5), at(-1), useless},
	} {
		if got := judge(c.stock, c.answer, now); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestStateAt(t *testing.T) {
	expires, due := epoch.Add(time.Hour), epoch.Add(30*time.Minute)
	for _, c := range []struct {
		name    string
		minute  int
		failing bool
		want    State
	}{
		{"new", 0, false, Fresh},
		{"a forced refresh failed early", 10, true, Fresh},
		{"due", 30, false, Due},
		{"due and failing", 44, true, Due},
		{"little left and failing", 46, true, Expiring},
		{"little left and being refreshed", 46, false, Due},
		{"over", 60, true, Expired},
	} {
		if got := stateAt(epoch.Add(time.Duration(c.minute)*time.Minute), expires, due, c.failing); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	if got := stateAt(epoch, time.Time{}, time.Time{}, true); got != None {
		t.Errorf("never fetched: got %q", got)
	}
}

// TestPromise9AFleetThatRestartsTogetherParts simulates hosts that all start in the
// same second, with credentials of one hour.
func TestPromise9AFleetThatRestartsTogetherParts(t *testing.T) {
	const hosts, minutes = 20_000, 180
	var perMinute [minutes]int
	var schedule Schedule
	for host := range hosts {
		d := NewDraw(fmt.Sprintf("machine-%d", host), "datacenter", "web")
		fetched := epoch
		due := schedule.Due(fetched, fetched.Add(time.Hour), fetched, d, 0)
		next := Second(fetched, due, d)
		for {
			minute := int(next.Sub(epoch) / time.Minute)
			if minute >= minutes {
				break
			}
			perMinute[minute]++
			next = schedule.Due(next, next.Add(time.Hour), next, d, 0)
		}
	}
	var sum, most int
	for _, n := range perMinute {
		sum += n
		most = max(most, n)
	}
	if mean := float64(sum) / minutes; float64(most) > 1.2*mean {
		t.Errorf("the busiest minute has %d fetches, the mean one %.0f", most, mean)
	}
}

func TestDrawKeepsItsPlaceOverARestart(t *testing.T) {
	a, b := NewDraw("host", "datacenter", "web"), NewDraw("host", "datacenter", "web")
	if a.Spread != b.Spread {
		t.Errorf("got spreads %v and %v for the same credential", a.Spread, b.Spread)
	}
	apart := min(max(a.Phase-b.Phase, b.Phase-a.Phase), 1-max(a.Phase-b.Phase, b.Phase-a.Phase))
	if apart > 0.02 {
		t.Errorf("got phases %v and %v for the same credential", a.Phase, b.Phase)
	}
	for range 1000 {
		if d := NewDraw("host", "u", "n"); d.Phase < 0 || d.Phase >= 1 || d.Spread < 0 || d.Spread >= 1 {
			t.Fatalf("%+v is not in [0,1)", d)
		}
	}
}

func TestAWaitIsAtMostHalfOfWhatIsLeft(t *testing.T) {
	for _, c := range []struct{ wait, left, want time.Duration }{
		{time.Minute, time.Hour, time.Minute},
		{5 * time.Minute, 8 * time.Minute, 4 * time.Minute},
		{5 * time.Minute, 20 * time.Second, 10 * time.Second},
		{5 * time.Minute, time.Second, 5 * time.Second},
		{time.Second, time.Second, time.Second},
		{5 * time.Minute, 0, 5 * time.Minute},
		{5 * time.Minute, -time.Hour, 5 * time.Minute},
	} {
		if got := before(c.wait, c.left); got != c.want {
			t.Errorf("of %v with %v left: %v, want %v", c.wait, c.left, got, c.want)
		}
	}
}
