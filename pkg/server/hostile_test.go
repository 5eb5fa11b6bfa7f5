package server

import (
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// needFiles skips a test whose clients need more open files than the machine allows.
func needFiles(t *testing.T, files uint64) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < files {
		t.Skipf("SKIPPED, needs %d open files, the limit is %d: raise it with ulimit -n", files, limit.Cur)
	}
}

// memory returns the most memory that the child ever had resident, in MiB.
func (c *child) memory(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`VmHWM:\s*(\d+) kB`).FindSubmatch(status)
	if found == nil {
		t.Fatalf("no VmHWM in %s", status)
	}
	kib, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kib / 1024
}

// wantMemory fails if the child ever had more than most MiB resident.
func (c *child) wantMemory(t *testing.T, most int) {
	t.Helper()
	if raceDetector {
		t.Log("memory not checked, as the race detector multiplies it")
		return
	}
	if got := c.memory(t); got > most {
		t.Errorf("the server had %d MiB resident, want at most %d", got, most)
	}
}

// wantServed fails if a user had to wait for long. On an idle machine the slowest
// request takes 40 ms.
func wantServed(t *testing.T, times []time.Duration) {
	t.Helper()
	most := 2 * time.Second
	if raceDetector {
		most *= 10
	}
	if slowest := times[len(times)-1]; slowest > most {
		t.Errorf("another user waited %v, want at most %v", slowest, most)
	}
}

// stop ends the child as systemd does.
func (c *child) stop(t *testing.T) {
	t.Helper()
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("the child ended with %v", err)
	}
}

// asked keeps asking as user 8 until done is closed, and returns the sorted times.
func asked(t *testing.T, address string, done <-chan struct{}) []time.Duration {
	t.Helper()
	var times []time.Duration
	kept := dialTo(t, 8, address)
	for {
		select {
		case <-done:
			slices.Sort(times)
			return times
		default:
		}
		begin := time.Now()
		kept.get()
		fresh := dialTo(t, 8, address)
		fresh.get()
		_ = fresh.Close()
		times = append(times, time.Since(begin))
	}
}

func TestTenThousandIdleConnectionsOfOneUserHarmNobodyElse(t *testing.T) {
	const many = 10_000
	needFiles(t, many+200)
	c := startChild(t)
	before := c.memory(t)
	done := make(chan struct{})
	var others []time.Duration
	var wg sync.WaitGroup
	wg.Go(func() { others = asked(t, c.address, done) })
	for i := range many {
		idler := dialTo(t, 7, c.address)
		if i%2 == 0 {
			idler.send(get)
		}
	}
	close(done)
	wg.Wait()

	t.Logf("memory %d MiB, then %d; another user asked %d times, slowest %v", before, c.memory(t), len(others), others[len(others)-1])
	c.wantMemory(t, 48)
	wantServed(t, others)
	c.stop(t)
}

func TestAttacksLeaveMemoryBoundedAndOthersServed(t *testing.T) {
	needFiles(t, 1200)
	c := startChild(t)
	done := make(chan struct{})
	var others []time.Duration
	var wg sync.WaitGroup
	wg.Go(func() { others = asked(t, c.address, done) })

	var attacks sync.WaitGroup
	for _, attack := range []struct {
		name  string
		times int
		first string
		more  string
	}{
		{"slow-loris", 600, "GET / HTTP/1.1\r\nHost: x\r\n", ""},
		{"headers of 1 MiB", 200, "GET / HTTP/1.1\r\nHost: x\r\nX: ", strings.Repeat("a", 1<<20)},
		{"endless headers", 100, "GET / HTTP/1.1\r\nHost: x\r\n", strings.Repeat("A: b\r\n", 1<<17)},
		{"bodies of 1 MiB", 50, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n", strings.Repeat("a", 1<<20)},
		{"pipelining without reading", 20, strings.Repeat(get, 1000), strings.Repeat(get, 1000)},
		{"garbage", 200, "\x00\xff\r\n\r\n", strings.Repeat("\xff", 1<<16)},
	} {
		attacks.Go(func() {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 7)}}
			for range attack.times {
				conn, err := d.Dial("tcp4", c.address)
				if err != nil {
					t.Errorf("%s: %v", attack.name, err)
					return
				}
				_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
				_, _ = io.WriteString(conn, attack.first)
				_, _ = io.WriteString(conn, attack.more)
				if attack.more == "" {
					t.Cleanup(func() { _ = conn.Close() })
					continue
				}
				_ = conn.Close()
			}
		})
	}
	attacks.Wait()
	close(done)
	wg.Wait()

	t.Logf("memory %d MiB; another user asked %d times, slowest %v", c.memory(t), len(others), others[len(others)-1])
	c.wantMemory(t, 48)
	wantServed(t, others)
	c.stop(t)
}

// Vector T26 as far as it is ours: nothing is kept of a request.
func TestManyRequestsLeaveMemoryFlat(t *testing.T) {
	f := start(t, Options{LogRate: 1, LogBurst: 1})
	client := f.dial(7)
	ask := func(times int) uint64 {
		for range times {
			client.send("PUT /latest/api/token HTTP/1.1\r\nHost: x\r\nUser-Agent: " + rand.Text() + "\r\n\r\n").receive()
		}
		runtime.GC()
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		return memory.HeapAlloc
	}
	before := ask(1000)
	if after := ask(20_000); after > before+256<<10 {
		t.Errorf("the heap grew from %d to %d bytes", before, after)
	}
}

func TestServerThatRunsOutOfFilesGoesOn(t *testing.T) {
	c := startChild(t, "sh", "-c", `ulimit -n 20; exec "$0"`)
	hoard := make([]*client, 30)
	for i := range hoard {
		hoard[i] = dialTo(t, 7, c.address)
		hoard[i].get()
	}
	other := dialTo(t, 8, c.address)
	other.get()
	other.get()
	hoard[0].wantClosed()
	for _, message := range []string{
		"fewer connections than configured: raise LimitNOFILE= of the unit or lower their number",
		"out of file descriptors, idle connections are closed: raise LimitNOFILE= of the unit or lower the number of connections",
	} {
		if len(c.log.lines(t, message)) != 1 {
			t.Errorf("want one line %q in:\n%s", message, c.log)
		}
	}
}
