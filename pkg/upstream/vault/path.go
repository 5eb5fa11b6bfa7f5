package vault

import (
	"regexp"
	"slices"
	"strings"
)

var pathForm = regexp.MustCompile(`^[\w.@:=+,~-]+(/[\w.@:=+,~-]+)*$`)

// isPath reports whether text is a path below /v1/ with none of the characters that
// would need an escape there.
func isPath(text string) bool {
	odd := func(part string) bool { return strings.Trim(part, ".") == "" }
	return len(text) <= 512 && pathForm.MatchString(text) && !slices.ContainsFunc(strings.Split(text, "/"), odd)
}
