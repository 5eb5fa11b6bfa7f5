// Package status says how Purser is doing: to scripts and people (the Report and
// its table), to systemd (readiness, status text, watchdog) and to operators on the
// admin socket, whose server and client live here together so that they cannot
// drift apart.
//
// It collects nothing by itself. cmd/purser builds the Report from what the loops
// and the server know, and provides what the admin socket's commands do. Metrics
// and health checks over TCP are left to pkg/telemetry.
package status

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
)

// A Report is what `purser status --json` prints: its JSON form is a contract with
// scripts, to which keys may be added but from which none is taken. Times are
// RFC 3339 in UTC and absent if there is none; lists are never null. It holds
// nothing secret, but more than every local user may see: see Limit.
type Report struct {
	Version       string `json:"version"`
	PID           int    `json:"pid"`
	UptimeSeconds int64  `json:"uptime_seconds"`
	// Limited says that the asker was shown their own part only.
	Limited bool `json:"limited"`
	Ready   bool `json:"ready"`
	// Missing names what stands between Purser and being ready.
	Missing     []string     `json:"missing"`
	Credentials []Credential `json:"credentials"`
	Upstreams   []Upstream   `json:"upstreams"`
	// Callers holds whoever asked, the busiest first.
	Callers []Caller `json:"callers"`
	// Reload is the last attempt, absent if there was none.
	Reload *Reload `json:"reload,omitempty"`
	// Notices are what an operator should know and has no better place.
	Notices []string `json:"notices"`
	// Sandbox is what confines the daemon, absent if nothing does.
	Sandbox *Sandbox `json:"sandbox,omitempty"`
}

// Sandbox says of each feature that it is in force, or why it is not.
type Sandbox struct {
	Landlock string `json:"landlock"`
	Seccomp  string `json:"seccomp"`
	// Refused counts the system calls that were refused, by name.
	Refused map[string]uint64 `json:"refused_calls,omitempty"`
}

// A State is where a credential stands between two refreshes.
type State string

// The states of a credential, in the order of its life.
const (
	None      State = "none"      // never fetched
	Fresh     State = "fresh"     // in stock and not yet due
	Due       State = "due"       // being refreshed, or waiting to retry, with time in hand
	Expiring  State = "expiring"  // refreshes fail and the end is near
	Expired   State = "expired"   // past its end, no longer handed out
	Withdrawn State = "withdrawn" // the upstream lists it no more
)

var states = []State{None, Fresh, Due, Expiring, Expired, Withdrawn}

// A Credential is one line of the Report.
type Credential struct {
	Name     string `json:"name"`
	Variant  string `json:"variant,omitempty"`
	Upstream string `json:"upstream,omitempty"`
	State    State  `json:"state"`
	// Required says that Purser is not ready without it.
	Required bool `json:"required"`
	// OnDemand says that nobody configured it ahead: somebody asked for it.
	OnDemand    bool      `json:"on_demand"`
	Issued      time.Time `json:"issued,omitzero"`
	Expires     time.Time `json:"expires,omitzero"`
	RefreshedAt time.Time `json:"refreshed_at,omitzero"`
	NextRefresh time.Time `json:"next_refresh,omitzero"`
	WithdrawnAt time.Time `json:"withdrawn_at,omitzero"`
	// Failures counts the attempts that failed since the last one that did not.
	Failures  int    `json:"failures"`
	LastError string `json:"last_error,omitempty"`
	// HeldBy is the upstream that provides the name instead, where two offer it.
	HeldBy string `json:"held_by,omitempty"`
}

func (c Credential) key() credential.Key { return credential.Key{Name: c.Name, Variant: c.Variant} }

// Health is how an upstream does as a whole.
type Health string

// What can be said of an upstream.
const (
	Unknown Health = "unknown" // not asked so far
	OK      Health = "ok"      // its last answer was good
	Failing Health = "failing" // its last answer was an error, or there was none
)

// An Upstream is one configured source of credentials.
type Upstream struct {
	Name     string    `json:"name"`
	Kind     string    `json:"kind"`
	State    Health    `json:"state"`
	Required bool      `json:"required"`
	LastList time.Time `json:"last_list,omitzero"`
	NextList time.Time `json:"next_list,omitzero"`
	// Failures counts the lists that failed since the last one that did not.
	Failures  int    `json:"failures"`
	LastError string `json:"last_error,omitempty"`
	// SkewSeconds is how far the upstream's clock is ahead of ours.
	SkewSeconds float64 `json:"skew_seconds"`
	// Detail is what else there is to say of this kind of upstream, such as how a login
	// stands.
	Detail string `json:"detail,omitempty"`
}

