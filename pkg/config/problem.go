package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A path leads from the root of the configuration to a value, one name a segment.
// Names may contain dots and colons.
type path []string

// separator cannot be part of a name: the files are checked for control characters.
const separator = "\x00"

// indexMark starts the segment of an element of a list.
const indexMark = "\x01"

func (p path) with(name string) path { return append(p[:len(p):len(p)], name) }

func (p path) index(i int) path { return p.with(indexMark + strconv.Itoa(i)) }

// id is the path as a key of a map.
func (p path) id() string { return strings.Join(p, separator) }

// String is the path for people: names that could mislead are quoted.
func (p path) String() string {
	var text strings.Builder
	for i, name := range p {
		if index, ok := strings.CutPrefix(name, indexMark); ok {
			text.WriteString("[" + index + "]")
			continue
		}
		if i > 0 {
			text.WriteByte('.')
		}
		quoted := quote(name)
		if strings.ContainsAny(name, ". []") || quoted != `"`+name+`"` {
			name = quoted
		}
		text.WriteString(name)
	}
	return text.String()
}

// quote shows a name or value from a file in a message, bounded. In an address with
// a user and a password, in whatever key it stands, they are left out.
func quote(text string) string {
	const most = 80
	if before := strings.LastIndexByte(text, '@'); before >= 0 && strings.Contains(text[:before], ":") {
		text = "..." + text[before:]
	}
	if len(text) > most {
		return strconv.Quote(strings.ToValidUTF8(text[:most], "")) + "..."
	}
	return strconv.Quote(text)
}

// An Origin is where a value was set. The zero Origin means that it is a default.
type Origin struct {
	File     string
	Line     int    // 0 if the whole file is meant
	Variable string // of the environment
}

// String is "FILE:LINE", "environment NAME" or "default".
func (o Origin) String() string {
	switch {
	case o.Variable != "":
		return "environment " + o.Variable
	case o.File == "":
		return "default"
	case o.Line == 0:
		return o.File
	default:
		return o.File + ":" + strconv.Itoa(o.Line)
	}
}

// origins keeps the origin of every value and section by path.id.
type origins map[string]Origin

// of returns the origin of the value at p or of the closest section around it.
func (o origins) of(p path) Origin {
	for n := len(p); n > 0; n-- {
		if origin, ok := o[p[:n].id()]; ok {
			return origin
		}
	}
	return Origin{}
}

// Origin returns where the value at a path, such as "admin", "socket", was set, and
// false if nobody set it.
func (c *Config) Origin(names ...string) (Origin, bool) {
	origin, ok := c.origins[path(names).id()]
	return origin, ok
}

// A Problem is one thing that is wrong with a configuration.
type Problem struct {
	Origin Origin
	// Text names the key, what is wrong and what to do. It never shows a secret.
	Text string
}

// Error is the problem in one line, its origin first.
func (p Problem) Error() string {
	if p.Origin == (Origin{}) {
		return p.Text
	}
	return p.Origin.String() + ": " + p.Text
}

// An Error is everything that is wrong with a configuration, sorted by file and
// line.
type Error struct{ Problems []Problem }

// mostProblems bounds what one error text tells.
const mostProblems = 50

// Error is one line for each problem.
func (e *Error) Error() string {
	var lines []string
	for i, problem := range e.Problems {
		if i == mostProblems {
			lines = append(lines, fmt.Sprintf("and %d more", len(e.Problems)-i))
			break
		}
		lines = append(lines, problem.Error())
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives access to the problems.
func (e *Error) Unwrap() []error {
	var all []error
	for _, problem := range e.Problems {
		all = append(all, problem)
	}
	return all
}

// problems collects what is wrong, or worth a notice.
type problems []Problem

// err is nil if nothing is wrong.
func (ps problems) err() error {
	if len(ps) == 0 {
		return nil
	}
	return &Error{Problems: ps.sorted()}
}

// lines is one line for each.
func (ps problems) lines() []string {
	var all []string
	for _, p := range ps.sorted() {
		all = append(all, p.Error())
	}
	return all
}

// sorted orders by file and line, the environment first.
func (ps problems) sorted() []Problem {
	return slices.SortedStableFunc(slices.Values(ps), func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.Origin.File, b.Origin.File),
			cmp.Compare(a.Origin.Line, b.Origin.Line),
			cmp.Compare(a.Origin.Variable, b.Origin.Variable),
			cmp.Compare(a.Text, b.Text),
		)
	})
}

// A spoiled set knows the values that something is wrong with.
type spoiled struct{ at, around map[string]bool }

// add notes the value at p.
func (s *spoiled) add(p path) {
	if s.at == nil {
		s.at, s.around = map[string]bool{}, map[string]bool{}
	}
	s.at[p.id()] = true
	for n := range p {
		s.around[p[:n].id()] = true
	}
}

// has reports whether something at, above or below p is wrong.
func (s *spoiled) has(p path) bool {
	for n := range p {
		if s.at[p[:n+1].id()] {
			return true
		}
	}
	return s.around[p.id()]
}

// problem notes what is wrong with the value at a path; nil stands for no value in
// particular.
func (l *loader) problem(origin Origin, at path, format string, args ...any) {
	if l.leavesOut(at) {
		return
	}
	l.problems = append(l.problems, Problem{Origin: origin, Text: fmt.Sprintf(format, args...)})
	if at != nil {
		l.spoiled.add(at)
	}
}

// leavesOut reports whether a path leads to what is of no interest: something of
// upstreams, be it in alppaca's words.
func (l *loader) leavesOut(at path) bool {
	return l.options.WithoutUpstreams && len(at) > 0 &&
		(at[0] == "upstreams" || at[0] == "ims_host" || strings.Contains(newForm[at[0]], "an upstream of kind"))
}

// wrong notes what is wrong with the value at a path, with its origin.
func (l *loader) wrong(at path, format string, args ...any) {
	l.problem(l.origins.of(at), at, format, args...)
}
