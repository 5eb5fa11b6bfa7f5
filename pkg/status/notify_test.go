package status

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// manager is the receiving end of systemd's notification socket. It is read without
// waiting, so that it can be used inside a synctest bubble, where waiting for a
// socket would stop the clock.
type manager struct{ fd int }

func startManager(t *testing.T) *manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "")
	t.Setenv("WATCHDOG_PID", "")
	return &manager{fd}
}

// received returns the messages that have arrived.
func (m *manager) received(t *testing.T) (messages []string) {
	t.Helper()
	buffer := make([]byte, 4096)
	for {
		n, _, err := unix.Recvfrom(m.fd, buffer, unix.MSG_DONTWAIT)
		if errors.Is(err, syscall.EAGAIN) {
			return messages
		}
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, string(buffer[:n]))
	}
}

// during returns the messages of some simulated time. The queue of the socket is
// short, so it is emptied every second.
func (m *manager) during(t *testing.T, d time.Duration) (messages []string) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(time.Second)
		synctest.Wait()
		messages = append(messages, m.received(t)...)
	}
	return messages
}

func occurrences(messages []string, message string) (n int) {
	for _, m := range messages {
		if m == message {
			n++
		}
	}
	return n
}

// service is a Purser that is to be notified about.
type service struct {
	*Notifier
	ready  chan struct{}
	status atomic.Value
	dead   atomic.Bool
	stop   context.CancelFunc
	done   chan struct{}
}

func startService(t *testing.T) *service {
	s := &service{ready: make(chan struct{}), done: make(chan struct{})}
	s.status.Store("waiting for test_role")
	s.Notifier = &Notifier{
		Ready:  s.ready,
		Status: func() string { return s.status.Load().(string) },
		Alive:  func() bool { return !s.dead.Load() },
		Log:    zerolog.New(t.Output()),
	}
	ctx, cancel := context.WithCancel(t.Context())
	s.stop = cancel
	go func() {
		defer close(s.done)
		s.Run(ctx)
	}()
	return s
}

func TestStartIsExtendedWithoutEndUntilReady(t *testing.T) {
	systemd := startManager(t)
	synctest.Test(t, func(t *testing.T) {
		s := startService(t)
		first := systemd.during(t, time.Second)
		if want := []string{extendStart, "STATUS=waiting for test_role"}; !slices.Equal(first, want) {
			t.Errorf("at the start: got %q, want %q", first, want)
		}
		hour := systemd.during(t, time.Hour)
		if got, want := occurrences(hour, extendStart), int(time.Hour/extendEvery); got != want || len(hour) != want {
			t.Errorf("in the next hour: %d extensions in %d messages, want %d and nothing else", got, len(hour), want)
		}

		s.status.Store("ready, credentials: 1 fresh")
		close(s.ready)
		synctest.Wait()
		if got, want := systemd.received(t), []string{"READY=1", "STATUS=ready, credentials: 1 fresh"}; !slices.Equal(got, want) {
			t.Errorf("when ready: got %q, want %q", got, want)
		}
		if got := systemd.during(t, time.Hour); len(got) != 0 {
			t.Errorf("in an hour without news: got %q, want nothing", got)
		}
		s.stop()
		<-s.done
		if got, want := systemd.received(t), []string{"STOPPING=1\nSTATUS=stopping"}; !slices.Equal(got, want) {
			t.Errorf("at the stop: got %q, want %q", got, want)
		}
	})
}

func TestStatusIsSentWhenItChangesAndCannotSmuggleAssignments(t *testing.T) {
	systemd := startManager(t)
	synctest.Test(t, func(t *testing.T) {
		s := startService(t)
		close(s.ready)
		systemd.during(t, time.Minute)
		s.status.Store("ready\nMAINPID=1\x1b[2J")
		if got, want := systemd.during(t, time.Minute), []string{`STATUS=ready MAINPID=1\x1b[2J`}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		s.stop()
		<-s.done
	})
}

