package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/refresh"
	"github.com/purser-agent/purser/pkg/status"
	"github.com/purser-agent/purser/pkg/telemetry"
)

// mostNamed bounds for how many callers a report asks the user database.
const mostNamed = 20

// report is everything that an operator may know.
func (a *agent) report(ctx context.Context) status.Report {
	r := a.state()
	for i, c := range a.server.Callers() {
		caller := status.Caller{
			Known: c.Identity.Known, Unit: c.Identity.Unit,
			Requests: c.Requests, Denied: c.Denied, Connections: c.Connections, Open: c.Open,
			LastSeen: c.Last, UserAgent: c.UserAgent,
		}
		if caller.Known {
			caller.UID = new(c.Identity.UID)
		}
		if caller.Known && i < mostNamed {
			caller.User, _ = a.accounts.Name(ctx, c.Identity.UID)
		}
		r.Callers = append(r.Callers, caller)
	}
	return r
}

// state is the part of a report that is at hand: no callers, whose names a slow
// directory may know.
func (a *agent) state() status.Report {
	ready, missing := a.ready.Ready()
	r := status.Report{
		Version: version, PID: os.Getpid(), UptimeSeconds: int64(time.Since(a.started).Seconds()),
		Ready: ready, Missing: missing, Sandbox: a.confinement(),
	}
	a.mu.Lock()
	r.Notices = slices.Clone(a.config.Notices)
	if !a.reload.at.IsZero() {
		r.Reload = &status.Reload{Time: a.reload.at, Error: text(a.reload.err)}
	}
	a.mu.Unlock()
	for _, l := range a.running() {
		listing := l.loop.Listing()
		rows := l.loop.Rows()
		r.Upstreams = append(r.Upstreams, status.Upstream{
			Name: l.loop.Upstream, Kind: l.config.Kind, Required: l.config.Required,
			State: health(listing, rows), LastList: listing.Last, NextList: listing.Next,
			Failures: listing.Failures, LastError: text(listing.Err), SkewSeconds: skew(l.source).Seconds(),
			Detail: detail(l.source),
		})
		for _, row := range rows {
			r.Credentials = append(r.Credentials, describe(l.loop.Upstream, row))
		}
	}
	return r
}

func describe(upstream string, row refresh.Row) status.Credential {
	c := status.Credential{
		Name: row.Key.Name, Variant: row.Key.Variant, Upstream: upstream,
		State: status.State(row.State), Required: row.Required,
		Issued: row.Issued, Expires: row.Expires, RefreshedAt: row.Fetched, NextRefresh: row.Next,
		Failures: row.Failures, LastError: text(row.Err),
		HeldBy: row.Holder, OnDemand: row.OnDemand, WithdrawnAt: row.Withdrawn,
	}
	if row.Holder != "" {
		c.NextRefresh = time.Time{}
	}
	return c
}

// health sums up the list and the credentials of an upstream.
func health(listing refresh.Listing, rows []refresh.Row) status.Health {
	failing := func(r refresh.Row) bool { return r.Err != nil && (!r.Waiting || !r.Fetched.IsZero()) }
	if listing.Err != nil || slices.ContainsFunc(rows, failing) {
		return status.Failing
	}
	if listing.Last.IsZero() && !slices.ContainsFunc(rows, func(r refresh.Row) bool { return !r.Fetched.IsZero() }) {
		return status.Unknown
	}
	return status.OK
}

func skew(s refresh.Source) time.Duration {
	if known, ok := s.(refresh.Skewer); ok {
		return known.Skew()
	}
	return 0
}

// detail is what a source says of itself, if it does.
func detail(s refresh.Source) string {
	if known, ok := s.(interface{ Detail() string }); ok {
		return known.Detail()
	}
	return ""
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// telemetryOptions tell the metrics where to look.
func (a *agent) telemetryOptions() telemetry.Options {
	return telemetry.Options{
		Version: version, Log: a.log,
		Ready: a.ready.Ready, Alive: a.alive,
		Connections: func() (open, unidentified int64) {
			for _, c := range a.server.Callers() {
				open += c.Open
				if !c.Identity.Known {
					unidentified = c.Connections
				}
			}
			return open, unidentified
		},
		Credentials: func() (all []telemetry.Credential) {
			for _, loop := range a.loops() {
				for _, row := range loop.Rows() {
					if row.Holder != "" { // the other upstream has the series
						continue
					}
					all = append(all, telemetry.Credential{
						Name: row.Key.Name, Variant: row.Key.Variant, Upstream: loop.Upstream,
						State: string(row.State), Expires: row.Expires,
					})
				}
			}
			return all
		},
		Upstreams: func() (all []telemetry.Upstream) {
			for _, l := range a.running() {
				all = append(all, telemetry.Upstream{
					Name: l.loop.Upstream, Skew: skew(l.source), Failures: l.loop.Listing().Failures,
				})
			}
			return all
		},
		Refused: a.refusedCalls,
	}
}

// statusLine is what systemctl status shows. It is asked for every few seconds, by
// the one who feeds the watchdog.
func (a *agent) statusLine() string { return a.state().Line() }

// refreshNow is the command of that name.
func (a *agent) refreshNow(ctx context.Context, names []string) error {
	loops := a.loops()
	for _, name := range names {
		if !slices.ContainsFunc(loops, func(l *refresh.Loop) bool { return l.Has(name) }) {
			return fmt.Errorf("%q: %w; see purser status", name, credential.ErrNotFound)
		}
	}
	errs := make([]error, len(loops))
	done := make(chan struct{})
	for i, loop := range loops {
		go func() {
			errs[i] = loop.Refresh(ctx, names...)
			done <- struct{}{}
		}()
	}
	for range loops {
		<-done
	}
	return errors.Join(errs...)
}

// wait is the command of that name: it returns what is still not in stock when ctx
// is done.
func (a *agent) wait(ctx context.Context, names []string, visible func(string) bool) ([]string, error) {
	for {
		missing, err := a.stillMissing(names, visible)
		if err != nil || len(missing) == 0 {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return missing, nil
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// stillMissing names what is not in stock. Until every upstream has said what it
// grants, nobody can say that a name does not exist, or that nothing is missing.
func (a *agent) stillMissing(names []string, visible func(string) bool) (missing []string, err error) {
	complete := a.store.Complete()
	if len(names) == 0 {
		for _, name := range a.missing() {
			if visible(name) {
				missing = append(missing, name)
			}
		}
		if len(missing) == 0 && !complete {
			missing = []string{"what the upstreams grant"}
		}
		return missing, nil
	}
	for _, name := range names {
		_, err := a.store.Get(credential.Key{Name: name})
		switch {
		case complete && (!visible(name) || errors.Is(err, credential.ErrNotFound)):
			return nil, fmt.Errorf("%q: %w", name, credential.ErrNotFound)
		case err != nil || !visible(name):
			missing = append(missing, name)
		}
	}
	return missing, nil
}
