package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// expectVictimServed is what an attack must not prevent: another user is served.
func expectVictimServed(t *testing.T, agent *harness.Agent) {
	t.Helper()
	began := time.Now()
	if got := (caller{uid: daemonUID}).role(t, "http://"+agent.Address); got != "test_role" {
		t.Errorf("another user gets %s", got)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("another user waits %v for three answers", took)
	}
}

// expectSmall bounds the memory of the agent after an attack.
func expectSmall(t *testing.T, agent *harness.Agent) {
	t.Helper()
	const most = 64 << 10 // KiB
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", agent.PID()))
	must(t, err)
	for line := range strings.Lines(string(status)) {
		var resident int
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &resident); n == 1 {
			t.Logf("%d KiB resident", resident)
			if resident > most {
				t.Errorf("%d KiB resident after the attack, want at most %d", resident, most)
			}
			return
		}
	}
	t.Error("no VmRSS in /proc/PID/status")
}

// attackedAgent is one whose other callers are another user than the test's.
func attackedAgent(t *testing.T) *harness.Agent {
	t.Helper()
	needsRoot(t)
	return startAgent(t, harness.AgentOptions{Config: upstream(startMock(t).URL()) + everything})
}

func dial(t *testing.T, agent *harness.Agent) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", agent.Address)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestTenThousandIdleConnectionsShutNobodyOut(t *testing.T) {
	agent := attackedAgent(t)
	for range 10_000 {
		dial(t, agent)
	}
	expectVictimServed(t, agent)
	expectSmall(t, agent)
	stopping := time.Now()
	if code, err := agent.Stop(); code != 0 || err != nil {
		t.Errorf("the agent ended with %d, %v", code, err)
	}
	if took := time.Since(stopping); took > 400*time.Millisecond {
		t.Errorf("stopping took %v", took)
	}
}

func TestSlowRequestsAreCutOffAndShutNobodyOut(t *testing.T) {
	agent := attackedAgent(t)
	var slow []net.Conn
	for range 400 {
		slow = append(slow, dial(t, agent))
	}
	request := "GET /latest/meta-data/ HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
	began, open := time.Now(), len(slow)
	for i := 0; open > 0 && time.Since(began) < time.Minute; i++ {
		text := "a"
		if i < len(request) {
			text = request[i : i+1]
		}
		open = 0
		for _, c := range slow {
			if _, err := io.WriteString(c, text); err == nil {
				open++
			}
		}
		if i == 3 {
			expectVictimServed(t, agent)
		}
		time.Sleep(250 * time.Millisecond)
	}
	if open > 0 {
		t.Errorf("%d of %d requests were still being read after a minute", open, len(slow))
	}
	t.Logf("the last slow request was cut off after %v", time.Since(began).Round(time.Second))
	expectSmall(t, agent)
}

func TestGarbageIsRefusedAndShutsNobodyOut(t *testing.T) {
	agent := attackedAgent(t)
	const end = " HTTP/1.1\r\nHost: localhost\r\n\r\n"
	for name, attack := range map[string]string{
		"a header of 1 MiB":        "GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + strings.Repeat("a", 1<<20) + "\r\n\r\n",
		"100,000 headers":          "GET / HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("A: b\r\n", 100_000) + "\r\n",
		"a path of 1 MiB":          "GET /" + strings.Repeat("a", 1<<20) + end,
		"a session token of 4 KiB": "GET / HTTP/1.1\r\nHost: localhost\r\n" + tokenHeader + ": " + strings.Repeat("A", 4096) + "\r\n\r\n",
		"an unknown method":        "BREW /latest/api/token" + end,
		"a method of 64 KiB":       strings.Repeat("A", 64<<10) + " /" + end,
		"no HTTP":                  strings.Repeat("\x16\x03\x01\x00\xff\r\n", 1000),
		"two lengths":              "PUT /latest/api/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
		"a body without end":       "PUT /latest/api/token HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("10000\r\n"+strings.Repeat("a", 0x10000)+"\r\n", 64),
		"an upgrade":               "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
		"HTTP/2":                   "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"two hosts":                "GET / HTTP/1.1\r\nHost: localhost\r\nHost: 169.254.169.254\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, agent)
			must(t, c.SetDeadline(time.Now().Add(10*time.Second)))
			go func() { _, _ = io.WriteString(c, attack) }() // it may be cut off in the middle
			answer, err := io.ReadAll(io.LimitReader(c, 12))
			if err != nil && len(answer) == 0 {
				return // closed without a word
			}
			if !bytes.HasPrefix(answer, []byte("HTTP/1.1 4")) && !bytes.HasPrefix(answer, []byte("HTTP/1.1 5")) {
				t.Errorf("the answer begins %q", answer)
			}
		})
	}
	expectVictimServed(t, agent)
	expectSmall(t, agent)
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	agent := attackedAgent(t)
	c := dial(t, agent)
	must(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	const n = 1000
	var requests strings.Builder
	for i := range n {
		connection := "keep-alive"
		if i == n-1 {
			connection = "close"
		}
		fmt.Fprintf(&requests, "PUT /latest/api/token HTTP/1.1\r\nHost: localhost\r\nConnection: %s\r\n%s: %d\r\n\r\n", connection, ttlHeader, i+1)
	}
	go func() { _, _ = io.WriteString(c, requests.String()) }()
	answers, err := io.ReadAll(c)
	must(t, err)
	var order []string
	for line := range strings.Lines(string(answers)) {
		if value, found := strings.CutPrefix(line, ttlHeader+": "); found {
			order = append(order, strings.TrimSpace(value))
		}
	}
	for i, value := range order {
		if value != fmt.Sprint(i+1) {
			t.Fatalf("answer %d is to request %s", i+1, value)
		}
	}
	if len(order) != n {
		t.Errorf("%d answers to %d requests", len(order), n)
	}
	expectVictimServed(t, agent)
	expectSmall(t, agent)
}
