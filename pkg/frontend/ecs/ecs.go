// Package ecs answers as the container credential services do, for SDKs that find
// AWS_CONTAINER_CREDENTIALS_FULL_URI or _RELATIVE_URI in their environment.
//
// The path to configure is /v1/credentials: it yields the first credential of the
// caller's View, whatever its name, so one setting serves every host and user. It is
// the path of EKS Pod Identity. /v2/credentials/NAME yields any other credential of
// the View by name, under the prefix that ECS uses; for a role on demand the name is its
// ARN, with %2F for each slash. With and without a slash at the end is the same.
//
// A plain GET yields keys here, so it needs an authorization token, whose file is
// left to cmd/purser. Who may have what is left to pkg/policy, the checks on Host
// and forwarding headers to frontend.Guard.
package ecs

import (
	"crypto/subtle"
	"errors"
	"net/http"
	"net/url"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/frontend"
)

// Name is the dialect in the configuration, in metrics and in the access log.
const Name = "ecs"

// The routes, as the metrics name them.
const (
	firstPattern = "/v1/credentials"
	namedPattern = "/v2/credentials/{name}"
	elsewhere    = "other"
)

// Options are what does not depend on who asks.
type Options struct {
	// Authorization is what the Authorization header has to hold. If it is empty,
	// callers who may use IMDSv1 need none, and the others get nothing: both ways
	// keys are had by one plain GET.
	Authorization credential.Secret
}

// A Frontend is the dialect. It is immutable and safe for concurrent use.
type Frontend struct{ authorization credential.Secret }

// New checks the options. A token that could not stand in a header is an error, since
// SDKs refuse it with a message that helps nobody.
func New(o Options) (*Frontend, error) {
	for _, c := range []byte(o.Authorization.Reveal()) {
		if c <= ' ' || c > '~' {
			return nil, errors.New("the authorization token holds a blank, a line end or another character that cannot stand in a header")
		}
	}
	return &Frontend{o.Authorization}, nil
}

// Hosts lists the names and addresses, without port, under which clients know the
// service.
func Hosts() []string {
	return []string{frontend.ContainerAddress, frontend.PodIdentityAddress, "fd00:ec2::23"}
}

// Owns implements frontend.Dialect: everything at and below the two paths.
func (*Frontend) Owns(r *http.Request) bool {
	path := frontend.Path(r.URL.Path)
	version := path.Next()
	return (version == "v1" || version == "v2") && path.Next() == "credentials"
}

// Answer implements frontend.Dialect.
func (f *Frontend) Answer(w http.ResponseWriter, r frontend.Request) frontend.Outcome {
	e := &exchange{w: w, r: r.Request}
	e.outcome.Dialect = Name
	pattern, name := find(r.URL)
	e.outcome.Route = pattern
	switch {
	case r.Refused != "":
		e.fail(forbidden, frontend.Refused, r.Refused)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header()["Allow"] = allowRead
		e.fail(methodNotAllowed, frontend.Invalid, "only GET and HEAD are allowed here")
	case !f.admits(e, r.View):
	case pattern == firstPattern:
		names := r.View.Names()
		switch {
		case len(names) > 0:
			e.keys(r.View, names[0])
		case r.View.Pending():
			e.fail(unavailable, frontend.Unavailable, "not every upstream has said what it grants")
		default:
			e.fail(notFound, frontend.NotFound, "this caller has no credential")
		}
	case pattern == namedPattern:
		e.keys(r.View, name)
	default:
		e.fail(notFound, frontend.NotFound, "no such path")
	}
	return e.outcome
}

// find returns the pattern of a path and the name in it.
func find(u *url.URL) (pattern, name string) {
	if before, role, ok := frontend.RoleOf(u); ok {
		if before.Next() == "v2" && before.Next() == "credentials" && before.End() {
			return namedPattern, role
		}
		return elsewhere, ""
	}
	path, ok := frontend.PathOf(u)
	if !ok {
		return elsewhere, ""
	}
	version, service, name := path.Next(), path.Next(), path.Next()
	switch {
	case service != "credentials" || !path.End():
	case version == "v1" && name == "":
		return firstPattern, ""
	case version == "v2" && credential.CheckName(name) == nil:
		return namedPattern, name
	}
	return elsewhere, ""
}

// admits checks the authorization token, or whether the caller needs none, and
// answers 401 itself if it does not let the request in. It comes before the path
// counts, so that nothing can be learnt without a token.
func (f *Frontend) admits(e *exchange, view frontend.View) bool {
	given, reason := "", ""
	if values := e.r.Header["Authorization"]; len(values) > 0 {
		given = values[0]
	}
	switch wanted := f.authorization; {
	case wanted.Empty() && view.IMDSv1():
		return true
	case wanted.Empty():
		reason = "no authorization token is configured, and IMDSv1 is off for this caller"
	case subtle.ConstantTimeCompare([]byte(given), []byte(wanted.Reveal())) == 1:
		return true
	case given == "":
		reason = "no authorization token"
	default:
		reason = "the authorization token is wrong"
	}
	e.fail(unauthorized, frontend.Unauthorized, reason)
	return false
}

// keys answers with the credentials of that name.
func (e *exchange) keys(view frontend.View, name string) {
	e.outcome.Credential = name
	keys, err := frontend.AWS(e.r.Context(), view, name)
	if err != nil {
		decision, reason := frontend.Explain(err)
		if decision == frontend.NotFound {
			e.fail(notFound, decision, reason)
		} else {
			e.fail(unavailable, decision, reason)
		}
		return
	}
	b := frontend.NewBuffer()
	defer b.Free()
	b.Text = appendKeys(b.Text, keys)
	e.outcome.Decision = frontend.Served
	e.send(http.StatusOK, b.Text)
}
