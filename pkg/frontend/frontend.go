// Package frontend holds what all dialects share: what a dialect is given for a
// request, what it says of its answer, the checks on Host and forwarding headers
// that guard every one of them, and how paths are read and answers written. Each
// dialect is one folder below this one.
//
// It leaves connections and callers to pkg/server and pkg/caller, and who may have
// what to pkg/policy: a dialect sees one caller's View and nothing else.
package frontend

import (
	"context"
	"net/http"

	"github.com/purser-agent/purser/pkg/credential"
)

// A View is what one caller may have. The views of pkg/policy fit.
type View interface {
	// Names lists what the caller may have, the first being the one that an SDK
	// picks. The slice is shared and must not be changed.
	Names() []string
	// Get returns a credential, or one of the errors of pkg/credential. It never
	// waits for an upstream once the credential is in stock.
	Get(ctx context.Context, key credential.Key) (credential.Credential, error)
	// IMDSv1 reports whether the caller may ask the AWS metadata service without a
	// session token.
	IMDSv1() bool
	// Pending reports whether Names may become longer, because not every upstream has
	// said what it grants.
	Pending() bool
}

// A Request is one HTTP request and what is known of who sent it.
type Request struct {
	*http.Request
	View View
	// Refused says why the request must be refused whatever it asks for, or is
	// empty. It is for the log; the caller learns only that it was refused.
	Refused string
}

// Decision is what a dialect decided, in a few words that metrics and the access
// log share.
type Decision string

// The decisions.
const (
	Served       Decision = "served"       // a useful answer
	Listed       Decision = "listed"       // names, metadata or a session token: no keys
	Refused      Decision = "refused"      // Host, forwarding header or peer not allowed
	Unauthorized Decision = "unauthorized" // token missing, wrong or expired
	NotFound     Decision = "not_found"    // not there, or not for this caller
	Unavailable  Decision = "unavailable"  // known, but nothing valid in stock
	Invalid      Decision = "invalid"      // the request makes no sense in this dialect
)

// An Outcome is what a dialect says of a request that it answered.
type Outcome struct {
	Dialect    string
	Route      string // low cardinality, for metrics: a pattern, never a name
	Status     int
	Decision   Decision
	Credential string // the name that was asked for, if any
	Reason     string // one phrase for the access log; never secret, never shown to the caller
}

// A Dialect answers in the words of one cloud's metadata service. It is safe for
// concurrent use.
type Dialect interface {
	// Owns reports whether the request is in this dialect's words. The first
	// dialect of a listener that says so answers; the last one answers the rest.
	Owns(r *http.Request) bool
	// Answer writes the whole answer, header and body in one piece.
	Answer(w http.ResponseWriter, r Request) Outcome
}
