package e2e

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// A program is a real AWS client: see clients/boto3_client.py for what it is told.
type program struct {
	name string
	// argv is the command line before the address of the API.
	argv []string
	// once marks a program that makes one call and ends: it is started for each.
	once bool
}

// programs are the clients, each an unmodified SDK.
func programs(t *testing.T) []program {
	t.Helper()
	root, err := harness.Root()
	if err != nil {
		t.Fatal(err)
	}
	here := filepath.Join(root, "pkg", "e2e")
	return []program{
		{name: "boto3", argv: []string{"/usr/bin/python3", filepath.Join(here, "clients", "boto3_client.py")}},
		{name: "awscli", argv: []string{"/usr/bin/aws"}, once: true},
		{name: "go", argv: []string{goClient(t)}},
		{name: "js", argv: []string{"/usr/bin/node", filepath.Join(here, "clients", "js_client.mjs")}},
	}
}

// buildGoClient builds the client once for all tests.
var buildGoClient = sync.OnceValues(func() (string, error) { return buildClient("goclient") })

// buildClient builds one of the programs in clients, statically as for a bare host.
func buildClient(name string) (string, error) {
	root, err := harness.Root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "bin", "e2e-"+name)
	build := exec.Command("go", "build", "-trimpath", "-o", path, "./clients/"+name)
	build.Dir = filepath.Join(root, "pkg", "e2e")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %s", name, out)
	}
	return path, nil
}

func goClient(t *testing.T) string {
	t.Helper()
	path, err := buildGoClient()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// A session is a running program.
type session struct {
	t       *testing.T
	program program
	api     string
	env     []string
	inside  *harness.Namespace
	stdin   io.WriteCloser
	answers chan string
}

// start runs the program with only these environment variables, until the test ends.
func (p program) start(t *testing.T, inside *harness.Namespace, api *api, env ...string) *session {
	t.Helper()
	home := t.TempDir()
	s := &session{t: t, program: p, api: api.URL, inside: inside, env: append([]string{"HOME=" + home}, env...)}
	if p.once {
		return s
	}
	stdin, out := io.Pipe()
	lines, answers := io.Pipe()
	s.stdin, s.answers = out, make(chan string)
	process, err := harness.Command{Path: p.argv[0], Args: append(p.argv[1:len(p.argv):len(p.argv)], s.api),
		Env: s.env, Namespace: inside, Stdin: stdin, Stdout: answers}.Start()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for scan := bufio.NewScanner(lines); scan.Scan(); {
			s.answers <- scan.Text()
		}
	}()
	t.Cleanup(func() {
		s.stdin.Close()
		if _, err := process.Stop(); err != nil {
			t.Error(err)
		}
		if text := process.Output(); text != "" {
			t.Logf("%s said on stderr: %s", p.name, text)
		}
	})
	return s
}

// tell gives the program a command and returns its answer.
func (s *session) tell(command string) string {
	s.t.Helper()
	if s.program.once {
		return s.runOnce(command)
	}
	if _, err := io.WriteString(s.stdin, command+"\n"); err != nil {
		s.t.Fatal(err)
	}
	select {
	case answer := <-s.answers:
		return answer
	case <-time.After(30 * time.Second):
		s.t.Fatalf("%s did not answer %q", s.program.name, command)
		return ""
	}
}

// runOnce is tell for the AWS CLI, which knows no sessions.
func (s *session) runOnce(command string) string {
	s.t.Helper()
	args := []string{"sts", "get-caller-identity", "--endpoint-url", s.api, "--region", "eu-central-1", "--query", "Arn", "--output", "text"}
	if command == "region" {
		args = []string{"configure", "list"}
	}
	r, err := harness.Command{Path: s.program.argv[0], Args: args, Env: s.env, Namespace: s.inside}.Run()
	if err != nil {
		s.t.Fatal(err)
	}
	if r.Exit != 0 {
		return "error: " + r.Stderr
	}
	if command != "region" {
		return strings.TrimSpace(r.Stdout)
	}
	for line := range strings.Lines(r.Stdout) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "region" {
			return fields[1]
		}
	}
	return "error: no region in " + r.Stdout
}

// call makes a signed API call and returns the access key ID that it was signed with.
// The command is "call" for the session's own client and "new" for a fresh one.
func (s *session) call(command string) string {
	s.t.Helper()
	answer := s.tell(command)
	key, ok := strings.CutPrefix(answer, "arn:aws:sts::123456789012:assumed-role/e2e/")
	if !ok {
		s.t.Fatalf("%s: %s answers %s", s.program.name, command, answer)
	}
	return key
}
