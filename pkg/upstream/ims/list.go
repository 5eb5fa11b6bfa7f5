package ims

import (
	"errors"
	"fmt"
	"strings"

	"github.com/purser-agent/purser/pkg/credential"
)

// maxRoles bounds a list.
const maxRoles = 10_000

// parseList reads role names, one a line. Blank lines and repetitions are passed
// over; a name that cannot be used is an entry of skipped. A body that is something
// else, such as a login page or a JSON error sent with a 200, is an error.
func parseList(body []byte) (names []string, skipped []error, err error) {
	text := strings.TrimSpace(string(body))
	if text == "" {
		return nil, nil, nil
	}
	if strings.ContainsRune("<{[", rune(text[0])) {
		return nil, nil, errors.New("the answer is HTML or JSON, not a list of role names")
	}
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		name := strings.TrimSpace(line)
		if name == "" || seen[name] {
			continue
		}
		if len(seen) == maxRoles {
			return nil, nil, fmt.Errorf("the answer has more than %d lines", maxRoles)
		}
		seen[name] = true
		if err := credential.CheckName(name); err != nil {
			skipped = append(skipped, err)
			continue
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil, nil, errors.New("no line of the answer is the name of a role")
	}
	return names, skipped, nil
}
