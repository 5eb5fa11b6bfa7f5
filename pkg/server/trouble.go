package server

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/purser-agent/purser/pkg/caller"
)

// troubleEvery is how often one kind of trouble is logged, however often it happens.
const troubleEvery = 10 * time.Second

// A troubleLog tells of what goes wrong with connections. Clients can cause most of
// it as often as they like, so each kind is logged occasionally.
type troubleLog struct {
	log                                                 zerolog.Logger
	lookups, refusals, evictions, files, panics, others occasional
}

func newTroubleLog(log zerolog.Logger) troubleLog {
	return troubleLog{
		log:       log,
		lookups:   newOccasional(),
		refusals:  newOccasional(),
		evictions: newOccasional(),
		files:     newOccasional(),
		panics:    newOccasional(),
		others:    newOccasional(),
	}
}

// An occasional event is reported at most every troubleEvery, with how often it
// happened since the last report.
type occasional struct {
	sometimes rate.Sometimes
	times     atomic.Int64
}

func newOccasional() occasional {
	return occasional{sometimes: rate.Sometimes{Interval: troubleEvery}}
}

func (o *occasional) do(report func(times int64)) {
	o.times.Add(1)
	o.sometimes.Do(func() { report(o.times.Swap(0)) })
}

func (t *troubleLog) unidentified(c *conn, known caller.Identity, err error) {
	t.lookups.do(func(times int64) {
		t.log.Warn().Err(err).Str("listener", c.listener.Name).Stringer("caller", known).Int64("times", times).
			Msg("caller not identified, it gets what is granted to what is known of it")
	})
}

func (t *troubleLog) crowded(c *conn) {
	t.refusals.do(func(times int64) {
		t.log.Warn().Stringer("caller", c.peer.Identity).Str("listener", c.listener.Name).Int64("times", times).
			Msg("connection closed: too many are at work at once")
	})
}

func (t *troubleLog) evicted(c *conn) {
	t.evictions.do(func(times int64) {
		t.log.Warn().Stringer("caller", c.peer.Identity).Str("listener", c.listener.Name).Int64("times", times).
			Msg("idle connection closed to make room for another one")
	})
}

func (t *troubleLog) exhausted(err error) {
	t.files.do(func(times int64) {
		t.log.Error().Err(err).Int64("times", times).
			Msg("out of file descriptors, idle connections are closed: raise LimitNOFILE= of the unit or lower the number of connections")
	})
}

// panicked logs where a handler panicked. A runtime error says what Go found wrong
// and holds no values but numbers and types; any other value may hold a secret.
func (t *troubleLog) panicked(p any) {
	where := stack()
	t.panics.do(func(times int64) {
		event := t.log.Error().Str("type", fmt.Sprintf("%T", p)).Strs("stack", where).Int64("times", times)
		if err, ok := p.(runtime.Error); ok {
			event = event.Str("cause", err.Error())
		}
		event.Msg("the handler panicked, its connection is closed")
	})
}

// stack lists the functions and lines from the panic up to net/http.
func stack() []string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	var lines []string
	for {
		frame, more := frames.Next()
		if strings.HasPrefix(frame.Function, "net/http.") {
			return lines
		}
		lines = append(lines, fmt.Sprintf("%s %s:%d", frame.Function, frame.File, frame.Line))
		if !more {
			return lines
		}
	}
}

// maxTrouble bounds a message of net/http, in bytes.
const maxTrouble = 256

// Write implements io.Writer for the error log of net/http.
func (t *troubleLog) Write(message []byte) (int, error) {
	t.others.do(func(times int64) {
		t.log.Warn().Str("message", bounded(strings.TrimSpace(string(message)), maxTrouble)).Int64("times", times).
			Msg("trouble in net/http")
	})
	return len(message), nil
}

// outOfFiles reports whether accept lacked something that closing a connection gives
// back.
func outOfFiles(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM)
}

// otherFiles is what Purser keeps open besides connections in place: those being
// identified, upstreams, logs, the admin socket.
const otherFiles = maxIdentifying + 128

// withinFileLimit lowers the bound on connections to what the process may open: it
// is better to choose which connection closes than to fail to accept. Go itself has
// raised the soft limit to the hard one.
func withinFileLimit(most int, log zerolog.Logger) int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		log.Warn().Err(err).Msg("limit of open files is unknown")
		return most
	}
	if limit.Cur >= uint64(most+otherFiles) {
		return most
	}
	room := max(int(limit.Cur)-otherFiles, 16)
	log.Warn().Int("connections", most).Int("possible", room).Uint64("open_files", limit.Cur).
		Msg("fewer connections than configured: raise LimitNOFILE= of the unit or lower their number")
	return room
}
