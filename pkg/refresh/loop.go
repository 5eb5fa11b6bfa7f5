package refresh

import (
	"container/heap"
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
)

// A Store takes what a loop fetched; *store.Store fits.
type Store interface {
	Announce(keys ...credential.Key)
	AnnounceUnlisted(keys ...credential.Key)
	Put(key credential.Key, c credential.Credential) bool
	Refuse(key credential.Key)
	Remove(keys ...credential.Key)
	LastAsked(key credential.Key) time.Time
}

// Options describe a Loop. Upstream, Source, Store and Claims are needed.
type Options struct {
	Upstream string // its name in the configuration
	Source   Source
	Store    Store
	Claims   *Claims // shared by all loops of a store

	Schedule  Schedule
	ListEvery time.Duration // how often to ask for the list of a Source that does not declare its keys; 0 means hourly
	Splay     time.Duration // the first question waits up to this long
	Host      string        // identity of this host, for its place in the fleet
	Required  bool          // ready waits for this upstream
	Idle      time.Duration // after this long without a reader a key on demand is forgotten; 0 means an hour

	Log zerolog.Logger
	// Observe, if set, is told of every attempt that asked: "ok" or a class of error.
	Observe func(class string, took time.Duration)
	// Settled, if set, is called after each attempt, when its outcome shows.
	Settled func()
}

// Bounds of a loop.
const (
	parallel    = 16               // attempts under way at once
	patience    = time.Minute      // most that one attempt may take, whatever its Source does
	pulse       = time.Second      // how often the wall clock is looked at
	stuck       = 30 * time.Second // without a pulse for so long, a loop is not alive
	probing     = 5                // failures in a row, over all keys, after which one attempt at a time has to do
	maxDemanded = 1000             // keys on demand
	maxVain     = 100              // keys on demand that the upstream has not given so far
)

// A Loop keeps one upstream's credentials in stock. Its methods are safe for
// concurrent use, unless they say otherwise.
type Loop struct {
	Options
	wake chan struct{}
	beat atomic.Int64 // when the loop last looked at its queue, in Unix nanoseconds

	mu        sync.Mutex // guards all below
	jobs      map[credential.Key]*job
	lister    *job // nil if the source declares its keys
	queue     queue
	failing   map[*job]struct{}
	urged     map[*job]struct{} // somebody waits for an attempt: no pause holds it up
	asking    int
	misses    int       // attempts in a row, of whatever key, that failed and might heal
	paused    time.Time // nothing is asked before
	demanded  int
	vain      map[*job]struct{}            // keys on demand that were never given; others until room looks
	refused   time.Time                    // when it was last said that a key on demand is one too many
	short     bool                         // said that lifetimes are too short
	began     bool                         // the first jobs are planned
	known     bool                         // the upstream has said what it grants
	withdrawn map[credential.Key]time.Time // since when
	trial     *trial
	tried     error     // of Trial, once it has ended
	kept      []Kept    // what Restore gave, until the loop begins
	stopped   bool      // Stop was called
	looked    time.Time // with its monotonic reading, to notice steps of the wall clock
}

// New returns a loop that does nothing until Run.
func New(o Options) *Loop {
	if o.ListEvery == 0 {
		o.ListEvery = time.Hour
	}
	if o.Idle == 0 {
		o.Idle = time.Hour
	}
	return &Loop{
		Options:   o,
		wake:      make(chan struct{}, 1),
		jobs:      map[credential.Key]*job{},
		failing:   map[*job]struct{}{},
		urged:     map[*job]struct{}{},
		vain:      map[*job]struct{}{},
		withdrawn: map[credential.Key]time.Time{},
	}
}

// Run asks until ctx ends, and returns after the last attempt did.
func (l *Loop) Run(ctx context.Context) {
	var attempts sync.WaitGroup
	defer l.accompany(ctx)()
	defer attempts.Wait()
	l.Begin()
	var compared time.Time
	for {
		if l.filesChanged() {
			l.hurry()
		}
		// Not at each nudge: what was replaced counts as that until it was fetched.
		if r, ok := l.Source.(Replacer); ok && time.Since(compared) >= pulse/2 {
			compared = time.Now()
			if r.Replaced() {
				l.refetch()
			}
		}
		wait := l.dispatch(ctx, &attempts)
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		case <-time.After(wait):
		}
	}
}

