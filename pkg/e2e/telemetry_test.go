package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// TestMetricsFollowWhatHappens: a series is what an alert is built on, so each must
// move with the thing that it is about.
func TestMetricsFollowWhatHappens(t *testing.T) {
	mock := startMock(t)
	agent := startAgent(t, harness.AgentOptions{Config: upstream(mock.URL()) + everything})
	before, err := agent.Metrics()
	must(t, err)
	m := newMetadata(t, agent)
	m.document(t, "test_role")
	must(t, mock.SetFaults("status=503"))
	_, err = agent.Run("refresh", "test_role")
	must(t, err)
	for what, labels := range map[string][]string{
		"a served request":  {"request", `decision="served"`, `dialect="aws"`},
		"a session token":   {"request", `decision="listed"`, `route="/latest/api/token"`},
		"a failed refresh":  {"refresh", `upstream="datacenter"`, `class="server"`},
		"build information": {"build_info"},
	} {
		err := harness.Await(3*time.Second, func() error {
			after, err := agent.Metrics()
			if err != nil {
				return err
			}
			for series, value := range after {
				if containsAll(series, labels) && (value > before[series] || what == "build information" && value == 1) {
					return nil
				}
			}
			return fmt.Errorf("no series of %q moved", labels)
		})
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func containsAll(text string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return false
		}
	}
	return true
}
