package harness

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// readyTimeout is how long an agent may take to become ready.
const readyTimeout = 15 * time.Second

// AgentOptions say how an Agent is started.
type AgentOptions struct {
	// Config is merged over the harness's own configuration, which has a front end,
	// telemetry and an admin socket of their own, and logs at trace level.
	Config string
	// Env is added to the environment.
	Env []string
	// Address is where the front end listens; by default loopback with a free port.
	Address string
	// UID and GID start the agent as that user. Started by root it drops to nobody.
	UID, GID int
	// Capabilities are given to the other user, in the words of setpriv.
	Capabilities string
	// Namespace is where it runs.
	Namespace *Namespace
	// NotReady lets StartAgent return at once, not when the agent is ready.
	NotReady bool
}

// An Agent is a running `purser serve`.
type Agent struct {
	*Process
	// Dir is the agent's own folder: conf.d and its runtime files.
	Dir string
	// Address is host and port of the front end, Telemetry those of /metrics.
	Address, Telemetry string

	options AgentOptions
	binary  string
	mu      sync.Mutex
	said    strings.Builder // what the commands of Purser have printed
}

// StartAgent starts the agent and waits until /readyz says so. Call Close in any case
// when it returned an Agent.
func StartAgent(o AgentOptions) (*Agent, error) {
	a, err := NewAgent(o)
	if err != nil {
		return nil, err
	}
	return a, a.Start()
}

// NewAgent prepares an agent without starting it.
func NewAgent(o AgentOptions) (*Agent, error) {
	binary, err := Binary("purser")
	if err != nil {
		return nil, err
	}
	a := &Agent{options: o, binary: binary, Address: o.Address}
	if a.Address == "" {
		if a.Address, err = freeAddress(); err != nil {
			return nil, err
		}
	}
	if a.Telemetry, err = freeAddress(); err != nil {
		return nil, err
	}
	if a.Dir, err = os.MkdirTemp("", "purser-e2e-"); err != nil {
		return nil, err
	}
	return a, errors.Join(os.Chmod(a.Dir, 0o755), a.layout(), a.Configure(o.Config))
}

func freeAddress() (string, error) {
	port, err := FreePort()
	return fmt.Sprintf("127.0.0.1:%d", port), err
}

// layout makes the agent's folders and the part of the configuration that places it.
func (a *Agent) layout() error {
	for _, dir := range []string{a.confd(), a.run()} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if a.options.UID != 0 {
			if err := os.Chown(dir, a.options.UID, a.options.GID); err != nil {
				return err
			}
		}
	}
	base := fmt.Sprintf(`listen:
  main: {address: %q, dialects: [aws, ecs]}
telemetry: {listen: %q}
admin: {socket: %q}
user: nobody
group: nogroup
log: {level: trace, format: json}
`, a.Address, a.Telemetry, a.socket())
	return os.WriteFile(filepath.Join(a.confd(), "00-harness.yaml"), []byte(base), 0o644)
}

func (a *Agent) confd() string  { return filepath.Join(a.Dir, "conf.d") }
func (a *Agent) run() string    { return filepath.Join(a.Dir, "run") }
func (a *Agent) socket() string { return filepath.Join(a.run(), "purser.sock") }

// Authorization is the file with the token of the container credentials.
func (a *Agent) Authorization() string { return filepath.Join(a.run(), "authorization") }

// AuthorizationToken is what is in that file, or empty.
func (a *Agent) AuthorizationToken() string {
	text, _ := os.ReadFile(a.Authorization())
	return string(text)
}

// Configure replaces the test's part of the configuration; `reload` makes the agent
// see it.
func (a *Agent) Configure(text string) error {
	return os.WriteFile(filepath.Join(a.confd(), "50-test.yaml"), []byte(text), 0o644)
}

