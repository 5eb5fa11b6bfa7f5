package e2e

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// TestPromise5EveryConnectionOfAGrantedCallerIsIdentified: one in thousands that is not
// would be an error that nobody can explain.
func TestPromise5EveryConnectionOfAGrantedCallerIsIdentified(t *testing.T) {
	inside := namespace(t)
	mock := startMock(t)
	ims := newRecorder(t, loopback(t, inside), mock.Server())
	agent := startAgent(t, harness.AgentOptions{Namespace: inside, Config: upstream(ims.URL+"/latest") + "grants: {everyone: null, root: {user: \"0\", credentials: [test_role]}}\n"})
	address, err := netip.ParseAddrPort(agent.Address)
	must(t, err)
	must(t, inside.Redirect(int(address.Port())))
	client := inside.HTTP()
	client.Transport.(*http.Transport).DisableKeepAlives = true
	token, _, err := request(client, http.MethodPut, "/latest/api/token", ttlHeader, "21600")
	must(t, err)
	wrong := 0
	for n := range 20_000 {
		body, status, err := request(client, http.MethodGet, securityCredentials+"test_role", tokenHeader, token)
		must(t, err)
		if status != http.StatusOK || !strings.Contains(body, `"Code" : "Success"`) {
			wrong++
			t.Logf("request %d: %d", n, status)
		}
	}
	for _, a := range agent.Accesses() {
		if a.Status != 200 {
			t.Logf("%+v", a)
		}
	}
	if wrong > 0 {
		t.Errorf("%d of 20000 were not identified", wrong)
	}
}
