package files

import (
	"fmt"
	"strings"
)

// The bounds of a file.
const (
	maxProfiles = 1000
	maxLine     = 64 << 10 // bytes
)

// A profile is one section of a file.
type profile struct {
	line   int // of its first line
	values map[string]value
}

type value struct {
	text string
	line int
}

// An ini is a parsed file: its profiles in order, and each by name.
type ini struct {
	names    []string
	profiles map[string]profile
}

// A syntaxError says which line cannot be read, and quotes nothing of it.
type syntaxError struct {
	line int
	text string
}

func (e *syntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.text) }

// A parser reads a shared credentials file as the SDKs do, where they agree: sections,
// keys in any case before the first equals sign, comments on lines of their own, a
// section of further keys below an empty value. What one SDK takes and another does not,
// such as a section or a key that is there twice, is an error.
type parser struct {
	ini
	section string // empty before the first one
	key     string // the last one of the section
	line    int
}

func parse(text string) (*ini, error) {
	p := parser{ini: ini{profiles: map[string]profile{}}}
	text = strings.TrimPrefix(text, "\ufeff")
	for line := range strings.Lines(text) {
		p.line++
		if len(line) > maxLine {
			return nil, p.fault("longer than any line of such a file")
		}
		if err := p.take(strings.TrimRight(line, " \t\r\n")); err != nil {
			return nil, err
		}
	}
	return &p.ini, nil
}

func (p *parser) fault(text string) error { return &syntaxError{p.line, text} }

// take reads one line without the blanks at its end.
func (p *parser) take(line string) error {
	trimmed := strings.TrimLeft(line, " \t")
	indented := trimmed != line
	switch {
	case trimmed == "" || trimmed[0] == '#' || trimmed[0] == ';':
		return nil
	case trimmed[0] == '[' && !indented:
		return p.begin(trimmed)
	case p.section == "":
		return p.fault("a key before the first [profile]")
	case indented && p.key != "":
		last := p.profiles[p.section].values[p.key]
		if last.text == "" { // keys of a section below this one
			return nil
		}
		if !strings.Contains(trimmed, "=") {
			return p.fault("the value of the line before goes on here, which no key or token does")
		}
	}
	return p.set(trimmed)
}

// begin starts a section.
func (p *parser) begin(line string) error {
	name, rest, closed := strings.Cut(line[1:], "]")
	name, rest = strings.TrimSpace(name), strings.TrimSpace(rest)
	switch {
	case !closed || name == "":
		return p.fault("not a [profile]")
	case rest != "" && rest[0] != '#' && rest[0] != ';':
		return p.fault("something follows the [profile]")
	case len(p.names) >= maxProfiles:
		return p.fault(fmt.Sprintf("more than %d profiles", maxProfiles))
	}
	if first, twice := p.profiles[name]; twice {
		return p.fault(fmt.Sprintf("the same [profile] as in line %d", first.line))
	}
	p.section, p.key = name, ""
	p.names = append(p.names, name)
	p.profiles[name] = profile{p.line, map[string]value{}}
	return nil
}

// set takes a key and its value.
func (p *parser) set(line string) error {
	key, text, ok := strings.Cut(line, "=")
	key = strings.ToLower(strings.TrimSpace(key))
	if !ok || key == "" {
		return p.fault("neither a [profile] nor a key with a value")
	}
	values := p.profiles[p.section].values
	if first, twice := values[key]; twice {
		return p.fault(fmt.Sprintf("the same key as in line %d", first.line))
	}
	p.key = key
	values[key] = value{strings.TrimSpace(text), p.line}
	return nil
}
