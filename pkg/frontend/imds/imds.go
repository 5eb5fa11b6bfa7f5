// Package imds answers as the EC2 instance metadata service does, version 2 and,
// for callers who may use it, version 1: session tokens, the role and its
// credentials, and the static metadata of the host. Bytes, headers and status codes
// are those of the real service wherever they are known, because SDKs and shell
// scripts depend on them.
//
// What is derived and what is configured: the role listing and the credential
// documents come from the caller's View, iam/info from it or from the configured
// instance profile. Everything else below meta-data is the configured tree and
// nothing more, since agents take a working instance-id as proof of EC2. The identity
// document exists once placement/region is configured; it repeats the tree, its
// account ID is that of iam/info and its architecture that of this machine, unless
// they are configured. Its signatures cannot be made and are 404.
//
// Listings name exactly what answers, with two exceptions. The role list shows the
// first role alone, since SDKs take one line, but the caller's others answer by name;
// and iam/security-credentials-extended, which some SDKs ask for where an account ID
// is known, is in no listing that was seen of the real service.
//
// Who may ask and for what is left to pkg/policy, the checks on Host and forwarding
// headers to frontend.Guard, the connection and its hop limit to pkg/server.
package imds

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"time"

	"github.com/purser-agent/purser/pkg/frontend"
)

// Name is the dialect in the configuration, in metrics and in the access log.
const Name = "aws"

// Options are the parts of the answers that do not depend on who asks.
type Options struct {
	// TokenKey signs the session tokens and has TokenKeyBytes random bytes. Tokens
	// outlive a restart if the key does.
	TokenKey []byte
	// Metadata is the tree below meta-data: text, whole numbers and booleans are
	// leaves, maps are directories, and a list is a leaf with one line per element.
	// What is null or empty is left out. The name iam is not accepted. The name
	// dynamic holds what only the identity document shows, under
	// instance-identity/document: accountId, architecture, pendingTime,
	// billingProducts and devpayProductCodes.
	Metadata map[string]any
	// InstanceProfile is what iam/info shows. Without it, and for a caller whose
	// first role belongs to another account, it is derived from that role.
	InstanceProfile InstanceProfile
	// UserData is the body of /latest/user-data, which is 404 if it is empty.
	UserData string
}

// An InstanceProfile is the answer of iam/info. Without an ID one is derived from
// the ARN.
type InstanceProfile struct{ ARN, ID string }

// A Frontend is the dialect. It is immutable and safe for concurrent use.
type Frontend struct {
	tokens   tokens
	metadata *directory
	// withRole is the listing of metadata for a caller who has a role.
	withRole []byte
	identity identity
	profile  InstanceProfile
	account  string // of profile
	userData []byte
	// top and dynamic are the listings of /latest/ and /latest/dynamic/.
	top, dynamic []byte
	// modified is started as the Last-Modified of all that does not change.
	modified []string
	started  time.Time
}

// New checks the options and prepares every answer that does not depend on the
// caller. What it says of the configured ones begins with their key below aws.
func New(o Options) (*Frontend, error) {
	if len(o.TokenKey) != TokenKeyBytes {
		return nil, fmt.Errorf("the session token key has %d bytes, not %d", len(o.TokenKey), TokenKeyBytes)
	}
	f := &Frontend{tokens: newTokens(o.TokenKey), userData: []byte(o.UserData), started: time.Now()}
	f.modified = lastModified(f.started)
	if err := f.setProfile(o.InstanceProfile); err != nil {
		return nil, err
	}
	if err := f.setMetadata(o.Metadata); err != nil {
		return nil, err
	}
	names := []string{"meta-data"}
	if f.identity.exists() {
		names = append(names, "dynamic")
		f.dynamic = listing("instance-identity/")
	}
	if len(f.userData) > 0 {
		names = append(names, "user-data")
	}
	f.top = listing(names...)
	return f, nil
}

// NewTokenKey returns a fresh key for Options.
func NewTokenKey() []byte {
	key := make([]byte, TokenKeyBytes)
	_, _ = rand.Read(key) // never fails: it ends the process instead
	return key
}

// Hosts lists the names and addresses, without port, under which clients know the
// service.
func Hosts() []string { return []string{frontend.MetadataAddress, "fd00:ec2::254"} }

// Owns implements frontend.Dialect: the root and every known version.
func (*Frontend) Owns(r *http.Request) bool {
	path := frontend.Path(r.URL.Path)
	version := path.Next()
	return version == "" || isVersion(version)
}

// Answer implements frontend.Dialect.
func (f *Frontend) Answer(w http.ResponseWriter, r frontend.Request) frontend.Outcome {
	e := &exchange{w: w, r: r.Request, view: r.View}
	e.outcome.Dialect = Name
	at := f.find(r.URL)
	e.outcome.Route = at.pattern
	switch {
	case r.Refused != "":
		e.page(http.StatusForbidden, frontend.Refused, r.Refused)
	case at.kind == sessionToken:
		f.putToken(e)
	case at.kind == datedToken && r.Method == http.MethodPut:
		e.page(http.StatusForbidden, frontend.Invalid, "session tokens are made below /latest only")
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		e.empty(http.StatusMethodNotAllowed, allowRead, frontend.Invalid, "only GET and HEAD are allowed here")
	case f.admits(e):
		f.read(e, at)
	}
	return e.outcome
}

// admits checks the session token, or whether the caller needs none, and answers
// 401 itself if it does not let the request in. What is at the path counts only
// after it, so that nothing can be learnt without a token.
func (f *Frontend) admits(e *exchange) bool {
	token := ""
	if values := e.r.Header[tokenHeader]; len(values) > 0 {
		token = values[0]
	}
	if token == "" {
		if e.view.IMDSv1() {
			return true
		}
		e.unauthorized("no session token, and IMDSv1 is off for this caller")
		return false
	}
	remaining, err := f.tokens.check(token, time.Now())
	if err != nil {
		e.unauthorized(err.Error())
		return false
	}
	e.session = seconds(remaining)
	return true
}

// read answers a GET or HEAD of a caller that was let in.
func (f *Frontend) read(e *exchange, at place) {
	switch at.kind {
	case fixed:
		e.text(at.body, f.modified, frontend.Listed)
	case userData:
		e.outcome.Decision = frontend.Listed
		e.send(http.StatusOK, octetStream, f.userData, f.modified)
	case metadataRoot:
		body := f.metadata.listing
		if len(e.view.Names()) > 0 {
			body = f.withRole
		}
		e.text(body, f.modified, frontend.Listed)
	case identityDocument:
		f.identityDocument(e)
	case iamRoot:
		f.iamListing(e)
	case iamInfo:
		f.iamInfo(e)
	case roleList:
		f.roleList(e, at.extended)
	case roleKeys:
		f.role(e, at.role, at.extended)
	default:
		e.notFound("no such path")
	}
}
