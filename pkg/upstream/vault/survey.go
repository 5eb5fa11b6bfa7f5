package vault

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"

	"github.com/purser-agent/purser/pkg/credential"
)

// survey asks once, where a namespace is configured, whether the server has any. One
// that has none ignores the setting, and gives what its root namespace has by the same
// name.
func (s *session) survey(ctx context.Context) {
	namespace := s.auth.Namespace
	if namespace == "" || s.surveyed.Load() {
		return
	}
	all := url.Values{"standbyok": {"true"}, "perfstandbyok": {"true"}}
	got, err := s.sender.send(ctx, credential.Secret{}, request{path: "sys/health", query: all})
	if err != nil && troubled(faultOf(err)) {
		return // others report on it, and it is asked again
	}
	s.surveyed.Store(true)
	if err == nil && !hasNamespaces(got.raw.Body) {
		s.log.Error().Str("namespace", namespace).Msg("this server has no namespaces and ignores the setting: what it gives is from its root namespace, and may be something else by the same name; remove namespace, or ask the right server")
	}
}

// hasNamespaces reports whether the answer of sys/health is one of OpenBao or Vault
// Enterprise. OpenBao knows no performance standbys and says nothing about them.
func hasNamespaces(health []byte) bool {
	var says struct {
		Enterprise         bool   `json:"enterprise"`
		Version            string `json:"version"`
		PerformanceStandby *bool  `json:"performance_standby"`
	}
	if json.Unmarshal(health, &says) != nil {
		return true // it does not say
	}
	return says.Enterprise || strings.Contains(says.Version, "+ent") || says.PerformanceStandby == nil
}
