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

	mu     sync.Mutex
	next   *walk               // one that has not begun yet, if anybody waits for it
	absent map[uint64]struct{} // ids that a walk did not find

	walking sync.Mutex // held from a walk's turn to its end
	pause   time.Duration
	ended   time.Time
}

// A walk is what those who wait for the same one share.
type walk struct {
	done chan struct{}
	err  error // once done is closed
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
	shared := t.next
	if shared == nil {
		t.next = &walk{done: make(chan struct{})}
	}
	w := t.next
	t.mu.Unlock()
	if shared == nil {
		t.run(w)
	}
	<-w.done
	if w.err != nil {
		return "", w.err
	}
	return t.found(id), nil
}

// run makes the walk w, in its turn.
func (t *unitTable) run(w *walk) {
	t.walking.Lock()
	defer t.walking.Unlock()
	defer close(w.done)
	time.Sleep(time.Until(t.ended.Add(t.pause)))
	t.mu.Lock()
	t.next = nil // who misses from here on may be newer than this walk sees
	t.mu.Unlock()

	began := time.Now()
	result, err := t.count()
	t.ended = time.Now()
	t.pause = min(max(pauseMin, pauseFactor*t.ended.Sub(began)), pauseMax)
	if err != nil {
		w.err = err // what is known stays
		return
	}
	t.current.Store(&result)
}

// found looks up an id after a walk that began after the question.
func (t *unitTable) found(id uint64) string {
	now := t.current.Load()
	unit, known := now.units[id]
	if known || !now.whole {
		return unit
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.absent) >= maxAbsent {
		clear(t.absent)
	}
	t.absent[id] = struct{}{}
	return ""
}
