package caller

import (
	"sync"
	"sync/atomic"
	"time"
)

// Between two walks through the cgroups lies a pause, so that a user who makes a
// new cgroup for each connection cannot keep Purser busy with walks: at least
// pauseMin, and so long that walks take at most a fifth of one processor.
const (
	pauseMin    = 20 * time.Millisecond
	pauseMax    = time.Second
	pauseFactor = 4
)

// maxAbsent bounds how many ids without a cgroup are remembered.
const maxAbsent = 4096

// unitTable tells a cgroup's unit by its id. Whatever it knows is known by one
// atomic load; a miss waits for a walk that begins after it, which all misses of
// the same moment share. The kernel never uses an id twice, so nothing that was
// once found becomes wrong, and an id that a walk did not find never will be. It is
// safe for concurrent use.
type unitTable struct {
	count   func() (census, error)
	current atomic.Pointer[census]

	mu      sync.Mutex
	running *walk               // the latest that has begun
	next    *walk               // one that has not begun yet, if anybody waits for it
	absent  map[uint64]struct{} // ids that a walk did not find
}

// A walk is what those who wait for the same one share.
type walk struct {
	after *walk // the one before, or nil
	done  chan struct{}

	// To be read once done is closed.
	ended  time.Time
	pause  time.Duration // until the next one may begin
	result census
	err    error
}

func newUnitTable(count func() (census, error)) *unitTable {
	t := &unitTable{count: count, absent: make(map[uint64]struct{})}
	t.current.Store(&census{})
	return t
}

// unit returns the unit of the cgroup with the given id, empty if it is in none.
func (t *unitTable) unit(id uint64) (string, error) {
	if unit, known := t.current.Load().units[id]; known {
		return unit, nil
	}
	t.mu.Lock()
	if _, absent := t.absent[id]; absent {
		t.mu.Unlock()
		return "", nil
	}
	first := t.next == nil
	if first {
		t.next = &walk{after: t.running, done: make(chan struct{})}
	}
	w := t.next
	t.mu.Unlock()
	if first {
		t.run(w)
	}
	<-w.done
	if w.err != nil {
		return "", w.err
	}
	unit, known := w.result.units[id]
	if !known && w.result.whole {
		t.forget(id)
	}
	return unit, nil
}

// run makes the walk w, in its turn.
func (t *unitTable) run(w *walk) {
	if w.after != nil {
		<-w.after.done
		time.Sleep(time.Until(w.after.ended.Add(w.after.pause)))
		w.after = nil
	}
	t.mu.Lock()
	t.running, t.next = w, nil // who misses from here on may be newer than what w sees
	t.mu.Unlock()

	began := time.Now()
	if w.result, w.err = t.count(); w.err == nil { // otherwise what is known stays
		t.current.Store(&w.result)
	}
	w.ended = time.Now()
	w.pause = min(max(pauseMin, pauseFactor*w.ended.Sub(began)), pauseMax)
	close(w.done)
}

// forget notes that no walk will find an id.
func (t *unitTable) forget(id uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.absent) >= maxAbsent {
		clear(t.absent)
	}
	t.absent[id] = struct{}{}
}
