package config

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

var (
	yamlError     = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`)
	unknownAnchor = regexp.MustCompile(`unknown anchor '(.*)'`)
	// In errors of its parser, unlike those of its scanner, the library counts lines
	// from 0. These are the parser's.
	countsFromZero = regexp.MustCompile(`^did not find expected (key|node content|<|'-'|',')`)
)

// syntax says what an error of the YAML library means. The name of an anchor is not
// repeated: an unquoted password that starts with * is taken for one.
func syntax(err error, text []byte) (line int, why string) {
	why = "this is not YAML"
	if found := yamlError.FindStringSubmatch(err.Error()); found != nil {
		line, _ = strconv.Atoi(found[1])
		why = found[2]
	}
	if anchor := unknownAnchor.FindStringSubmatch(why); anchor != nil {
		before, _, _ := bytes.Cut(text, []byte("*"+anchor[1]))
		return 1 + bytes.Count(before, []byte("\n")), noAnchors
	}
	if line == 0 || countsFromZero.MatchString(why) {
		line++
	}
	return line, why + advice(why, strings.Split(string(text), "\n"), line)
}

// glued is a key whose colon no blank follows, so that YAML takes all of it for a text.
var glued = regexp.MustCompile(`^[ -]*[A-Za-z][\w.-]*:[^\s/]`)

// advice tells what most often is behind an error of the library at a line. It repeats
// nothing of that, as there may be a secret in it.
func advice(why string, lines []string, line int) string {
	at := func(n int) string {
		if n < 1 || n > len(lines) {
			return ""
		}
		return lines[n-1]
	}
	indent := func(text string) string { return text[:len(text)-len(strings.TrimLeft(text, " \t"))] }
	switch {
	case strings.Contains(indent(at(line)), "\t") || strings.Contains(why, "a tab character"):
		return "; YAML indents with blanks, not with tabs"
	case why == "did not find expected alphabetic or numeric character" && strings.Contains(at(line), "*"):
		return `; * must be quoted in YAML: ["*"]`
	case why == "found character that cannot start any token":
		return "; quote a text that starts with another character than a letter or a digit"
	case why == "could not find expected ':'" || why == "mapping values are not allowed in this context":
		for _, n := range []int{line, line - 1} {
			if glued.MatchString(at(n)) {
				return fmt.Sprintf("; on line %d a blank is missing after the colon", n)
			}
		}
	}
	return ""
}

const noAnchors = "anchors and aliases are not supported; quote a text that starts with & or *"