// accompany runs a source that is a Runner beside the loop, and returns what ends it.
func (l *Loop) accompany(ctx context.Context) (end func()) {
	runner, ok := l.Source.(Runner)
	if !ok {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() {
		defer func() {
			if p := recover(); p != nil {
				l.Log.Error().Bytes("stack", debug.Stack()).Msg("bug: an upstream panicked")
			}
		}()
		runner.Run(ctx)
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// nudge makes the loop look at its queue now.
func (l *Loop) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Look makes the loop see at once, not at its next pulse, whether what its source
// depends on has changed.
func (l *Loop) Look() { l.nudge() }

// Alive reports whether the loop still looks at its queue. A dead upstream does not
// make it less alive.
func (l *Loop) Alive() bool {
	return time.Since(time.Unix(0, l.beat.Load())) < stuck
}

// Begin plans the first questions, or takes over what Trial has fetched already.
// Run calls it; calling it before makes the outcome of Trial visible at once.
func (l *Loop) Begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.began {
		return
	}
	l.began = true
	l.beat.Store(time.Now().UnixNano())
	l.looked = time.Now()
	first := l.looked
	if l.trial == nil {
		first = first.Add(time.Duration(float64(l.Splay) * unit(l.Host, l.Upstream, "splay")))
	}
	if declared := Declared(l.Source); declared != nil {
		l.adopt(declared, true, first)
	} else {
		l.lister = &job{list: true, draw: NewDraw(l.Host, l.Upstream, ""), place: -1}
		l.queue.plan(l.lister, first)
	}
	if l.trial != nil {
		l.takeOver(l.trial, first)
		l.trial = nil
	}
	l.takeBack(l.looked, first)
}

// dispatch starts what is due and returns how long nothing else will be.
func (l *Loop) dispatch(ctx context.Context, attempts *sync.WaitGroup) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.beat.Store(now.UnixNano())
	l.noticeClock(now)
	now = now.Round(0)
	l.noteStates(now)
	l.startUrged(ctx, attempts)
	if now.Before(l.paused) {
		return min(pulse, l.paused.Sub(now))
	}
	for len(l.queue) > 0 && !l.queue[0].next.After(now) {
		if l.asking >= l.limit() {
			return pulse
		}
		j := heap.Pop(&l.queue).(*job)
		if j.demanded && l.idle(j, now) {
			l.forget(j)
			continue
		}
		l.launch(ctx, j, attempts)
	}
	if len(l.queue) == 0 {
		return pulse
	}
	return min(pulse, l.queue[0].next.Sub(now))
}

// startUrged starts what somebody waits for, whatever is planned for it.
func (l *Loop) startUrged(ctx context.Context, attempts *sync.WaitGroup) {
	for j := range l.urged {
		switch {
		case l.asking >= parallel:
			return
		case !j.asking: // otherwise the attempt under way is the one
			l.queue.drop(j)
			l.launch(ctx, j, attempts)
		}
	}
}

func (l *Loop) launch(ctx context.Context, j *job, attempts *sync.WaitGroup) {
	j.asking = true
	l.asking++
	attempts.Go(func() { l.attempt(ctx, j) })
}

// limit is how many attempts may be under way at once: one after a row of failures.
// Together with the pause after each of them, a thousand credentials of a dead
// upstream knock no more often than one.
func (l *Loop) limit() int {
	if l.misses >= probing {
		return 1
	}
	return parallel
}

// noticeClock keeps back-offs as long as they were meant when the wall clock is set
// back. A step forward, or a suspend, needs nothing: deadlines are wall-clock.
func (l *Loop) noticeClock(now time.Time) {
	back := now.Sub(l.looked) - now.Round(0).Sub(l.looked.Round(0))
	l.looked = now
	if back < pulse {
		return
	}
	l.Log.Warn().Stringer("by", back.Round(time.Second)).Msg("the clock was set back")
	l.shift(back, now.Round(0))
}

// farStep is a step of the clock after which it may be wrong by so much that due
// times come too late. Everything is asked for anew then, within doubtful: the
// answers tell the skew against the upstream.
const (
	farStep  = time.Minute
	doubtful = 10 * time.Minute
)

func (l *Loop) shift(back time.Duration, now time.Time) {
	if !l.paused.IsZero() {
		l.paused = l.paused.Add(-back)
	}
	for _, j := range l.queue {
		switch soon := now.Add(time.Duration(j.draw.Phase * float64(doubtful))); {
		case j.waiting:
			j.next = j.next.Add(-back)
		case back >= farStep && soon.Before(j.next):
			j.next = soon
		}
	}
	heap.Init(&l.queue)
}

// attempt asks the source once. A panic in it is an error like any other: what is in
// stock must outlive the bug.
func (l *Loop) attempt(ctx context.Context, j *job) {
	keys, c, err := l.ask(ctx, j.list, j.key)
	l.conclude(ctx, j, keys, c, err)
	if l.Settled != nil {
		l.Settled()
	}
}

// conclude takes the outcome of an attempt and lets the loop go on.
func (l *Loop) conclude(ctx context.Context, j *job, keys []credential.Key, c credential.Credential, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asking--
	j.asking = false
	delete(l.urged, j)
	l.nudge()
	if ctx.Err() != nil {
		return // the loop is stopping; whoever waits for j learns it from Stop
	}
	defer j.finish()
	if j.list {
		l.settleList(j, keys, err, time.Now().Round(0))
	} else if l.jobs[j.key] == j { // not withdrawn meanwhile
		l.settle(j, c, err, time.Now().Round(0))
	}
	if j.stale && j.place >= 0 {
		l.queue.plan(j, time.Now())
	}
	j.stale = false
}

// ask calls the source, bounded in time.
func (l *Loop) ask(stop context.Context, list bool, key credential.Key) (keys []credential.Key, c credential.Credential, err error) {
	ctx, cancel := context.WithTimeout(stop, patience)
	defer cancel()
	start := time.Now()
	defer func() {
		if l.Observe != nil && stop.Err() == nil && !isWaiting(err) {
			l.Observe(class(err), time.Since(start))
		}
	}()
	defer func() {
		if p := recover(); p != nil {
			l.Log.Error().Stringer("credential", key).Bytes("stack", debug.Stack()).Msg("bug: an upstream panicked")
			err = fmt.Errorf("internal error in upstream %q, see the log", l.Upstream)
		}
	}()
	if list {
		keys, err = l.Source.List(ctx)
		return keys, nil, err
	}
	if c, err = l.Source.Fetch(ctx, key); err == nil && c == nil {
		err = fmt.Errorf("internal error: upstream %q gave neither a credential nor an error", l.Upstream)
	}
	return nil, c, err
}
