package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/purser-agent/purser/pkg/mock"
)

// startBeside runs the command with the Vault on a free port, and returns the second
// line that it prints.
func startBeside(t *testing.T, args ...string) (line string, stop func() int) {
	t.Helper()
	stdout, out := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, append([]string{"--listen", "127.0.0.1:0", "--vault", "127.0.0.1:0"}, args...), out, io.Discard)
		_ = out.Close()
	}()
	var printed [512]byte
	n := 0
	for strings.Count(string(printed[:n]), "\n") < 2 {
		more, err := stdout.Read(printed[n:])
		if err != nil {
			t.Fatalf("it ended with code %d", <-code)
		}
		n += more
	}
	_, line, _ = strings.Cut(strings.TrimSpace(string(printed[:n])), "\n")
	return line, func() int { cancel(); return <-code }
}

func post(t *testing.T, url, token, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Vault-Token", token)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

func TestServesAVaultBesideTheIMS(t *testing.T) {
	for _, c := range []struct {
		name         string
		args         []string
		role, secret string
		token        string
		path, want   string
	}{
		{"defaults", nil, "purser", mock.Marker + "-secret-id", mock.Marker + "-token", "aws/creds/test_role", "security_token"},
		{"flags", []string{"--vault-approle", "r:s:t", "--vault-token", "t", "--vault-role", "web", "--vault-role", "batch:iam_user", "--vault-fault", "lease=1s"}, "r", "s:t", "t", "aws/creds/batch", `"lease_duration":1,`},
	} {
		t.Run(c.name, func(t *testing.T) {
			line, stop := startBeside(t, c.args...)
			url, rest, _ := strings.Cut(line, " ")
			if want := "role_id=" + c.role + " secret_id=" + c.secret + " token=" + c.token; rest != want {
				t.Errorf("it prints %q, want %q", rest, want)
			}
			if status, text := post(t, url+"/v1/auth/approle/login", "", `{"role_id": "`+c.role+`", "secret_id": "`+c.secret+`"}`); status != 200 {
				t.Errorf("the login answers %d %s", status, text)
			}
			if status, text := post(t, url+"/v1/"+c.path, c.token, ""); status != 200 || !strings.Contains(text, c.want) {
				t.Errorf("the keys are %d %s", status, text)
			}
			if status, text := get(t, http.DefaultClient, url+"/_mock/vault"); status != 200 || !strings.Contains(text, `"`+c.path+`": 1`) {
				t.Errorf("the record is %d %s", status, text)
			}
			if code := stop(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

func TestWrongVaultFlags(t *testing.T) {
	const needs = "--vault-role, --vault-approle, --vault-token and --vault-fault need --vault"
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"a role without Vault":     {[]string{"--vault-role", "x"}, needs},
		"an AppRole without Vault": {[]string{"--vault-approle", "x:y"}, needs},
		"a token without Vault":    {[]string{"--vault-token", "x"}, needs},
		"a fault without Vault":    {[]string{"--vault-fault", "hang"}, needs},
		"an unknown type":          {[]string{"--vault", "127.0.0.1:0", "--vault-role", "x:y"}, `--vault-role: "x:y" is not a name, or a name and one of the types assumed_role, federation_token, session_token, iam_user with a colon between them`},
		"no name":                  {[]string{"--vault", "127.0.0.1:0", "--vault-role", ":iam_user"}, `--vault-role: ":iam_user" is not a name`},
		"half an AppRole":          {[]string{"--vault", "127.0.0.1:0", "--vault-approle", "x"}, "--vault-approle: it is not a role ID and a secret ID with a colon between them"},
		"an empty token":           {[]string{"--vault", "127.0.0.1:0", "--vault-token", ""}, "--vault-token: it is empty"},
		"an unknown fault":         {[]string{"--vault", "127.0.0.1:0", "--vault-fault", "hnag"}, `--vault-fault: fault "hnag": unknown kind`},
	} {
		var output bytes.Buffer
		if code := run(t.Context(), append([]string{"--listen", "127.0.0.1:0"}, c.args...), &output, &output); code != exitUsage || !strings.Contains(output.String(), c.want) {
			t.Errorf("%s: code %d, output %q", name, code, output.String())
		}
	}
}

func TestEndsWhenOneServiceCannotListen(t *testing.T) {
	var output bytes.Buffer
	if code := run(t.Context(), []string{"--listen", "127.0.0.1:0", "--vault", "nonsense"}, &output, &output); code != exitFailed || !strings.Contains(output.String(), "missing port") {
		t.Errorf("code %d, output %q", code, output.String())
	}
}
