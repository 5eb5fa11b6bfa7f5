package status

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/rs/zerolog"
)

// How often systemd hears from us. The extension must be several times its period,
// so that a lost or late message does not end the start.
const (
	statusEvery = 2 * time.Second
	extendEvery = 15 * time.Second
	extendStart = "EXTEND_TIMEOUT_USEC=60000000"
)

// A Notifier tells systemd how the service does, as sd_notify(3) defines it. Started
// by anything else, it does nothing. NOTIFY_SOCKET stays in the environment.
type Notifier struct {
	// Ready is closed when READY=1 is to be sent. Until then the start-up time is
	// extended without end.
	Ready <-chan struct{}
	// Status gives the line that systemctl status shows.
	Status func() string
	// Alive reports whether the refresher makes progress. The watchdog is fed only
	// while it does: a dead upstream is no reason for a restart, a stuck refresher is.
	Alive func() bool
	Log   zerolog.Logger

	mu      sync.Mutex // guards all below and keeps messages in order
	phase   phase
	status  string // as last sent
	failing bool   // the last message did not get through
	stuck   bool   // Alive was false at the last look
}

type phase int

const (
	starting phase = iota
	running
	stopping
)

// Run notifies until ctx ends, which it takes as the beginning of the stop.
func (n *Notifier) Run(ctx context.Context) {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return
	}
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		n.Log.Warn().Err(err).Msg("systemd's watchdog is not fed")
	}
	feed := make(<-chan time.Time) // never
	if watchdog > 0 {
		ticker := time.NewTicker(watchdog / 2)
		defer ticker.Stop()
		feed = ticker.C
	}
	n.run(ctx, feed)
}

func (n *Notifier) run(ctx context.Context, feed <-chan time.Time) {
	ready := n.Ready
	select {
	case <-ready:
	default:
		n.send(extendStart)
		n.sendStatus()
	}
	extend, status := time.NewTicker(extendEvery), time.NewTicker(statusEvery)
	defer extend.Stop()
	defer status.Stop()
	for {
		select {
		case <-ctx.Done():
			n.enter(stopping, daemon.SdNotifyStopping+"\nSTATUS=stopping")
			return
		case <-ready:
			ready = nil
			extend.Stop()
			n.enter(running, daemon.SdNotifyReady)
			n.sendStatus()
		case <-extend.C:
			n.send(extendStart)
		case <-status.C:
			n.sendStatus()
		case <-feed:
			n.feed()
		}
	}
}

// Reload tells systemd that a reload is going on while reload does it. Before the
// service is ready and after its stop has begun systemd is not told: READY=1 would
// be a lie there.
func (n *Notifier) Reload(reload func() error) error {
	if !n.sendWhileRunning(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec()) {
		return reload()
	}
	defer n.sendWhileRunning(daemon.SdNotifyReady)
	return reload()
}

func (n *Notifier) sendWhileRunning(message string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.phase != running {
		return false
	}
	n.sendLocked(message)
	return true
}

func (n *Notifier) enter(p phase, message string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.phase = p
	n.sendLocked(message)
}

func (n *Notifier) send(message string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sendLocked(message)
}

// sendStatus sends the status line if it is another one. It must be clean: a line
// end in it would begin a further assignment.
func (n *Notifier) sendStatus() {
	status := text(n.Status())
	n.mu.Lock()
	defer n.mu.Unlock()
	if status != n.status {
		n.status = status
		n.sendLocked("STATUS=" + status)
	}
}

func (n *Notifier) feed() {
	alive := n.Alive()
	if !alive && !n.stuck {
		n.Log.Error().Msg("the refresher is stuck, systemd's watchdog is no longer fed and will restart Purser")
	}
	n.stuck = !alive
	if alive {
		n.send(daemon.SdNotifyWatchdog)
	}
}

func (n *Notifier) sendLocked(message string) {
	_, err := daemon.SdNotify(false, message)
	if err != nil && !n.failing {
		n.Log.Warn().Err(err).Msg("systemd cannot be notified")
	}
	n.failing = err != nil
}
