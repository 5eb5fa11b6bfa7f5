package main

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/purser-agent/purser/pkg/mock"
)

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
			lines, stop := startBeside(t, append([]string{"--vault", "127.0.0.1:0"}, c.args...)...)
			url, rest, _ := strings.Cut(lines[1], " ")
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
