// Package refresh decides when to ask an upstream again, and asks. One Loop serves
// one upstream: it learns what the upstream grants, fetches each credential ahead
// of time, keeps what is in stock when that fails, and tries again politely.
//
// The decisions are pure functions (schedule.go); the loop only asks, stores and
// waits. How an upstream is spoken to is left to pkg/upstream, who may read the
// result to pkg/policy. No request of a client ever leads to more than one call
// here, and none waits for one, except the first for a key on demand.
package refresh

import (
	"context"
	"errors"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
)

// A Source is one configured upstream. Both methods ask once, honour ctx and do
// not retry: the loop does. They must be safe for concurrent use.
type Source interface {
	// List asks what the upstream grants this host. An empty list is an answer.
	List(ctx context.Context) ([]credential.Key, error)
	// Fetch asks for one credential.
	Fetch(ctx context.Context, key credential.Key) (credential.Credential, error)
}

// A Declarer is a Source whose configuration names its keys, so that its list need
// not be asked for. A nil answer means that the upstream has to be asked, an empty one
// that it has nothing but keys on demand.
type Declarer interface{ Declared() []credential.Key }

// An Allower is a Source that may also be asked for keys that nobody configured
// ahead, such as a role or an audience.
type Allower interface {
	Allows(key credential.Key) bool
}

// A Skewer is a Source that knows how far the upstream's clock is ahead of ours,
// zero if it does not know.
type Skewer interface{ Skew() time.Duration }

// A Watcher is a Source that depends on files, or on the credential of another
// upstream. Changed reports once after one of them changed: a reason to retry at once
// what failed before.
type Watcher interface{ Changed() bool }

// A Replacer is a Source whose credentials may be replaced before they end, such as
// those in a file. Replaced, which is asked every second, reports whether they are
// others than those that were fetched last, for each replacement once at least: a reason
// to list and fetch everything again at once. What such a source gives counts, also if it
// ends earlier than what is in stock.
type Replacer interface{ Replaced() bool }

// A Superseder is a Source that may find out, when it is asked for a credential again,
// that what it gave before is of no use any more. Supersedes reports whether what Fetch
// gave last counts for that reason, also if it ends earlier than what is in stock.
type Superseder interface {
	Supersedes(key credential.Key) bool
}

// A Rereader is a Source of credentials without an end that knows how long one may
// go without being asked for again; 0 means hourly.
type Rereader interface {
	Reread(key credential.Key) time.Duration
}

// A Runner is a Source that has something to look after as long as its loop runs,
// such as a session with its upstream. Run returns soon after ctx ends, which it does
// after the last attempt did; it may give back then what it has.
type Runner interface{ Run(ctx context.Context) }

// A Hurrier is a Source that keeps itself from asking too often. Hurry ends such a
// pause: somebody wants to know whether it works now.
type Hurrier interface{ Hurry() }

// Declared returns the keys that the configuration of source names, if it does.
func Declared(source Source) []credential.Key {
	if d, ok := source.(Declarer); ok {
		return d.Declared()
	}
	return nil
}

// An error of a Source may say more about itself by these methods.
type (
	permanent interface{ Permanent() bool }           // someone must fix something: the slow curve
	delayed   interface{ RetryAfter() time.Duration } // the upstream said when to come back
	refusal   interface{ Refused() bool }             // this host may not have it
	classed   interface{ Class() string }             // low cardinality, for metrics
	patient   interface{ Waiting() bool }             // something else comes first, and whoever fetches that reports on it
)

func isPermanent(err error) bool {
	var p permanent
	return errors.As(err, &p) && p.Permanent()
}

func isWaiting(err error) bool {
	var p patient
	return errors.As(err, &p) && p.Waiting()
}

func isRefused(err error) bool {
	var r refusal
	return errors.As(err, &r) && r.Refused()
}

func retryAfter(err error) time.Duration {
	var d delayed
	if errors.As(err, &d) {
		return d.RetryAfter()
	}
	return 0
}

// class is how metrics count the outcome of an attempt.
func class(err error) string {
	var c classed
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &c):
		return c.Class()
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "canceled"
	default:
		return "other"
	}
}
