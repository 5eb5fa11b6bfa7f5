package refresh

import (
	"maps"
	"slices"
	"time"
)

// filesChanged reports whether there is a new reason to try again. It looks without
// the lock: a file may be on a disk that does not answer, and that must not hold up
// those who only want to know how things are.
func (l *Loop) filesChanged() bool {
	l.mu.Lock()
	failing := len(l.failing)
	l.mu.Unlock()
	w, ok := l.Source.(Watcher)
	return failing > 0 && ok && w.Changed()
}

// hurry retries at once what failed before something changed that the source depends
// on.
func (l *Loop) hurry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused = time.Time{}
	said := false
	for j := range l.failing {
		if !said && !isWaiting(j.err) {
			said = true
			l.Log.Info().Msg("what this upstream depends on has changed, trying again at once")
		}
		j.hurried = j.asking // that attempt may have seen the old file
		l.queue.plan(j, time.Now())
	}
}

// refetch asks for everything anew, since what is in stock was replaced. An attempt
// under way may have seen what was there before, so another one follows.
func (l *Loop) refetch() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Log.Info().Msg("what this upstream gives was replaced, fetching it anew")
	l.paused = time.Time{}
	jobs := slices.Collect(maps.Values(l.jobs))
	if l.lister != nil {
		jobs = append(jobs, l.lister)
	}
	for _, j := range jobs {
		if j.holder == "" {
			j.stale = j.asking
			l.queue.plan(j, time.Now())
		}
	}
}
