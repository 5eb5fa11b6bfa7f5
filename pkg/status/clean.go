package status

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// clean makes text from outside safe to show in one line of a terminal or a log:
// line ends and tabs become spaces, and whatever else is not printable (escape
// sequences, direction marks, broken UTF-8) is written as Go would escape it.
func clean(s string) string {
	if isClean(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			b.WriteByte(' ')
		case r == utf8.RuneError && size == 1, !unicode.IsPrint(r):
			quoted := strconv.QuoteToASCII(s[:size])
			b.WriteString(quoted[1 : len(quoted)-1])
		default:
			b.WriteRune(r)
		}
		s = s[size:]
	}
	return b.String()
}

func isClean(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// text is clean with a bound on its length.
func text(s string) string {
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return clean(s)
}

// cut shortens s to width characters by its middle: the beginning of an error says
// what was tried and the end what is wrong.
func cut(s string, width int) string {
	runes := []rune(s)
	if len(runes) <= width {
		return s
	}
	width = max(width-1, 0)
	head := width / 3
	return string(runes[:head]) + "…" + string(runes[len(runes)-(width-head):])
}
