package vault

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/purser-agent/purser/pkg/credential"
)

// case 69 and 71
func TestParseAddress(t *testing.T) {
	for raw, want := range map[string]string{
		"https://vault.example.com:8200":       "https://vault.example.com:8200",
		"https://vault.example.com":            "https://vault.example.com",
		"https://[2001:db8::1]:8200/":          "https://[2001:db8::1]:8200",
		"https://example.com/vault/":           "https://example.com/vault",
		"unix:///run/vault-agent.sock":         "unix:///run/vault-agent.sock",
		"http://vault.example.com":             "http://vault.example.com",
		"https://vault.example.com/v1":         "ends with /v1, which is added by itself; leave it out",
		"https://vault.example.com/vault/v1/":  "ends with /v1, which is added by itself; leave it out",
		"https://user:secret@vault.example":    "holds an @; a user or password does not belong in a URL",
		"vault.example.com:8200":               "does not begin with http:// or https://",
		"unix://run/vault.sock":                "is no absolute path of a socket, such as unix:///run/vault-agent.sock",
		"unix:///" + strings.Repeat("x", 107):  "is no absolute path of a socket, such as unix:///run/vault-agent.sock",
		"https://vault.example.com?namespace=": "has a query or a fragment",
	} {
		at, err := parseAddress(raw)
		got := at
		if err != nil && err.Error() != want || err == nil && got.String() != want {
			t.Errorf("%s: got %v, %v, want %s", raw, got.url, err, want)
		}
	}
}

func TestWhatCanBeReadOnTheWay(t *testing.T) {
	for raw, want := range map[string]bool{
		"https://vault.example.com:8200": false, "http://127.0.0.1:8200": false, "http://[::1]:8200": false,
		"http://localhost:8200": false, "unix:///run/vault.sock": false,
		"http://vault.example.com": true, "http://192.0.2.1": true, "http://localhost.example.com": true, "http://[::ffff:192.0.2.1]": true,
	} {
		at, err := parseAddress(raw)
		if err != nil || at.open() != want {
			t.Errorf("%s: got %v, %v, want %v", raw, at.open(), err, want)
		}
	}
}

func TestAServerThatSpeaksHTTPSIsNoRefusedLogin(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	c := clientOf(t, brief(), strings.Replace(server.URL, "https://", "http://", 1))
	_, err := c.send(t.Context(), credential.Secret{}, request{method: "POST", path: "auth/approle/login"})
	if want := "the server may speak HTTPS; use https://"; err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("got %v, want ...%s", err, want)
	}
}
