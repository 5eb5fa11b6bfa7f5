package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/status"
	"github.com/purser-agent/purser/pkg/testkit"
)

const goodAnswer = `{"AccessKeyId":"ASIAEXAMPLE","SecretAccessKey":"s3cret/+<>","Token":"t0ken==","Expiration":"2026-11-23T05:00:00Z"}`

// startFrontEnd starts a stand-in for the front end.
func startFrontEnd(t *testing.T, handler http.HandlerFunc) (url string) {
	t.Helper()
	return testkit.Serve(t, handler).URL
}

// tokenIn is a file with a token.
func tokenIn(t *testing.T, token string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), authorizationFile)
	if err := os.WriteFile(path, []byte(token), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCredentialProcessAsksAsASDKWould(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	var got *http.Request
	url := startFrontEnd(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		io.WriteString(w, goodAnswer)
	})
	for _, c := range []struct{ name, token, path, authorization string }{
		{"web", "t0ken", "/v2/credentials/web", "t0ken"},
		{"a/b c?d", "t0ken\n", "/v2/credentials/a%2Fb%20c%3Fd", "t0ken"},
		{"..", "t0ken", "/v2/credentials/..", "t0ken"},
	} {
		var out bytes.Buffer
		if err := credentialProcess(t.Context(), url+"/", tokenIn(t, c.token), c.name, &out); err != nil {
			t.Fatal(err)
		}
		if got.Method != http.MethodGet || got.URL.EscapedPath() != c.path || got.Header.Get("Authorization") != c.authorization {
			t.Errorf("%s: got %s %s with authorization %q", c.name, got.Method, got.URL.EscapedPath(), got.Header.Get("Authorization"))
		}
		const want = `{"Version":1,"AccessKeyId":"ASIAEXAMPLE","SecretAccessKey":"s3cret/+\u003c\u003e","SessionToken":"t0ken==","Expiration":"2026-11-23T05:00:00Z"}` + "\n"
		if out.String() != want {
			t.Errorf("%s: got %s, want %s", c.name, out.String(), want)
		}
	}
}

func TestCredentialProcessDoesWithoutATokenWhereThereIsNone(t *testing.T) {
	url := startFrontEnd(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Values("Authorization") != nil {
			t.Errorf("got authorization %q", r.Header.Values("Authorization"))
		}
		io.WriteString(w, goodAnswer)
	})
	if err := credentialProcess(t.Context(), url, filepath.Join(t.TempDir(), "none"), "web", io.Discard); err != nil {
		t.Error(err)
	}
}

func TestCredentialProcessSaysWhatToDoAndPrintsNothing(t *testing.T) {
	elsewhere := startFrontEnd(t, func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed, with the token") })
	url := startFrontEnd(t, func(w http.ResponseWriter, r *http.Request) {
		switch name := strings.TrimPrefix(r.URL.Path, "/v2/credentials/"); name {
		case "hang":
			<-r.Context().Done()
		case "elsewhere":
			http.Redirect(w, r, elsewhere, http.StatusTemporaryRedirect)
		case "cut":
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, goodAnswer)
		case "huge":
			io.WriteString(w, `{"AccessKeyId":"`+strings.Repeat("s3cret", maxProcessAnswer))
		case "page":
			io.WriteString(w, "<html>s3cret</html>")
		default:
			code := map[string]int{"401": 401, "403": 403, "404": 404, "503": 503, "500": 500}[name]
			http.Error(w, goodAnswer, code)
		}
	})
	token := tokenIn(t, "t0ken")
	missing := filepath.Join(t.TempDir(), "none")
	for _, c := range []struct{ name, url, token, want string }{
		{"401", url, token, "status 401: the token in " + token + " is not the front end's"},
		{"401", url, missing, "status 401: the front end wants its token, and there is no " + missing + "; see --token-file"},
		{"403", url, token, "status 403: the front end refuses this way of asking; see its log"},
		{"404", url, token, "status 404: there is no such credential, or no grant gives it to this user"},
		{"503", url, token, "status 503: it is not in stock; see purser status"},
		{"500", url, token, "status 500: " + url + " is not Purser's container-credentials front end"},
		{"elsewhere", url, token, "status 307: " + url + " is not Purser's container-credentials front end"},
		{"page", url, token, "the answer is not a credential; does --url name Purser's listener?"},
		{"huge", url, token, "the answer is not a credential; does --url name Purser's listener?"},
		{"cut", url, token, "unexpected EOF"},
		{"hang", url, token, "no answer; is purser running, and does --url name its listener?"},
		{"web", "http://127.0.0.1:1", token, "purser is not running: Get \"http://127.0.0.1:1/v2/credentials/web\": dial tcp 127.0.0.1:1: connect: connection refused; start it, or name its listener with --url"},
		{"web", url, tokenIn(t, ""), "the file is empty"},
		{"web", url, t.TempDir(), "not a regular file"},
		{"web", url, tokenIn(t, "s3cret\nline"), "invalid header field value"},
	} {
		ctx, cancel := context.WithTimeoutCause(t.Context(), processTime, errors.New("no answer"))
		if c.name == "hang" {
			ctx, cancel = context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("no answer"))
		}
		var out bytes.Buffer
		err := credentialProcess(ctx, c.url, c.token, c.name, &out)
		cancel()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want %s", c.name, err, c.want)
			continue
		}
		if got, want := errors.Is(err, status.ErrNotRunning), strings.Contains(c.want, "connection refused"); got != want {
			t.Errorf("%s: got error %v, which is ErrNotRunning: %v", c.name, err, got)
		}
		if strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "t0ken") {
			t.Errorf("%s: the error shows a secret: %v", c.name, err)
		}
		if out.Len() > 0 {
			t.Errorf("%s: an SDK would read %q", c.name, out.String())
		}
	}
}

