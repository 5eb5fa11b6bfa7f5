package vault

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

func clientOf(t *testing.T, namespace string, addresses ...string) *client {
	t.Helper()
	c, err := newClient(upstream.Defaults(), addresses, namespace, zerolog.New(t.Output()))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestClientSendsWhatVaultWants(t *testing.T) {
	t.Setenv("VAULT_ADDR", "http://127.0.0.1:1")
	t.Setenv("BAO_ADDR", "http://127.0.0.1:1")
	t.Setenv("BAO_TOKEN", "wrong")
	t.Setenv("BAO_NAMESPACE", "wrong")
	var got *http.Request
	var body map[string]any
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		_ = json.NewDecoder(r.Body).Decode(&body)
		_, _ = w.Write([]byte(`{"lease_duration": 18446744073709551316, "data": {"ttl": 1}}`))
	}))
	defer server.Close()
	c := clientOf(t, "team-a", server.URL+"/vault/")
	r := request{method: "POST", path: "aws/sts/billing", body: map[string]any{"ttl": "1h"}}
	a, err := c.send(t.Context(), credential.NewSecret("hvs.x"), r)
	if err != nil {
		t.Fatal(err)
	}
	if got.URL.Path != "/vault/v1/aws/sts/billing" || got.Method != "POST" || body["ttl"] != "1h" {
		t.Errorf("got %s %s with %v", got.Method, got.URL.Path, body)
	}
	for header, want := range map[string]string{
		"X-Vault-Token": "hvs.x", "X-Vault-Namespace": "team-a", "X-Vault-Request": "true", "User-Agent": "purser",
	} {
		if got.Header.Get(header) != want {
			t.Errorf("%s is %q, want %q", header, got.Header.Get(header), want)
		}
	}
	if a.secret.LeaseDuration != "18446744073709551316" {
		t.Errorf("the lease duration reads %q", a.secret.LeaseDuration)
	}
}
