package refresh

import (
	"container/heap"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
)

// A job is one thing that a loop asks for again and again: the list, or one
// credential. Everything in it is guarded by the loop's mutex.
type job struct {
	key      credential.Key // zero for the list
	list     bool
	declared bool // named by the configuration
	demanded bool // asked for by a caller, configured by nobody
	asker    Asker
	required bool // ready waits for it
	draw     Draw

	// What is in stock; all zero if nothing ever was. Of the list, fetched only.
	issued, expires, fetched, due time.Time

	next     time.Time     // when to ask again, by the wall clock
	waiting  bool          // next is a back-off, not a due time
	asking   bool          // an attempt is under way
	hurried  bool          // there is a reason to ask again at once if that fails
	stale    bool          // what the attempt under way may have read was replaced
	failures int           // in a row, or waits in a row if err is one
	barren   int           // answers in a row that left us no better off
	err      error         // of the last attempt
	noted    State         // worst state logged since it last was fine
	holder   string        // the upstream that has our name, if another does
	finished chan struct{} // closed when an attempt ends; nil if nobody waits

	place int // in the queue, -1 if not there
}

// attempted returns a channel that is closed when the present or next attempt ends.
func (j *job) attempted() <-chan struct{} {
	if j.finished == nil {
		j.finished = make(chan struct{})
	}
	return j.finished
}

func (j *job) finish() {
	if j.finished != nil {
		close(j.finished)
		j.finished = nil
	}
}

// failed is how often in a row the upstream was asked in vain. It was not asked by who
// waits for something else.
func (j *job) failed() int {
	if isWaiting(j.err) {
		return 0
	}
	return j.failures
}

// clear forgets what was in stock.
func (j *job) clear() {
	j.issued, j.expires, j.fetched, j.due = time.Time{}, time.Time{}, time.Time{}, time.Time{}
}

// valid reports whether something unexpired is in stock.
func (j *job) valid(now time.Time) bool { return now.Before(j.expires) }

// queue orders jobs by their next time. It implements heap.Interface.
type queue []*job

func (q queue) Len() int           { return len(q) }
func (q queue) Less(a, b int) bool { return q[a].next.Before(q[b].next) }
func (q queue) Swap(a, b int) {
	q[a], q[b] = q[b], q[a]
	q[a].place, q[b].place = a, b
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	j := x.(*job)
	j.place = len(*q)
	*q = append(*q, j)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	old := *q
	j := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	j.place = -1
	return j
}

// plan puts j where its next time belongs, unless an attempt is under way: its end
// plans anew.
func (q *queue) plan(j *job, next time.Time) {
	j.next = next.Round(0)
	switch {
	case j.asking:
	case j.place >= 0:
		heap.Fix(q, j.place)
	default:
		heap.Push(q, j)
	}
}

// drop takes j out, if it is there.
func (q *queue) drop(j *job) {
	if j.place >= 0 {
		heap.Remove(q, j.place)
	}
}
