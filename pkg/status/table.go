package status

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Table says how to show a Report to a person.
type Table struct {
	Color bool
	// Now is the time that relative times refer to, and its location the one in
	// which times of day are shown.
	Now time.Time
	// Width is the width of the terminal in characters; 0 cuts nothing.
	Width int
}

// mostCallers is how many callers a table shows.
const mostCallers = 10

// Write writes the table of r.
func (t Table) Write(w io.Writer, r Report) error {
	var b strings.Builder
	t.head(&b, r)
	for _, g := range []grid{t.credentials(r), t.upstreams(r)} {
		t.grid(&b, g)
	}
	t.details(&b, r)
	t.grid(&b, t.callers(r))
	if n := len(r.Callers) - mostCallers; n > 0 {
		fmt.Fprintf(&b, "and %d more callers\n", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (t Table) grid(b *strings.Builder, g grid) {
	if len(g.rows) > 0 {
		b.WriteByte('\n')
		g.write(b, t)
	}
}

// details are a line for each upstream that has more to say, below their grid.
func (t Table) details(b *strings.Builder, r Report) {
	for _, u := range r.Upstreams {
		line := clean(u.Name + ": " + u.Detail)
		if t.Width > 0 {
			line = cut(line, t.Width)
		}
		if u.Detail != "" {
			b.WriteString(line + "\n")
		}
	}
}

func (t Table) head(b *strings.Builder, r Report) {
	up := time.Duration(r.UptimeSeconds) * time.Second
	colour := green
	if !r.Ready {
		colour = red
	}
	fmt.Fprintf(b, "purser %s, pid %d, up %s: %s\n", clean(r.Version), r.PID, span(up), t.paint(colour, clean(r.Line())))
	if r.Limited {
		b.WriteString("only what you may have is shown; an administrator sees all\n")
	}
	if s := r.Sandbox; s != nil {
		fmt.Fprintf(b, "sandbox: landlock %s, seccomp %s\n", clean(s.Landlock), clean(s.Seccomp))
		if len(s.Refused) > 0 {
			fmt.Fprintln(b, t.paint(red, "the sandbox refused system calls: "+clean(counts(s.Refused))))
		}
	}
	if r.Reload != nil && r.Reload.Error != "" {
		message := fmt.Sprintf("the reload at %s failed, the configuration before it is still in force: %s",
			t.clock(r.Reload.Time), clean(r.Reload.Error))
		fmt.Fprintln(b, t.paint(red, message))
	}
	for _, notice := range r.Notices {
		fmt.Fprintf(b, "notice: %s\n", clean(notice))
	}
}

// counts are numbers of something by name, for a person.
func counts(all map[string]uint64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, all[name]))
	}
	return strings.Join(parts, ", ")
}

func (t Table) credentials(r Report) grid {
	g := grid{header: []string{"CREDENTIAL", "STATE", "EXPIRES", "NEXT REFRESH", "UPSTREAM", "LAST ERROR"}}
	for _, c := range r.Credentials {
		state, trouble := cell{string(c.State), stateColours[c.State]}, failure(c.Failures, c.LastError)
		if c.HeldBy != "" {
			state, trouble = plain("unused"), "upstream "+c.HeldBy+" has this name"
		}
		g.add(
			plain(c.key().String()),
			state,
			plain(t.end(c)),
			plain(t.relative(c.NextRefresh)),
			plain(c.Upstream),
			plain(trouble),
		)
	}
	return g
}

// end is when a credential expires.
func (t Table) end(c Credential) string {
	if c.Expires.IsZero() && !c.RefreshedAt.IsZero() {
		return "never"
	}
	return t.clock(c.Expires)
}

func (t Table) upstreams(r Report) grid {
	g := grid{header: []string{"UPSTREAM", "KIND", "STATE", "LISTED", "NEXT LIST", "CLOCK", "LAST ERROR"}}
	for _, u := range r.Upstreams {
		clock := ""
		if u.SkewSeconds != 0 {
			clock = fmt.Sprintf("%+.0fs", u.SkewSeconds)
		}
		g.add(
			plain(u.Name),
			plain(u.Kind),
			cell{string(u.State), healthColours[u.State]},
			plain(t.relative(u.LastList)),
			plain(t.relative(u.NextList)),
			plain(clock),
			plain(failure(u.Failures, u.LastError)),
		)
	}
	return g
}

func (t Table) callers(r Report) grid {
	g := grid{header: []string{"CALLER", "UNIT", "REQUESTS", "DENIED", "CONNECTIONS", "OPEN", "LAST SEEN"}}
	for _, c := range r.Callers[:min(mostCallers, len(r.Callers))] {
		name := "unknown"
		switch {
		case c.UID != nil && c.User != "":
			name = c.User
		case c.UID != nil:
			name = strconv.FormatUint(uint64(*c.UID), 10)
		}
		g.add(plain(name), plain(c.Unit), count(c.Requests), count(c.Denied), count(c.Connections), count(c.Open), plain(t.relative(c.LastSeen)))
	}
	return g
}

func failure(times int, text string) string {
	switch {
	case text == "":
		return ""
	case times > 1:
		return fmt.Sprintf("%d times: %s", times, text)
	default:
		return text
	}
}

// clock shows a time of day and how far away it is.
func (t Table) clock(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	layout := "15:04:05"
	if away := at.Sub(t.Now); away.Abs() >= 24*time.Hour {
		layout = "Jan 2 15:04"
	}
	return fmt.Sprintf("%s (%s)", at.In(t.Now.Location()).Format(layout), t.relative(at))
}

func (t Table) relative(at time.Time) string {
	away := at.Sub(t.Now).Round(time.Second)
	switch {
	case at.IsZero():
		return ""
	case away == 0:
		return "now"
	case away > 0:
		return "in " + span(away)
	default:
		return span(-away) + " ago"
	}
}

// span shows a duration in its two largest units.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= day:
		return units(d/day, "d", d%day/time.Hour, "h")
	case d >= time.Hour:
		return units(d/time.Hour, "h", d%time.Hour/time.Minute, "m")
	case d >= time.Minute:
		return units(d/time.Minute, "m", d%time.Minute/time.Second, "s")
	default:
		return fmt.Sprintf("%ds", d/time.Second)
	}
}

func units(large time.Duration, unit string, small time.Duration, subunit string) string {
	if small == 0 {
		return fmt.Sprintf("%d%s", large, unit)
	}
	return fmt.Sprintf("%d%s%d%s", large, unit, small, subunit)
}
