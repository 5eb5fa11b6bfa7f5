package awsapi

import (
	"fmt"
	"path"
	"regexp"
	"strings"
)

// A RolePattern is the ARN of a role with wildcards, as path.Match has them: * stands
// for any characters but a slash, ? for one of them. Partition and account are fixed.
type RolePattern string

var patternForm = regexp.MustCompile(`^arn:(aws[a-z-]*):iam::[0-9]{12}:role/[!-Z^-~]+$`) // without [ \ ]

// Check reports what is wrong with a pattern for roles in a partition.
func (p RolePattern) Check(partition string) error {
	parts := patternForm.FindStringSubmatch(string(p))
	switch {
	case p == "":
		return fmt.Errorf("missing, such as arn:aws:iam::123456789012:role/app-*")
	case parts == nil || len(p) > maxARN || strings.HasSuffix(string(p), "/"):
		return fmt.Errorf("%q is not a pattern for roles of one account, such as arn:aws:iam::123456789012:role/app-*, with no wildcards but * and ?", string(p))
	case partition != "" && parts[1] != partition:
		return fmt.Errorf("the roles are in the partition %s, the region in %s", parts[1], partition)
	}
	return nil
}

// Matches reports whether text is the ARN of a role that the pattern is for.
func (p RolePattern) Matches(text string) bool {
	_, role := ParseRole(text)
	matches, err := path.Match(string(p), text)
	return role && matches && err == nil
}

// Overlaps reports whether there is a text that both patterns match.
func (p RolePattern) Overlaps(q RolePattern) bool {
	// same[j] says whether what is left of p and q[j:] have a text in common, before[j]
	// the same for one byte less of p.
	same, before := make([]bool, len(q)+1), make([]bool, len(q)+1)
	for i := len(p); i >= 0; i-- {
		for j := len(q); j >= 0; j-- {
			x, y := byteAt(p, i), byteAt(q, j)
			switch {
			case x == 0 && y == 0:
				same[j] = true
			case x == '*': // is nothing, or takes what q has here
				same[j] = before[j] || y != 0 && y != '/' && same[j+1]
			case y == '*':
				same[j] = same[j+1] || x != 0 && x != '/' && before[j]
			case x == 0 || y == 0:
				same[j] = false
			default:
				same[j] = (x == y || x == '?' && y != '/' || y == '?' && x != '/') && before[j+1]
			}
		}
		same, before = before, same
	}
	return before[0]
}

// byteAt is zero at the end.
func byteAt(p RolePattern, i int) byte {
	if i == len(p) {
		return 0
	}
	return p[i]
}