func TestCredentialProcessTakesOnlyAURLOfAListener(t *testing.T) {
	for _, url := range []string{"", "127.0.0.1:25772", "localhost:25772", "https://127.0.0.1:25772", "http://", "unix:///run/purser.sock", "http://[::1"} {
		err := credentialProcess(t.Context(), url, "none", "web", io.Discard)
		if _, usage := errors.AsType[usageError](err); !usage || !strings.Contains(err.Error(), "is not a URL such as http://127.0.0.1:25772") {
			t.Errorf("%q: got error %v", url, err)
		}
	}
}

// FuzzAnswerOfTheFrontEnd: whatever answers on the port, an SDK gets a whole
// credential or nothing.
func FuzzAnswerOfTheFrontEnd(f *testing.F) {
	for _, seed := range []string{
		"", "null", "{}", "[]", goodAnswer, goodAnswer + goodAnswer, goodAnswer[:40], `{"code":"NotFound","message":"no such credential"}`,
		strings.Replace(goodAnswer, "2026-11-23T05:00:00Z", "tomorrow", 1), strings.Replace(goodAnswer, `"t0ken=="`, "null", 1), strings.Replace(goodAnswer, "t0ken==", "", 1),
		strings.Replace(goodAnswer, `"ASIAEXAMPLE"`, "7", 1), strings.Replace(goodAnswer, "{", `{"AccountId":"123456789012",`, 1),
		strings.Replace(goodAnswer, "t0ken", `\u0000\n\ud800`, 1), `{"accesskeyid":"a","SECRETACCESSKEY":"b","token":"c","expiration":"2026-11-23T05:00:00+01:00"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var out bytes.Buffer
		c, whole := parseAnswered(body)
		if !whole {
			return
		}
		if err := writeProcess(&out, c); err != nil {
			t.Fatal(err)
		}
		line, one := strings.CutSuffix(out.String(), "\n")
		if !one || strings.ContainsAny(line, "\n\r\x00") {
			t.Fatalf("got %q, want one line", out.String())
		}
		var got struct {
			Version                                                int
			AccessKeyId, SecretAccessKey, SessionToken, Expiration string
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatal(err)
		}
		var given struct{ Token *string }
		_ = json.Unmarshal(body, &given)
		userKeys := given.Token != nil && *given.Token == ""
		if got.Version != 1 || got.AccessKeyId == "" || got.SecretAccessKey == "" || got.SessionToken == "" && !userKeys {
			t.Errorf("%s is not whole", line)
		}
		if _, err := time.Parse(time.RFC3339, got.Expiration); err != nil {
			t.Error(err)
		}
	})
}
