package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
)

// ErrDenied says that a command is for administrators.
var ErrDenied = errors.New("permission denied")

var errStopping = errors.New("purser is stopping")

// commands are the handlers of one Serve.
type commands struct {
	*Admin
	ctx     context.Context // of Serve: what a reload runs under, as no request's context lasts long enough
	reports chan struct{}   // one place per report being built and sent to others than administrators
	denials zerolog.Logger
}

// The answers, and the one form of every error.
type (
	waitAnswer struct {
		Missing []string `json:"missing"`
	}
	doneAnswer  struct{}
	errorAnswer struct {
		Error string `json:"error"`
	}
)

func (a *Admin) handler(ctx context.Context) http.Handler {
	c := &commands{
		Admin:   a,
		ctx:     ctx,
		reports: make(chan struct{}, limitedReports),
		denials: a.Log.Sample(&zerolog.BurstSampler{Burst: 10, Period: time.Minute}),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", c.status)
	mux.HandleFunc("GET /v1/wait", c.wait)
	mux.HandleFunc("POST /v1/refresh", c.adminOnly("refresh", c.refresh))
	mux.HandleFunc("POST /v1/reload", c.adminOnly("reload", c.reload))
	return mux
}

func (c *commands) status(w http.ResponseWriter, r *http.Request) {
	from := asker(r)
	if !from.admin {
		select {
		case c.reports <- struct{}{}:
			defer func() { <-c.reports }()
		case <-time.After(statusQueue):
			answer(w, http.StatusTooManyRequests, errorAnswer{"too many ask for the status: try again"})
			return
		case <-r.Context().Done():
			return
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), statusLimit)
	defer cancel()
	report := c.Status(ctx)
	if !from.admin {
		report = report.Limit(from.peer.uid, c.View(from.peer.uid, from.peer.pid))
	}
	// Whoever does not take the answer must not keep the place.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(statusLimit))
	answer(w, http.StatusOK, report)
}

func (c *commands) wait(w http.ResponseWriter, r *http.Request) {
	from, names := asker(r), r.URL.Query()["name"]
	visible := func(string) bool { return true }
	if !from.admin {
		visible = c.View(from.peer.uid, from.peer.pid)
	}
	ctx, cancel := context.WithTimeout(r.Context(), pollTime(r))
	defer cancel()
	missing, err := c.Wait(ctx, names, visible)
	if len(missing) > 0 && c.ctx.Err() != nil {
		err = errStopping
	}
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, http.StatusOK, waitAnswer{cleaned(missing[:min(len(missing), maxMissing)])})
}

// pollTime is how long the client wants its request to wait.
func pollTime(r *http.Request) time.Duration {
	seconds, err := strconv.ParseUint(r.URL.Query().Get("seconds"), 10, 16)
	if err != nil {
		return longPoll
	}
	return min(time.Duration(seconds)*time.Second, longPoll)
}

func (c *commands) refresh(r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), commandLimit)
	defer cancel()
	return c.Refresh(ctx, r.URL.Query()["name"])
}

func (c *commands) reload(*http.Request) error {
	ctx, cancel := context.WithTimeout(c.ctx, commandLimit)
	defer cancel()
	return c.Reload(ctx)
}

func (c *commands) adminOnly(name string, run func(*http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		from := asker(r)
		if !from.admin {
			c.denials.Warn().Str("command", name).Uint32("uid", from.peer.uid).Int32("pid", from.peer.pid).
				Msg("command refused to a user who is no administrator")
			fail(w, c.denial(name))
			return
		}
		c.Log.Info().Str("command", name).Uint32("uid", from.peer.uid).Int32("pid", from.peer.pid).
			Strs("names", r.URL.Query()["name"]).Msg("command of an administrator")
		if err := run(r); err != nil {
			fail(w, err)
			return
		}
		answer(w, http.StatusOK, doneAnswer{})
	}
}

func (c *commands) denial(command string) error {
	who := "root"
	if c.GroupName != "" {
		who = "root and members of the group " + c.GroupName + " (admin.group)"
	}
	return fmt.Errorf("%w: %s may %s", ErrDenied, who, command)
}

func asker(r *http.Request) *gateConn { return r.Context().Value(peerContextKey{}).(*gateConn) }

func fail(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	switch {
	case errors.Is(err, ErrDenied):
		code = http.StatusForbidden
	case errors.Is(err, credential.ErrNotFound):
		code = http.StatusNotFound
	case errors.Is(err, errStopping):
		code = http.StatusServiceUnavailable
	case errors.Is(err, context.DeadlineExceeded):
		code = http.StatusGatewayTimeout
	}
	answer(w, code, errorAnswer{err.Error()})
}

func answer(w http.ResponseWriter, code int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		code, text = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written as JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)+1))
	w.WriteHeader(code)
	_, _ = w.Write(append(text, '\n'))
}
