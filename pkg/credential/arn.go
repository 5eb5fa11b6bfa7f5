package credential

import "strings"

// An ARN is what Purser uses of an Amazon resource name.
type ARN struct{ Partition, Service, Account, Resource string }

// ParseARN splits an ARN. It reports false unless the account has twelve digits, so
// neither AWS's own resources nor those of S3 pass.
func ParseARN(text string) (ARN, bool) {
	rest, found := strings.CutPrefix(text, "arn:")
	var arn ARN
	arn.Partition, rest, _ = strings.Cut(rest, ":")
	arn.Service, rest, _ = strings.Cut(rest, ":")
	_, rest, _ = strings.Cut(rest, ":") // the region
	arn.Account, arn.Resource, _ = strings.Cut(rest, ":")
	ok := found && arn.Partition != "" && arn.Service != "" && arn.Resource != "" && IsAccountID(arn.Account)
	return arn, ok
}

// IsInstanceProfile reports whether the resource is an instance profile of IAM.
func (a ARN) IsInstanceProfile() bool {
	name, found := strings.CutPrefix(a.Resource, "instance-profile/")
	return found && name != "" && a.Service == "iam"
}

// maxARN bounds the ARN of a role, in bytes. IAM allows a path of 512 characters and a
// name of 64.
const maxARN = 640

// IsRoleARN reports whether text has the form of a role's ARN. It names a credential on
// demand. No other name has a slash (see CheckName), so the two are never mixed up.
func IsRoleARN(text string) bool {
	arn, ok := ParseARN(text)
	name, isRole := strings.CutPrefix(arn.Resource, "role/")
	return ok && arn.Service == "iam" && isRole && name != "" && len(text) <= maxARN &&
		!strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' })
}

// IsAccountID reports whether text has the form of an AWS account ID.
func IsAccountID(text string) bool {
	return len(text) == 12 && strings.Trim(text, "0123456789") == ""
}
