package awsapi

import (
	"strings"
	"testing"
)

func TestAddressFollowsThePartition(t *testing.T) {
	for _, c := range []struct {
		region    string
		fips      bool
		dualStack bool
		want      string
	}{
		{"eu-central-1", false, false, "https://sts.eu-central-1.amazonaws.com/"},
		{"us-east-1", true, false, "https://sts-fips.us-east-1.amazonaws.com/"},
		{"eu-central-1", false, true, "https://sts.eu-central-1.api.aws/"},
		{"us-east-1", true, true, "https://sts-fips.us-east-1.api.aws/"},
		{"cn-north-1", false, false, "https://sts.cn-north-1.amazonaws.com.cn/"},
		{"cn-north-1", false, true, "https://sts.cn-north-1.api.amazonwebservices.com.cn/"},
		{"us-gov-west-1", false, false, "https://sts.us-gov-west-1.amazonaws.com/"},
		{"us-gov-west-1", true, false, "https://sts.us-gov-west-1.amazonaws.com/"},
		{"us-gov-west-1", true, true, "https://sts-fips.us-gov-west-1.api.aws/"},
	} {
		place := Place{Region: c.region, FIPS: c.fips, DualStack: c.dualStack}
		if got := place.URL("sts"); got != c.want {
			t.Errorf("%s, fips %v, dual stack %v: got %s, want %s", c.region, c.fips, c.dualStack, got, c.want)
		}
	}
	for _, endpoint := range []string{"http://127.0.0.1:8081", "http://127.0.0.1:8081/"} {
		if got := (&Place{Region: "eu-central-1", Endpoint: endpoint}).URL("sts"); got != "http://127.0.0.1:8081/" {
			t.Errorf("%s: got %s", endpoint, got)
		}
	}
}

func TestAddressOfAServiceWithoutFIPSByDefaultInGovCloud(t *testing.T) {
	for want, place := range map[string]Place{
		"https://rolesanywhere.eu-central-1.amazonaws.com/":       {Region: "eu-central-1"},
		"https://rolesanywhere.eu-central-1.api.aws/":             {Region: "eu-central-1", DualStack: true},
		"https://rolesanywhere.cn-north-1.amazonaws.com.cn/":      {Region: "cn-north-1"},
		"https://rolesanywhere-fips.us-gov-west-1.amazonaws.com/": {Region: "us-gov-west-1", FIPS: true},
		"https://rolesanywhere-fips.us-east-1.amazonaws.com/":     {Region: "us-east-1", FIPS: true},
	} {
		if got := place.URL("rolesanywhere"); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestParseRole(t *testing.T) {
	for arn, want := range map[string]Role{
		"arn:aws:iam::123456789012:role/demo":           {"aws", "123456789012", "demo"},
		"arn:aws-cn:iam::123456789012:role/a/b.c/demo":  {"aws-cn", "123456789012", "demo"},
		"arn:aws:iam::123456789012:role/":               {},
		"arn:aws:iam::123456789012:role/a b":            {},
		"arn:aws:iam::123456789012:role/app-*":          {},
		"arn:aws:iam::12345678901:role/demo":            {},
		"arn:aws:iam::123456789012:user/demo":           {},
		"arn:aws:sts::123456789012:assumed-role/demo/x": {},
		"arn:aws:iam::123456789012:role/demo\n":         {},
	} {
		if got, ok := ParseRole(arn); got != want || ok != (want != Role{}) {
			t.Errorf("%q: got %+v, %v", arn, got, ok)
		}
	}
}

// U03.
func TestSessionNamesAreAlwaysLegal(t *testing.T) {
	for _, c := range []struct{ template, hostname, name, want string }{
		{"", "web01", "demo", "web01"},
		{"{{ .Hostname }}", "host name/ü@x", "", "host-name--@x"},
		{"{{.Credential}}-on-{{ .Hostname }}", "web01.example.com", "demo", "demo-on-web01.example.com"},
		{"a", "", "", "a-"},
		{"", "", "", "--"},
		{"alppaca-on-{{ .Hostname }}", strings.Repeat("h", 80), "", "alppaca-on-" + strings.Repeat("h", 53)},
		{"x{{ .Credential }}", "", "a+b=c,d.e@f-g_h", "xa+b=c,d.e@f-g_h"},
		{"a\n\x00b", "", "", "a--b"},
	} {
		got := SessionName(c.template, c.hostname, c.name)
		if got != c.want || got == "" || !FitsSession(got) {
			t.Errorf("%q for %q: got %q, want %q", c.template, c.hostname, got, c.want)
		}
	}
}

func FuzzSessionName(f *testing.F) {
	f.Add("", "host name/ü@x", "demo")
	f.Add("{{ .Hostname }}{{ .Credential }}", "{{ .Credential }}", "\xff")
	f.Fuzz(func(t *testing.T, template, hostname, name string) {
		if got := SessionName(template, hostname, name); got == "" || !FitsSession(got) {
			t.Errorf("got %q", got)
		}
	})
}
