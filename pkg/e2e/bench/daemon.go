package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A daemon is one process under measurement.
type daemon struct {
	cmd  *exec.Cmd
	done chan error
}

func launch(cmd *exec.Cmd) (*daemon, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	d := &daemon{cmd, make(chan error, 1)}
	go func() { d.done <- cmd.Wait() }()
	return d, nil
}

func (d *daemon) stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	<-d.done
}

// resident is the daemon's memory in MiB.
func (d *daemon) resident() (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			kib, err := strconv.ParseFloat(f[1], 64)
			return kib / 1024, err
		}
	}
	return 0, errors.New("no VmRSS")
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// A scene is a mock and a Purser that has everything of it in stock.
type scene struct {
	mock, purser      *daemon
	address, upstream string // of Purser's front end, of the mock
	socket            string
	started           time.Duration // from the start of the process to READY=1
}

func (s *scene) stop() {
	s.purser.stop()
	s.mock.stop()
}

// newScene starts a mock with so many roles, and Purser on it.
func newScene(root, work string, roles int) (*scene, error) {
	return setScene(root, work, "bench: {kind: ims, url: %q}", "--roles", strconv.Itoa(roles))
}

// setScene starts a mock with these flags and Purser with these upstreams, in which %q
// stands for the URL of the mock's IMS.
func setScene(root, work, upstreams string, flags ...string) (*scene, error) {
	work, err := os.MkdirTemp(work, "scene-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(work, 0o755); err != nil {
		return nil, err
	}
	s := &scene{socket: filepath.Join(work, "run", "purser.sock")}
	if s.upstream, err = freeAddress(); err != nil {
		return nil, err
	}
	if s.address, err = freeAddress(); err != nil {
		return nil, err
	}
	if s.mock, err = launch(exec.Command(filepath.Join(root, "bin/purser-mock"), append([]string{"--listen", s.upstream}, flags...)...)); err != nil {
		return nil, err
	}
	if err := reachable(s.upstream); err != nil {
		return nil, err
	}
	config := filepath.Join(work, "purser.yaml")
	text := fmt.Sprintf(`
listen: {main: {address: "%s"}}
telemetry: {listen: null}
admin: {socket: %s}
user: nobody
group: nogroup
upstreams: {%s}
grants: {everyone: {credentials: ["*"]}}
`, s.address, s.socket, fmt.Sprintf(upstreams, "http://"+s.upstream+"/latest"))
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return nil, err
	}
	s.purser, s.started, err = launchReady(exec.Command(filepath.Join(root, "bin/purser"), "serve", "--config", config), work)
	return s, err
}

// launchReady starts a daemon and waits for its READY=1.
func launchReady(cmd *exec.Cmd, work string) (*daemon, time.Duration, error) {
	path := filepath.Join(work, "notify.sock")
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, 0, err
	}
	defer notify.Close()
	if err := os.Chmod(path, 0o666); err != nil {
		return nil, 0, err
	}
	cmd.Env = []string{"NOTIFY_SOCKET=" + path, "PATH=" + os.Getenv("PATH")}
	var logged bytes.Buffer
	cmd.Stderr = &logged
	begin := time.Now()
	d, err := launch(cmd)
	if err != nil {
		return nil, 0, err
	}
	_ = notify.SetReadDeadline(begin.Add(time.Minute))
	message := make([]byte, 4096)
	for {
		n, err := notify.Read(message)
		if err != nil {
			d.stop()
			return nil, 0, fmt.Errorf("not ready: %w\n%s", err, logged.String())
		}
		if bytes.Contains(message[:n], []byte("READY=1")) {
			return d, time.Since(begin), nil
		}
	}
}

func reachable(address string) error {
	for range 200 {
		if c, err := net.Dial("tcp", address); err == nil {
			return c.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("nothing listens on %s", address)
}

// An answer is a response that has arrived.
type answer struct {
	Header http.Header
	Body   string
}

// call makes one request and returns the body of its answer.
func call(method, url string, header http.Header, body io.Reader) (string, error) {
	a, err := exchange(method, url, header, body)
	return a.Body, err
}

// exchange makes one request, which must succeed.
func exchange(method, url string, header http.Header, body io.Reader) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return answer{}, err
	}
	r.Header = header
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	got, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err == nil && got.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s %s", method, url, got.Status, text)
	}
	return answer{got.Header, string(text)}, err
}

// launchBare starts the server of comparison, which gives a fixed answer at a path
// and prints its address.
func launchBare(root, work, path string, fixed answer) (*daemon, string, error) {
	fixed.Header.Del("Date") // net/http adds it anew
	given, err := json.Marshal(fixed)
	if err != nil {
		return nil, "", err
	}
	binary := filepath.Join(work, "bare")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "./bench/bare")
	build.Dir = filepath.Join(root, "pkg/e2e")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, "", err
	}
	cmd := exec.Command(binary, path, string(given))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	d, err := launch(cmd)
	if err != nil {
		return nil, "", err
	}
	address, err := bufio.NewReader(out).ReadString('\n')
	return d, strings.TrimSpace(address), err
}
