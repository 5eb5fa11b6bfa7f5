package e2e

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// TestPromise9AttemptsDoNotDependOnClients: clients ask an agent that has nothing in
// stock and an upstream that fails.
func TestPromise9AttemptsDoNotDependOnClients(t *testing.T) {
	for name, clients := range map[string]int{"no client": 0, "a thousand requests": 1000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mock := startMock(t, "--fault", "status=503,on=credentials")
			agent := startAgent(t, harness.AgentOptions{NotReady: true, Config: upstream(mock.URL()) + everything})
			awaitFetches(t, mock, "test_role", 1)
			m := newMetadata(t, agent)
			end := time.Now().Add(5 * time.Second)
			var asking sync.WaitGroup
			for range 8 {
				asking.Go(func() {
					for range clients / 8 {
						if status, _, err := m.get(securityCredentials + "test_role"); err != nil || status != http.StatusOK {
							t.Errorf("a client's answer: %d, %v", status, err)
							return
						}
					}
				})
			}
			asking.Wait()
			time.Sleep(time.Until(end))
			requests, err := mock.Requests()
			must(t, err)
			// Full jitter from one second, doubling: five seconds hold three attempts
			// or so, and no streak of short draws makes it a dozen.
			if n := requests.Fetches["test_role"]; n > 12 {
				t.Errorf("the upstream was asked %d times in five seconds", n)
			}
		})
	}
}

func TestPromise9ManyClientsAtOnceAreOneFetch(t *testing.T) {
	mock := startMock(t, "--fault", "latency=500ms")
	agent := startAgent(t, harness.AgentOptions{NotReady: true, Config: upstream(mock.URL()) + everything})
	must(t, harness.Await(5*time.Second, func() error {
		_, _, err := agentProbe(agent)
		return err
	}))
	m := newMetadata(t, agent)
	m.client.Transport.(*http.Transport).MaxIdleConnsPerHost = 100
	var asking sync.WaitGroup
	for range 100 {
		asking.Go(func() {
			for range 5 {
				_, _, _ = m.get(securityCredentials + "test_role")
			}
		})
	}
	for range 3 { // operators may be as many
		asking.Go(func() { _, _ = agent.Run("refresh", "test_role") })
	}
	asking.Wait()
	must(t, agent.AwaitReady(10*time.Second))
	requests, err := mock.Requests()
	must(t, err)
	if requests.Fetches["test_role"] > 2 { // the first fetch, and one that operators share
		t.Errorf("one credential was fetched %d times", requests.Fetches["test_role"])
	}
}

func agentProbe(agent *harness.Agent) (int, string, error) {
	m := &metadata{client: (*harness.Namespace)(nil).HTTP(), base: "http://" + agent.Address}
	defer m.client.CloseIdleConnections()
	return m.do(http.MethodPut, "/latest/api/token", ttlHeader, "60")
}

func TestPromise9RetryAfterIsHonoured(t *testing.T) {
	mock := startMock(t, "--fault", "status=503,retry-after=30s,on=credentials")
	startAgent(t, harness.AgentOptions{NotReady: true, Config: upstream(mock.URL()) + everything})
	awaitFetches(t, mock, "test_role", 1)
	time.Sleep(4 * time.Second)
	requests, err := mock.Requests()
	must(t, err)
	if n := requests.Fetches["test_role"]; n != 1 {
		t.Errorf("asked %d times although the upstream said to come back in 30 s", n)
	}
}