func TestWatchdogIsFedOnlyWhileTheRefresherIsAlive(t *testing.T) {
	systemd := startManager(t)
	t.Setenv("WATCHDOG_USEC", strconv.Itoa(int(30*time.Second/time.Microsecond)))
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	synctest.Test(t, func(t *testing.T) {
		s := startService(t)
		close(s.ready)
		if got := occurrences(systemd.during(t, time.Minute), "WATCHDOG=1"); got != 4 {
			t.Errorf("fed %d times in a minute, want 4: twice per interval", got)
		}
		s.dead.Store(true)
		if got := occurrences(systemd.during(t, 5*time.Minute), "WATCHDOG=1"); got != 0 {
			t.Errorf("fed %d times while the refresher was stuck, want 0", got)
		}
		s.dead.Store(false)
		if got := occurrences(systemd.during(t, time.Minute), "WATCHDOG=1"); got != 4 {
			t.Errorf("fed %d times after it woke up, want 4", got)
		}
		s.stop()
		<-s.done
	})
}

func TestWatchdogOfAnotherProcessIsNotFed(t *testing.T) {
	systemd := startManager(t)
	t.Setenv("WATCHDOG_USEC", "1000000")
	t.Setenv("WATCHDOG_PID", "1")
	synctest.Test(t, func(t *testing.T) {
		s := startService(t)
		if got := occurrences(systemd.during(t, time.Minute), "WATCHDOG=1"); got != 0 {
			t.Errorf("fed %d times, want 0", got)
		}
		s.stop()
		<-s.done
	})
}

func TestReloadIsBracketedOnlyWhileTheServiceRuns(t *testing.T) {
	systemd := startManager(t)
	refused := errors.New("unknown key")
	synctest.Test(t, func(t *testing.T) {
		s := startService(t)
		systemd.during(t, time.Second)
		var during []string
		reload := func() error {
			during = systemd.received(t)
			return refused
		}
		if err := s.Reload(reload); !errors.Is(err, refused) {
			t.Errorf("before ready: got %v, want %v", err, refused)
		}
		if got := append(during, systemd.received(t)...); len(got) != 0 {
			t.Errorf("before ready: got %q, want nothing: READY=1 would be a lie", got)
		}

		close(s.ready)
		systemd.during(t, time.Second)
		if err := s.Reload(reload); !errors.Is(err, refused) {
			t.Errorf("got %v, want %v", err, refused)
		}
		clock, ok := strings.CutPrefix(strings.Join(during, ""), "RELOADING=1\nMONOTONIC_USEC=")
		if usec, err := strconv.ParseUint(strings.TrimSpace(clock), 10, 64); !ok || err != nil || usec == 0 {
			t.Errorf("while reloading: got %q, want RELOADING=1 with the monotonic time", during)
		}
		if got, want := systemd.received(t), []string{"READY=1"}; !slices.Equal(got, want) {
			t.Errorf("after reloading: got %q, want %q, also when it failed", got, want)
		}

		s.stop()
		<-s.done
		systemd.received(t)
		_ = s.Reload(reload)
		if got := append(during, systemd.received(t)...); len(got) != 0 {
			t.Errorf("after the stop: got %q, want nothing", got)
		}
	})
}

func TestReadyFromTheStartIsSaidAtOnce(t *testing.T) {
	systemd := startManager(t)
	synctest.Test(t, func(t *testing.T) {
		s := startService(t)
		close(s.ready)
		synctest.Wait()
		if got := systemd.received(t); !slices.Contains(got, "READY=1") {
			t.Errorf("got %q, want READY=1 without any wait", got)
		}
		s.stop()
		<-s.done
	})
}

func TestNotifierDoesNothingWithoutSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	n := &Notifier{Status: func() string { t.Error("the status was asked for"); return "" }}
	n.Run(t.Context())
	called := false
	if err := n.Reload(func() error { called = true; return nil }); err != nil || !called {
		t.Errorf("reload called: %v, error %v, want true, nil", called, err)
	}
}

func TestMissingManagerIsWarnedAboutOnce(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	t.Setenv("WATCHDOG_USEC", "")
	var log strings.Builder
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		n := &Notifier{
			Ready:  make(chan struct{}),
			Status: func() string { return time.Now().String() },
			Alive:  func() bool { return true },
			Log:    zerolog.New(&log),
		}
		n.Run(ctx)
	})
	if got := strings.Count(log.String(), "systemd cannot be notified"); got != 1 {
		t.Errorf("%d warnings in an hour, want 1", got)
	}
}
