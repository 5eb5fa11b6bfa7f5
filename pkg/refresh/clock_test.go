package refresh

import (
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
)

// The wall clock cannot be set in a bubble, so the step itself is given.
func TestABackOffIsNotProlongedWhenTheClockIsSetBack(t *testing.T) {
	now := time.Now().Round(0)
	l := New(Options{})
	retry, due := &job{key: credential.Key{Name: "retry"}, place: -1, waiting: true}, &job{key: credential.Key{Name: "due"}, place: -1}
	l.queue.plan(retry, now.Add(30*time.Second))
	l.queue.plan(due, now.Add(10*time.Second))
	l.shift(40*time.Second, now)
	if want := now.Add(-10 * time.Second); !retry.next.Equal(want) {
		t.Errorf("the retry is planned for %v, want %v", retry.next, want)
	}
	if want := now.Add(10 * time.Second); !due.next.Equal(want) {
		t.Errorf("the due time moved to %v: it belongs to the wall clock", due.next)
	}
	if l.queue[0] != retry {
		t.Error("the queue is not ordered any more")
	}
}

func TestEverythingIsAskedForSoonWhenTheClockIsSetFarBack(t *testing.T) {
	now := time.Now().Round(0)
	for _, c := range []struct {
		back time.Duration
		soon bool
	}{{30 * time.Second, false}, {2 * time.Hour, true}} {
		l := New(Options{})
		due := &job{place: -1, draw: Draw{Phase: 0.5}}
		l.queue.plan(due, now.Add(3*time.Hour))
		l.shift(c.back, now)
		if got := due.next.Before(now.Add(10 * time.Minute)); got != c.soon {
			t.Errorf("set back by %v: asked for soon: %v, want %v", c.back, got, c.soon)
		}
	}
}

func TestDeadlinesHaveNoMonotonicReading(t *testing.T) {
	var q queue
	j := &job{place: -1}
	q.plan(j, time.Now())
	// A reading would make comparisons ignore a suspend: F09.
	if j.next != j.next.Round(0) {
		t.Error("a deadline carries a monotonic reading")
	}
}