// Start starts the prepared agent.
func (a *Agent) Start() error {
	var err error
	serve := a.Command("serve")
	if a.options.Capabilities != "" {
		serve.Args = append([]string{"--reuid", strconv.Itoa(serve.UID), "--regid", strconv.Itoa(serve.GID), "--clear-groups",
			"--inh-caps", a.options.Capabilities, "--ambient-caps", a.options.Capabilities, "--", serve.Path}, serve.Args...)
		serve.Path, serve.UID, serve.GID = "/usr/bin/setpriv", 0, 0
	}
	if a.Process, err = serve.Start(); err != nil || a.options.NotReady {
		return err
	}
	return a.AwaitReady(readyTimeout)
}

// AwaitReady waits for a green /readyz.
func (a *Agent) AwaitReady(timeout time.Duration) error {
	err := Await(timeout, func() error {
		select {
		case <-a.Ended():
			return errors.New("the agent ended")
		default:
		}
		status, body, err := a.telemetry("/readyz")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("/readyz answers %d %q", status, body)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("the agent is not ready: %w; it said:\n%s", err, a.Output())
	}
	return nil
}

// Ready reports whether /readyz is green now.
func (a *Agent) Ready() bool {
	status, _, err := a.telemetry("/readyz")
	return err == nil && status == http.StatusOK
}

// Command is `purser serve`, or one of the operator's commands, for this agent.
func (a *Agent) Command(args ...string) Command {
	switch args[0] {
	case "serve", "check", "config":
		args = append(args, "--config", a.confd())
	case "status", "refresh", "wait", "reload":
		args = append(args, "--socket", a.socket())
	case "redirect":
		if args[1] != "remove" {
			args = append(args, "--config", a.confd())
		}
	}
	return Command{
		Path: a.binary, Args: args, Env: a.options.Env,
		UID: a.options.UID, GID: a.options.GID, Namespace: a.options.Namespace,
	}
}

// Run runs one of the operator's commands against this agent.
func (a *Agent) Run(args ...string) (Result, error) {
	r, err := a.Command(args...).Run()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.said.WriteString(r.Stdout)
	a.said.WriteString(r.Stderr)
	return r, err
}

// Said is everything that may not contain a secret: the log at trace level, the
// metrics, and what the commands printed.
func (a *Agent) Said() string {
	_, metrics, _ := a.telemetry("/metrics")
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.Output() + metrics + a.said.String()
}

// Metrics returns the value of each series, by its text in the exposition format.
func (a *Agent) Metrics() (map[string]float64, error) {
	status, body, err := a.telemetry("/metrics")
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("/metrics answers %d", status)
	}
	series := map[string]float64{}
	for line := range strings.Lines(body) {
		line = strings.TrimSpace(line)
		space := strings.LastIndex(line, " ")
		if space < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		if series[line[:space]], err = strconv.ParseFloat(line[space+1:], 64); err != nil {
			return nil, fmt.Errorf("/metrics, line %q: %w", line, err)
		}
	}
	return series, nil
}

func (a *Agent) telemetry(path string) (status int, body string, err error) {
	client := a.options.Namespace.HTTP()
	defer client.CloseIdleConnections()
	response, err := client.Get("http://" + a.Telemetry + path)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

// An Access is one line of the access log: the facts that the tests look at.
type Access struct {
	Method, Path, Dialect, Route, Decision, Credential, Reason string
	Status                                                     int
	UID                                                        *uint32 // nil: unknown
	Unit, Peer, Destination                                    string
}

// Accesses returns the lines of the access log so far, in order.
func (a *Agent) Accesses() []Access {
	var lines []Access
	for line := range strings.Lines(a.Output()) {
		var access struct {
			Message string
			Access
		}
		if json.Unmarshal([]byte(line), &access) == nil && access.Message == "request" {
			lines = append(lines, access.Access)
		}
	}
	return lines
}

// Close stops the agent and removes its folder. The error says so if it did not end
// with exit code 0.
func (a *Agent) Close() error {
	var err error
	if a.Process != nil {
		code, stopErr := a.Stop()
		if err = stopErr; err == nil && code != 0 {
			err = fmt.Errorf("the agent ended with exit code %d", code)
		}
	}
	return errors.Join(err, os.RemoveAll(a.Dir))
}
