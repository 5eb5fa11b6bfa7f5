package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/purser-agent/purser/pkg/mock"
)

func TestServesARolesAnywhereBesideTheIMS(t *testing.T) {
	authority, err := mock.NewAuthority("authority", nil)
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, mock.CertificatePEM(authority.Certificate), 0o600); err != nil {
		t.Fatal(err)
	}
	stdout, out := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"--listen", "127.0.0.1:0", "--roles-anywhere", "127.0.0.1:0", "--roles-anywhere-ca", ca, "--roles-anywhere-fault", "status=418,role=web"}, out, io.Discard)
		_ = out.Close()
	}()
	lines := bufio.NewScanner(stdout)
	lines.Scan() // that of the IMS
	lines.Scan()
	url := lines.Text()
	if status, body := get(t, http.DefaultClient, url+"/_mock/faults"); status != 200 || !strings.Contains(body, "status=418,role=web") {
		t.Errorf("it has the faults %d %s", status, body)
	}
	if status, body := get(t, http.DefaultClient, url+"/_mock/sessions"); status != 200 || body != "[]\n" {
		t.Errorf("it has the sessions %d %s", status, body)
	}
	res, err := http.Post(url+"/sessions", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("it answers %d to a call without a signature", res.StatusCode)
	}
	cancel()
	if got := <-code; got != 0 {
		t.Errorf("ended with %d", got)
	}
}

func TestWrongRolesAnywhereFlags(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const on = "--roles-anywhere=127.0.0.1:0"
	certificate, _, _ := selfSigned(t)
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"an authority alone": {[]string{"--roles-anywhere-ca", empty}, "need --roles-anywhere"},
		"no authority":       {[]string{on}, "--roles-anywhere needs --roles-anywhere-ca"},
		"no file":            {[]string{on, "--roles-anywhere-ca", empty + "x"}, "--roles-anywhere-ca: open "},
		"an empty file":      {[]string{on, "--roles-anywhere-ca", empty}, "there is no PEM certificate in it"},
		"no ARN":             {[]string{on, "--roles-anywhere-ca", certificate, "--roles-anywhere-distrusting", "x"}, `--roles-anywhere-distrusting: "x" is not the ARN of a role`},
		"an unknown fault":   {[]string{on, "--roles-anywhere-ca", certificate, "--roles-anywhere-fault", "x"}, `--roles-anywhere-fault: fault "x": unknown kind`},
	} {
		var stderr bytes.Buffer
		if code := run(t.Context(), c.args, io.Discard, &stderr); code != exitUsage || !strings.Contains(stderr.String(), c.want) {
			t.Errorf("%s: ended with %d: %s", name, code, stderr.String())
		}
	}
}
