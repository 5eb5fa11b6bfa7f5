package main

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestServesAnSTSBesideTheIMS(t *testing.T) {
	urls, stop := startBeside(t, "--sts", "127.0.0.1:0", "--sts-fault", "status=418,role=web")
	if status, body := get(t, http.DefaultClient, urls[0]+list); status != 200 || body != "test_role" {
		t.Errorf("the IMS answers %d %s", status, body)
	}
	if status, body := get(t, http.DefaultClient, urls[1]+"/_mock/faults"); status != 200 || !strings.Contains(body, "status=418,role=web") {
		t.Errorf("the STS has the faults %d %s", status, body)
	}
	if status, body := post(t, urls[1]+"/", "", "Action=AssumeRole"); status != http.StatusForbidden {
		t.Errorf("the STS answers %d %s to a call without a signature", status, body)
	}
	if code := stop(); code != 0 {
		t.Errorf("ended with %d", code)
	}
}

func TestWrongSTSFlags(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"a role without STS":  {[]string{"--sts-role", "arn:aws:iam::123456789012:role/x"}, "--sts-role, --sts-provider and --sts-fault need --sts"},
		"no ARN":              {[]string{"--sts", "127.0.0.1:0", "--sts-role", "x"}, `--sts-role: "x" is not the ARN of a role`},
		"a provider alone":    {[]string{"--sts-provider", "https://x,y"}, "--sts-role, --sts-provider and --sts-fault need --sts"},
		"no audience":         {[]string{"--sts", "127.0.0.1:0", "--sts-provider", "https://x"}, `--sts-provider: "https://x" is not like https://issuer.example.com,sts.amazonaws.com`},
		"an unknown fault":    {[]string{"--sts", "127.0.0.1:0", "--sts-fault", "x"}, `--sts-fault: fault "x": unknown kind`},
		"an address in words": {[]string{"--listen", "127.0.0.1:0", "--sts", "here"}, "missing port in address"},
	} {
		var stderr bytes.Buffer
		if code := run(t.Context(), c.args, io.Discard, &stderr); code == 0 || !strings.Contains(stderr.String(), c.want) {
			t.Errorf("%s: ended with %d: %s", name, code, stderr.String())
		}
	}
}
