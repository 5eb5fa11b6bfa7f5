package server

import (
	"cmp"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"
)

// What a client chose is cut to these lengths in bytes before it is kept or logged.
const (
	maxMethod     = 16
	maxPath       = 256
	maxAgent      = 128
	maxCredential = 256
)

// leftOutEvery is how often the access log tells of lines that it left out.
const leftOutEvery = 10 * time.Second

// An accessLog writes one line for each request, up to a rate. Denied requests have
// a rate of their own, so that a flood of others does not hide them.
type accessLog struct {
	log     zerolog.Logger
	enabled bool
	granted bucket
	denied  bucket
	told    time.Duration // when lines left out were reported; for the sweep only
}

type bucket struct {
	limit   *rate.Limiter
	leftOut atomic.Int64
}

func newAccessLog(o Options) accessLog {
	return accessLog{
		log:     o.Log,
		enabled: o.Log.GetLevel() <= zerolog.InfoLevel,
		granted: newBucket(o),
		denied:  newBucket(o),
	}
}

func newBucket(o Options) bucket {
	return bucket{limit: rate.NewLimiter(rate.Limit(cmp.Or(o.LogRate, 50)), cmp.Or(o.LogBurst, 200))}
}

// A line is one request in the access log. Queries and headers other than the user
// agent are never part of it: they may hold tokens.
type line struct {
	Access
	method, path string
	agent        string // at most maxAgent
	took         time.Duration
}

// allows reports whether there is room for a line, and counts it if there is none.
func (l *accessLog) allows(denied bool, at time.Time) bool {
	if !l.enabled {
		return false
	}
	b := &l.granted
	if denied {
		b = &l.denied
	}
	if !b.limit.AllowN(at, 1) {
		b.leftOut.Add(1)
		return false
	}
	return true
}

func (l *accessLog) write(entry *line, peer *Peer) {
	event := l.log.Info()
	if peer.Identity.Known {
		event = event.Uint32("uid", peer.Identity.UID)
	}
	event = addStr(event, "unit", peer.Identity.Unit)
	event = event.Stringer("peer", peer.Address).
		Stringer("destination", peer.Destination).
		Str("listener", peer.Listener)
	event = addStr(event, "dialect", entry.Dialect)
	event = addStr(event, "route", entry.Route)
	event = addStr(event, "method", bounded(entry.method, maxMethod))
	event = addStr(event, "path", bounded(entry.path, maxPath))
	event = event.Int("status", entry.Status).Str("decision", entry.Decision)
	event = addStr(event, "credential", bounded(entry.Credential, maxCredential))
	event = addStr(event, "reason", entry.Reason)
	event = addStr(event, "user_agent", entry.agent)
	event.Int64("duration_us", entry.took.Microseconds()).Msg("request")
}

// addStr adds a field that has something to say.
func addStr(event *zerolog.Event, key, value string) *zerolog.Event {
	if value == "" {
		return event
	}
	return event.Str(key, value)
}

// tick tells of lines left out since the last time, at most every ten seconds.
func (l *accessLog) tick(now time.Duration) {
	if now-l.told >= leftOutEvery {
		l.told = now
		l.reportLeftOut()
	}
}

func (l *accessLog) reportLeftOut() {
	granted, denied := l.granted.leftOut.Swap(0), l.denied.leftOut.Swap(0)
	if granted+denied > 0 {
		l.log.Warn().Int64("granted", granted).Int64("denied", denied).Msg("requests left out of the access log")
	}
}

// bounded cuts what a client sent to a length. It may cut a character in two, which
// the log replaces.
func bounded(text string, most int) string {
	if len(text) > most {
		return text[:most]
	}
	return text
}
