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

// A request is one question to Vault, relative to /v1/. Its body may be secret.
type request struct {
	method    string // GET, POST, LIST; GET if empty
	path      string // such as aws/sts/billing, without a slash in front
	namespace string // instead of the session's own, if set
	query     url.Values
	body      map[string]any
	header    map[string]credential.Secret
}

// An answer is what Vault said to a request that succeeded.
type answer struct {
	secret *secret          // never nil; empty where the answer had no body
	sent   time.Time        // before the request left, with its monotonic reading
	age    time.Duration    // by the Age header of a cache
	raw    *upstream.Answer // for Errorf
	by     *token           // with which it was asked; nil if that was not the session's
}

// Format prints what is asked for, and nothing of what goes along.
func (r request) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, r.method, " ", r.path) }

// Format prints nothing of an answer.
func (*answer) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, "[redacted]") }

// An asker asks Vault with a token that is valid; *session is one.
type asker interface {
	// ask sends one request, after a login if there is no token. It does not retry but
	// for what a 403 calls for: see session.ask.
	ask(ctx context.Context, r request) (*answer, error)
}

// A secret is the envelope that every answer of Vault has. Numbers stay as they were
// written: some do not fit any integer.
type secret struct {
	LeaseID       string         `json:"lease_id"`
	LeaseDuration json.Number    `json:"lease_duration"` // in seconds
	Renewable     bool           `json:"renewable"`
	Data          map[string]any `json:"data"`
	Warnings      []string       `json:"warnings"`
	WrapInfo      *struct{}      `json:"wrap_info"` // there if the answer was put behind a token of its own
	Auth          *authInfo      `json:"auth"`
}

// Format prints nothing of what is in an envelope.
func (*secret) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, "[redacted]") }

// An authInfo is what a login and a renewal answer.
type authInfo struct {
	ClientToken    string          `json:"client_token"`
	LeaseDuration  json.Number     `json:"lease_duration"` // in seconds
	Renewable      bool            `json:"renewable"`
	TokenType      string          `json:"token_type"`
	NumUses        json.Number     `json:"num_uses"`
	MFARequirement json.RawMessage `json:"mfa_requirement"`
}

// Format prints nothing of a token.
func (*authInfo) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, "[redacted]") }
