package credential

import (
	"strings"
	"testing"
)

func TestParseARN(t *testing.T) {
	for _, test := range []struct {
		text string
		want ARN // the zero ARN where it is none
	}{
		{"arn:aws:iam::444455556666:role/path/web", ARN{"aws", "iam", "444455556666", "role/path/web"}},
		{"arn:aws-cn:sts:cn-north-1:444455556666:assumed-role/a:b", ARN{"aws-cn", "sts", "444455556666", "assumed-role/a:b"}},
		{"arn:aws:iam::aws:policy/ReadOnlyAccess", ARN{}},
		{"arn:aws:s3:::bucket", ARN{}},
		{"arn:aws:iam::44445555666:role/web", ARN{}},
		{"arn:aws:iam::4444555566667:role/web", ARN{}},
		{"arn:aws:iam::４４４４55556666:role/web", ARN{}},
		{"arn:aws:iam::444455556666:", ARN{}},
		{"arn:aws:iam::444455556666", ARN{}},
		{"arn:::::444455556666:x", ARN{}},
		{"iam::444455556666:role/web", ARN{}},
		{"arn:", ARN{}},
		{"", ARN{}},
	} {
		if got, ok := ParseARN(test.text); ok != (test.want != ARN{}) || ok && got != test.want {
			t.Errorf("%q: got %+v, %v, want %+v", test.text, got, ok, test.want)
		}
	}
}

func TestRolesHaveANameOfPrintableCharacters(t *testing.T) {
	for text, want := range map[string]bool{
		"arn:aws:iam::444455556666:role/web":                          true,
		"arn:aws-cn:iam::444455556666:role/team/web":                  true,
		"arn:aws:iam::444455556666:role/":                             false,
		"arn:aws:iam::444455556666:instance-profile/web":              false,
		"arn:aws:sts::444455556666:role/web":                          false,
		"arn:aws:iam::444455556666:role/we b":                         false,
		"arn:aws:iam::444455556666:role/web\n":                        false,
		"arn:aws:iam::444455556666:role/wéb":                          false,
		"arn:aws:iam::444455556666:role/" + strings.Repeat("x", 2048): false,
		"web": false,
	} {
		if got := IsRoleARN(text); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
		if IsRoleARN(text) && CheckName(text) == nil {
			t.Errorf("%q is a name as well", text)
		}
	}
}

func TestInstanceProfilesAreOfIAMAndHaveAName(t *testing.T) {
	for text, want := range map[string]bool{
		"arn:aws:iam::444455556666:instance-profile/web":      true,
		"arn:aws:iam::444455556666:instance-profile/path/web": true,
		"arn:aws:iam::444455556666:instance-profile/":         false,
		"arn:aws:iam::444455556666:role/web":                  false,
		"arn:aws:ec2::444455556666:instance-profile/web":      false,
	} {
		arn, ok := ParseARN(text)
		if got := arn.IsInstanceProfile(); !ok || got != want {
			t.Errorf("%q: got %v, %v, want %v", text, got, ok, want)
		}
	}
}
