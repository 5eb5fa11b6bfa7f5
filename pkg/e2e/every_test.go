package e2e

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// A crossroads is an agent that gives one role to root and another to daemon, behind
// the redirect.
func startCrossroads(t *testing.T) *harness.Namespace {
	t.Helper()
	inside := namespace(t)
	mock := startMock(t, "--role", "alpha", "--role", "omega")
	ims := newRecorder(t, loopback(t, inside), mock.Server())
	agent := startAgent(t, harness.AgentOptions{Namespace: inside, Config: upstream(ims.URL+"/latest") + fmt.Sprintf(
		"grants: {everyone: null, root: {user: \"0\", credentials: [alpha]}, daemon: {user: \"%d\", credentials: [omega]}}\nconnections: {per_user: 4000}\n", daemonUID)})
	address, err := netip.ParseAddrPort(agent.Address)
	must(t, err)
	must(t, inside.Redirect(int(address.Port())))
	// Every connection comes from another port than the client's, as happens now and then
	// on a host that makes very many.
	must(t, inside.ChangePorts(int(address.Port())))
	return inside
}

// TestPromise5ACallerIsKnownWhosePortWasChangedOnTheWay: one connection in thousands that
// is not would be an error that nobody can explain.
func TestPromise5ACallerIsKnownWhosePortWasChangedOnTheWay(t *testing.T) {
	inside := startCrossroads(t)
	client := inside.HTTP()
	client.Transport.(*http.Transport).DisableKeepAlives = true
	token, _, err := request(client, http.MethodPut, "/latest/api/token", ttlHeader, "21600")
	must(t, err)
	for n := range 100 {
		time.Sleep(20 * time.Millisecond) // in truth they are rare, and the search for them is bounded
		body, status, err := request(client, http.MethodGet, securityCredentials+"alpha", tokenHeader, token)
		must(t, err)
		if status != http.StatusOK || !strings.Contains(body, `"Code" : "Success"`) {
			t.Fatalf("request %d: %d %s", n, status, body)
		}
	}
}

// TestPromise5WhoeverCannotBeToldFromOthersIsNobody: of two users at the same time each
// gets its own or nothing.
func TestPromise5WhoeverCannotBeToldFromOthersIsNobody(t *testing.T) {
	inside := startCrossroads(t)
	stop := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		client := inside.HTTP()
		client.Transport.(*http.Transport).DisableKeepAlives = true
		for {
			select {
			case <-stop:
				return
			default:
			}
			if body, status, err := request(client, http.MethodGet, securityCredentials, tokenHeader, "x"); err == nil && status == http.StatusOK {
				t.Errorf("a wrong token is answered with %s", body)
			}
		}
	})
	daemon := caller{daemonUID, inside}
	for range 40 {
		if status, body := daemon.curl(t, "http://169.254.169.254"+securityCredentials); status == http.StatusOK && body != "omega" {
			t.Errorf("daemon is shown %q", body)
		}
		if status, body := daemon.curl(t, "http://169.254.169.254"+securityCredentials+"alpha"); status == http.StatusOK {
			t.Errorf("daemon gets what root is granted: %s", body)
		}
	}
	close(stop)
	asking.Wait()
}
