package vault

import (
	"fmt"
	"time"

	"github.com/purser-agent/purser/pkg/upstream"
)

// detail says in a few words how the session stands.
func (s *session) detail() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	text := "not logged in"
	if t := s.token; t != nil && !t.ended(now) {
		text = "logged in, no end of the token is known"
		if !t.until.IsZero() {
			text = "logged in until " + clock(t.until, now)
		}
		if t.renewed {
			text += ", renewed"
		}
	}
	if h := s.holding(now); h != nil {
		text += fmt.Sprintf("; no login before %s: %s", clock(h.until, now), upstream.Printable(h.why.Err.Error()))
	}
	return text
}
