package awsapi

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// An STS is the Security Token Service at one place. It is safe for concurrent use.
type STS struct {
	Client *upstream.Client
	Place  Place
}

// A Call asks STS for a session.
type Call struct {
	Action  string
	Session Session
	Form    url.Values
	// Sign authenticates the request by its body. Without it the call is unsigned.
	Sign func(req *http.Request, body string) error
	// By is with what the session is asked for, in the words of a message.
	By string
	// Meanings are the codes that mean something of their own for this call.
	Meanings map[string]Meaning
}

// Assume makes a call once. The error is an *upstream.Error, or the signer's.
func (s *STS) Assume(ctx context.Context, c Call) (*credential.AWS, error) {
	body := c.Form.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Place.URL("sts"), strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	if c.Sign != nil {
		if err := c.Sign(req, body); err != nil {
			return nil, fmt.Errorf("signing with %s: %w", c.By, err)
		}
	}
	answer, err := s.Client.Do(req)
	if err != nil {
		return nil, err
	}
	if answer.Check() != nil {
		return nil, s.explain(answer, c)
	}
	return s.credential(answer, c)
}

func (s *STS) credential(a *upstream.Answer, c Call) (*credential.AWS, error) {
	if strings.TrimSpace(string(a.Body)) == "" {
		return nil, a.Errorf(upstream.ClassIncomplete, "the answer is empty; is the endpoint one of STS?")
	}
	keys, err := parseAnswer(a.Body, c.Action)
	if err != nil {
		return nil, a.Errorf(upstream.ClassMalformed, "%w", err)
	}
	return SessionOf(a, keys, c.Session.RoleARN, s.Client.Skew())
}