// A Caller is a local account and unit, and what it asked for since the start.
type Caller struct {
	// UID is absent for callers that could not be identified, which count as one.
	UID   *uint32 `json:"uid,omitempty"`
	User  string  `json:"user,omitempty"`
	Unit  string  `json:"unit,omitempty"`
	Known bool    `json:"known"`
	// Denied counts those of the Requests that were refused or unauthorized.
	Requests int64 `json:"requests"`
	Denied   int64 `json:"denied"`
	// Connections were opened so far, and Open are open now.
	Connections int64     `json:"connections"`
	Open        int64     `json:"open"`
	LastSeen    time.Time `json:"last_seen,omitzero"`
	UserAgent   string    `json:"user_agent,omitempty"`
}

// Reload is how the last attempt to take over a changed configuration ended.
type Reload struct {
	Time time.Time `json:"time,omitzero"`
	// Error is empty if the configuration was taken over.
	Error string `json:"error,omitempty"`
}

// Limit returns what a user who is no administrator may see of r: the credentials
// that visible allows, without what is known about their upstream, and their own
// use. Error texts go as well, because they name addresses of upstreams.
func (r Report) Limit(uid uint32, visible func(name string) bool) Report {
	limited := Report{
		Version: r.Version, PID: r.PID, UptimeSeconds: r.UptimeSeconds,
		Limited: true, Ready: r.Ready,
	}
	shown := map[string]bool{}
	for _, c := range r.Credentials {
		if !visible(c.Name) || c.HeldBy != "" {
			continue
		}
		shown[c.key().String()] = true
		limited.Credentials = append(limited.Credentials, Credential{
			Name: c.Name, Variant: c.Variant, State: c.State, Required: c.Required, OnDemand: c.OnDemand,
			Issued: c.Issued, Expires: c.Expires, RefreshedAt: c.RefreshedAt, NextRefresh: c.NextRefresh,
			WithdrawnAt: c.WithdrawnAt, Failures: c.Failures,
		})
	}
	for _, name := range r.Missing {
		if shown[name] {
			limited.Missing = append(limited.Missing, name)
		}
	}
	for _, c := range r.Callers {
		if c.UID != nil && *c.UID == uid {
			limited.Callers = append(limited.Callers, c)
		}
	}
	return limited
}

// Line is the Report in one line, for systemd's STATUS and the head of the table.
func (r Report) Line() string {
	if len(r.Missing) > 0 {
		return "not ready, waiting for " + few(r.Missing)
	}
	if !r.Ready {
		return "not ready"
	}
	counts := map[State]int{}
	for _, c := range r.Credentials {
		if c.HeldBy == "" {
			counts[c.State]++
		}
	}
	var parts []string
	for _, state := range states {
		if n := counts[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	if parts == nil {
		return "ready, no credentials"
	}
	return "ready, credentials: " + strings.Join(parts, ", ")
}

// few joins names and keeps a line readable when there are many.
func few(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// maxText bounds an error or notice in a Report, in bytes.
const maxText = 2000

// MarshalJSON keeps the promises of the JSON form: lists that are never null, whole
// seconds in UTC, and texts that do no harm where a script prints them raw.
func (r Report) MarshalJSON() ([]byte, error) {
	type plain Report // has no MarshalJSON
	p := plain(r)
	p.Missing = cleaned(r.Missing)
	p.Notices = cleaned(r.Notices)
	p.Credentials = each(r.Credentials, func(c *Credential) {
		c.LastError = text(c.LastError)
		inSeconds(&c.Issued, &c.Expires, &c.RefreshedAt, &c.NextRefresh, &c.WithdrawnAt)
	})
	p.Upstreams = each(r.Upstreams, func(u *Upstream) {
		u.LastError, u.Detail = text(u.LastError), text(u.Detail)
		inSeconds(&u.LastList, &u.NextList)
	})
	p.Callers = each(r.Callers, func(c *Caller) {
		c.User, c.Unit, c.UserAgent = text(c.User), text(c.Unit), text(c.UserAgent)
		inSeconds(&c.LastSeen)
	})
	if r.Reload != nil {
		reload := Reload{Time: r.Reload.Time, Error: text(r.Reload.Error)}
		inSeconds(&reload.Time)
		p.Reload = &reload
	}
	return json.Marshal(p)
}

// each returns a changed copy of list, never nil.
func each[E any](list []E, change func(*E)) []E {
	list = append([]E{}, list...)
	for i := range list {
		change(&list[i])
	}
	return list
}

func cleaned(list []string) []string {
	return each(list, func(s *string) { *s = text(*s) })
}

func inSeconds(times ...*time.Time) {
	for _, t := range times {
		*t = t.UTC().Truncate(time.Second)
	}
}
