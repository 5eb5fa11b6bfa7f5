package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// A request is one question to Vault, relative to /v1/.
type request struct {
	method    string // GET, POST, LIST; GET if empty
	path      string // such as aws/sts/billing, without a slash in front
	namespace string // instead of the session's own, if set
	query     url.Values
	body      map[string]any
	wrapTTL   time.Duration // ask for a wrapped answer, if set
	header    map[string]credential.Secret
}

// An answer is what Vault said to a request that succeeded.
type answer struct {
	secret *secret          // never nil; empty where the answer had no body
	sent   time.Time        // before the request left, with its monotonic reading
	age    time.Duration    // by the Age header, or by the creation time of the wrap it came out of
	raw    *upstream.Answer // for Errorf
}

// An asker asks Vault with a token that is valid; *session is one.
type asker interface {
	// ask sends one request, after a login if there is no token. It does not retry but
	// for what a 403 calls for: see session.ask.
	ask(ctx context.Context, r request) (*answer, error)
	// ends is when the present token ends and everything that was made with it; false
	// if it has no end or there is none.
	ends() (time.Time, bool)
}

// A secret is the envelope that every answer of Vault has. Numbers stay as they were
// written: some do not fit any integer.
type secret struct {
	LeaseID       string         `json:"lease_id"`
	LeaseDuration json.Number    `json:"lease_duration"` // in seconds
	Renewable     bool           `json:"renewable"`
	Data          map[string]any `json:"data"`
	Warnings      []string       `json:"warnings"`
	WrapInfo      *wrapInfo      `json:"wrap_info"`
	Auth          *authInfo      `json:"auth"`
	MountType     string         `json:"mount_type"`
}

// Format prints nothing of what is in an envelope.
func (*secret) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, "[redacted]") }

// A wrapInfo is there if the answer was put behind a token of its own.
type wrapInfo struct {
	Token        string      `json:"token"`
	Accessor     string      `json:"accessor"`
	TTL          json.Number `json:"ttl"`
	CreationTime time.Time   `json:"creation_time"`
	CreationPath string      `json:"creation_path"`
}

// An authInfo is what a login and a renewal answer.
type authInfo struct {
	ClientToken    string          `json:"client_token"`
	Accessor       string          `json:"accessor"`
	Policies       []string        `json:"policies"`
	LeaseDuration  json.Number     `json:"lease_duration"` // in seconds
	Renewable      bool            `json:"renewable"`
	EntityID       string          `json:"entity_id"`
	TokenType      string          `json:"token_type"`
	NumUses        json.Number     `json:"num_uses"`
	MFARequirement json.RawMessage `json:"mfa_requirement"`
}
