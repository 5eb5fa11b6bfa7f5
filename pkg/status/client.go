package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
)

// ErrNotRunning says that nobody answers where Purser would.
var ErrNotRunning = errors.New("purser is not running")

// A Client asks a running Purser on its admin socket. Errors can be looked at with
// errors.Is: ErrNotRunning, ErrDenied, credential.ErrNotFound. It is safe for
// concurrent use.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient returns a client for the admin socket at a path. It does not connect.
func NewClient(socket string) *Client {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	return &Client{socket, &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives:     true,
		ResponseHeaderTimeout: adminWrite,
	}}}
}

// Status asks for the Report.
func (c *Client) Status(ctx context.Context) (Report, error) {
	var report Report
	err := c.call(ctx, http.MethodGet, "status", nil, &report)
	return report, err
}

// Refresh has the named credentials fetched now, all if there are no names, and
// returns when that is done.
func (c *Client) Refresh(ctx context.Context, names ...string) error {
	return c.call(ctx, http.MethodPost, "refresh", url.Values{"name": names}, &doneAnswer{})
}

// Reload has the configuration read again.
func (c *Client) Reload(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "reload", nil, &doneAnswer{})
}

// How often Wait tells what is missing, and how often it asks at most.
const (
	progressEvery = 2 * time.Second
	waitAtLeast   = time.Second
)

// Wait returns when the named credentials are in stock; no names mean all that are
// required and visible. Meanwhile it calls progress, if there is one, with what is
// missing: at once, and then every few seconds.
func (c *Client) Wait(ctx context.Context, progress func(missing []string), names ...string) error {
	query := url.Values{"name": names}
	if progress == nil {
		progress = func([]string) {}
	} else {
		missing, err := c.missing(ctx, query, 0)
		if err != nil || len(missing) == 0 {
			return err
		}
		progress(missing)
	}
	for {
		next := time.After(waitAtLeast)
		missing, err := c.missing(ctx, query, progressEvery)
		if err != nil || len(missing) == 0 {
			return err
		}
		progress(missing)
		select {
		case <-next:
		case <-ctx.Done():
			return fmt.Errorf("wait: still missing %s: %w", clean(few(missing)), context.Cause(ctx))
		}
	}
}

// missing is what is not in stock, at the latest after that time.
func (c *Client) missing(ctx context.Context, query url.Values, after time.Duration) ([]string, error) {
	query.Set("seconds", strconv.Itoa(int(after.Seconds())))
	var waiting waitAnswer
	err := c.call(ctx, http.MethodGet, "wait", query, &waiting)
	return waiting.Missing, err
}

// maxAnswer bounds what is read, in bytes. Ten thousand credentials make 4 MB.
const maxAnswer = 64 << 20

func (c *Client) call(ctx context.Context, method, command string, query url.Values, into any) error {
	// The host is for HTTP only: the transport always dials the socket.
	request, err := http.NewRequestWithContext(ctx, method, "http://purser/v1/"+command+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return c.explain(ctx, command, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return c.explain(ctx, command, err)
	}
	if response.StatusCode != http.StatusOK {
		return refusal(command, response, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s: the answer on %s is not Purser's: %w", command, c.socket, err)
	}
	return nil
}

// explain says what a person can do about a call without an answer.
func (c *Client) explain(ctx context.Context, command string, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", command, context.Cause(ctx))
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: nobody answers on %s (admin.socket)", ErrNotRunning, c.socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %s cannot be reached by this user: every folder above it must be open to all", ErrDenied, c.socket)
	case connected(err):
		return fmt.Errorf("%s: Purser closed the connection on %s: it is stopping, or this user has too many open: %w", command, c.socket, err)
	default:
		return fmt.Errorf("%s: %w", command, err)
	}
}

func connected(err error) bool {
	failure, ok := errors.AsType[*net.OpError](err)
	return !ok || failure.Op != "dial"
}

// A rejection is an error as Purser worded it, which is one of ours for errors.Is.
type rejection struct {
	message string
	is      error
}

func (r *rejection) Error() string { return r.message }
func (r *rejection) Unwrap() error { return r.is }

// refusal makes an error of an answer. The text may quote an upstream or a file, so
// it is cleaned, line by line because a bad configuration has many.
func refusal(command string, response *http.Response, body []byte) error {
	var said errorAnswer
	if json.Unmarshal(body, &said) != nil || said.Error == "" {
		return fmt.Errorf("%s: Purser answered %s without a reason: is it another version than this one?", command, clean(response.Status))
	}
	lines := strings.Split(said.Error, "\n")
	for i, line := range lines {
		lines[i] = clean(line)
	}
	r := &rejection{message: strings.Join(lines, "\n")}
	switch response.StatusCode {
	case http.StatusServiceUnavailable:
		r.is = ErrNotRunning
	case http.StatusForbidden:
		r.is = ErrDenied
	case http.StatusNotFound:
		r.is = credential.ErrNotFound
	}
	return r
}
