package sts

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/upstream"
)

var update = flag.Bool("update", false, "write the golden files")

const demoARN = "arn:aws:iam::123456789012:role/team/demoRole"

// options are the least that is valid.
func options() *Options {
	o := Defaults()
	o.Base.Credential, o.Region = "base", "eu-central-1"
	o.Roles = map[string]Role{"demo": {RoleARN: demoARN}}
	return o
}

// golden compares text with a file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", file, got, want)
	}
}

func TestValidateAcceptsWhatSTSTakes(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"the least":         func(*Options) {},
		"a base's upstream": func(o *Options) { o.Base = BaseOptions{Upstream: "datacenter"} },
		"China": func(o *Options) {
			o.Region, o.Roles["demo"] = "cn-north-1", Role{RoleARN: "arn:aws-cn:iam::123456789012:role/x"}
		},
		"an endpoint": func(o *Options) {
			o.Region, o.Endpoint, o.Roles["demo"] = "us-iso-east-1", "https://sts.example.com:8443", Role{RoleARN: "arn:aws-iso:iam::123456789012:role/x"}
		},
		"a tag without value": func(o *Options) { o.Roles["demo"] = Role{RoleARN: demoARN, Tags: map[string]string{"a b:c": ""}} },
		"all at their limits": func(o *Options) {
			r := Role{
				RoleARN: demoARN, ExternalID: strings.Repeat("x", 1224), SourceIdentity: strings.Repeat("x", 64), Duration: 12 * time.Hour,
				Policy: `{"a":"` + strings.Repeat("ä", 2040) + `"}`, Tags: map[string]string{},
			}
			for range 10 {
				r.PolicyARNs = append(r.PolicyARNs, "arn:aws:iam::aws:policy/job-function/ViewOnlyAccess")
			}
			for i := range 50 {
				r.Tags[strings.Repeat("k", 128-i)] = strings.Repeat("ü", 256)
			}
			r.TransitiveTags = slices.Collect(maps.Keys(r.Tags))
			o.Roles["demo"] = r
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := options()
			change(o)
			if err := o.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestValidateNamesEachKeyThatSTSWouldNotTake(t *testing.T) {
	of := func(r Role) func(*Options) {
		return func(o *Options) {
			if r.RoleARN == "" {
				r.RoleARN = demoARN
			}
			o.Roles["demo"] = r
		}
	}
	tooMany := Role{Tags: map[string]string{}}
	for i := range 51 {
		tooMany.Tags[strings.Repeat("k", i+1)] = ""
	}
	for name, c := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"no base":              {func(o *Options) { o.Base = BaseOptions{} }, "base: missing: {credential: NAME}, or {upstream: NAME} of one that grants a single credential"},
		"two bases":            {func(o *Options) { o.Base.Upstream = "x" }, "base: has both credential and upstream"},
		"a base with a slash":  {func(o *Options) { o.Base.Credential = "a/b" }, `base.credential: the name "a/b" contains a slash`},
		"its own base":         {func(o *Options) { o.Base.Credential = "demo" }, `base.credential: "demo" is one of this upstream's own roles`},
		"no region":            {func(o *Options) { o.Region = "" }, "region: missing, such as eu-central-1"},
		"a zone":               {func(o *Options) { o.Region = "eu-central-1a" }, `region: "eu-central-1a" is not a region such as eu-central-1`},
		"a host as region":     {func(o *Options) { o.Region = "evil.example/-1" }, "region: "},
		"an unknown partition": {func(o *Options) { o.Region = "us-iso-east-1" }, "region: \"us-iso-east-1\" is in a partition whose endpoints are not known here; set endpoint"},
		"FIPS in China":        {func(o *Options) { o.Region, o.FIPS = "cn-north-1", true }, "fips: there are no FIPS endpoints in aws-cn"},
		"endpoint and fips":    {func(o *Options) { o.Endpoint, o.FIPS = "https://x", true }, "endpoint: excludes fips and dual_stack"},
		"endpoint with a path": {func(o *Options) { o.Endpoint = "https://x/sts" }, `endpoint: "https://x/sts" has a path`},
		"endpoint with a user": {func(o *Options) { o.Endpoint = "https://a:b@x" }, "endpoint: holds an @; a user or password does not belong in a URL"},
		"no roles":             {func(o *Options) { o.Roles = nil }, "roles: missing, such as NAME"},
		"a role with a slash":  {func(o *Options) { o.Roles["a/b"] = o.Roles["demo"] }, `roles: the name "a/b" contains a slash`},
		"no ARN":               {func(o *Options) { o.Roles["demo"] = Role{} }, "roles.demo.role_arn: missing, such as arn:aws:iam::123456789012:role/demo"},
		"a user's ARN":         {of(Role{RoleARN: "arn:aws:iam::123456789012:user/x"}), "roles.demo.role_arn: \"arn:aws:iam::123456789012:user/x\" is not the ARN of a role"},
		"a short account":      {of(Role{RoleARN: "arn:aws:iam::12345678901:role/x"}), "roles.demo.role_arn: "},
		"another partition":    {of(Role{RoleARN: "arn:aws-cn:iam::123456789012:role/x"}), "roles.demo.role_arn: the role is in the partition aws-cn, the region in aws"},
		"a template":           {of(Role{SessionName: "{{ .Host }}"}), "roles.demo.session_name: unknown {{ .Host }}; there is {{ .Hostname }} and {{ .Credential }}"},
		"open braces":          {of(Role{SessionName: "x {{ .Hostname }"}), "roles.demo.session_name: braces that are no"},
		"an external ID":       {of(Role{ExternalID: "a b"}), "roles.demo.external_id: must have 2 to 1224"},
		"a source identity":    {of(Role{SourceIdentity: "x"}), "roles.demo.source_identity: must have 2 to 64"},
		"a short duration":     {of(Role{Duration: 899 * time.Second}), "roles.demo.duration: 14m59s is not between 15m0s and 12h0m0s in whole seconds"},
		"a long duration":      {of(Role{Duration: 13 * time.Hour}), "roles.demo.duration: 13h0m0s is not between"},
		"a policy":             {of(Role{Policy: "Allow"}), "roles.demo.policy: is not a JSON document"},
		"a long policy":        {of(Role{Policy: `{"a":"` + strings.Repeat("x", 2048) + `"}`}), "roles.demo.policy: has more than the 2048 characters"},
		"a policy in Greek":    {of(Role{Policy: `{"a":"α"}`}), "roles.demo.policy: has characters beyond Latin-1"},
		"a policy's name":      {of(Role{PolicyARNs: []string{"ReadOnlyAccess"}}), `roles.demo.policy_arns: "ReadOnlyAccess" is not the ARN of a policy`},
		"many policies":        {of(Role{PolicyARNs: slices.Repeat([]string{"arn:aws:iam::aws:policy/x"}, 11)}), "roles.demo.policy_arns: there are 11, STS takes 10 at most"},
		"many tags":            {of(tooMany), "roles.demo.tags: there are 51, STS takes 50 at most"},
		"a reserved tag":       {of(Role{Tags: map[string]string{"AWS:x": ""}}), `roles.demo.tags: "AWS:x" cannot be the key of a tag`},
		"a tag's value":        {of(Role{Tags: map[string]string{"x": "a;b"}}), "roles.demo.tags.x: the value must have at most 256"},
		"two tags as one":      {of(Role{Tags: map[string]string{"Team": "", "team": ""}}), `roles.demo.tags: "Team" and "team" are the same to STS`},
		"a transitive tag":     {of(Role{TransitiveTags: []string{"x"}}), `roles.demo.transitive_tags: "x" is not one of tags`},
		"the shared options":   {func(o *Options) { o.Timeouts = upstream.Timeouts{} }, "timeouts.dial: "},
	} {
		t.Run(name, func(t *testing.T) {
			o := options()
			c.change(o)
			err := o.Validate()
			if err == nil || !slices.ContainsFunc(strings.Split(err.Error(), "\n"), func(line string) bool { return strings.HasPrefix(line, c.want) }) {
				t.Errorf("got %v, want %s...", err, c.want)
			}
		})
	}
}

func TestCheckChainedNamesRolesOfMoreThanAnHour(t *testing.T) {
	o := options()
	if err := o.CheckChained(); err != nil {
		t.Error(err)
	}
	o.Roles["long"] = Role{RoleARN: demoARN, Duration: 12 * time.Hour}
	const want = "roles.long.duration: 12h0m0s is too long: the base is the session of a role itself, and AWS lets such a chain last 1h0m0s at most"
	if err := o.CheckChained(); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

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
		o := &Options{Region: c.region, FIPS: c.fips, DualStack: c.dualStack}
		if got := o.address(); got != c.want {
			t.Errorf("%s, fips %v, dual stack %v: got %s, want %s", c.region, c.fips, c.dualStack, got, c.want)
		}
	}
	for _, endpoint := range []string{"http://127.0.0.1:8081", "http://127.0.0.1:8081/"} {
		if got := (&Options{Region: "eu-central-1", Endpoint: endpoint}).address(); got != "http://127.0.0.1:8081/" {
			t.Errorf("%s: got %s", endpoint, got)
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
		got := sessionName(c.template, c.hostname, c.name)
		if got != c.want || !fits(got, minSession, maxSession, sessionForm) || got == "" {
			t.Errorf("%q for %q: got %q, want %q", c.template, c.hostname, got, c.want)
		}
	}
}

func FuzzSessionName(f *testing.F) {
	f.Add("", "host name/ü@x", "demo")
	f.Add("{{ .Hostname }}{{ .Credential }}", "{{ .Credential }}", "\xff")
	f.Fuzz(func(t *testing.T, template, hostname, name string) {
		if got := sessionName(template, hostname, name); !fits(got, minSession, maxSession, sessionForm) || got == "" {
			t.Errorf("got %q", got)
		}
	})
}

// U01, U04.
func TestTheFormIsThatOfTheSDKs(t *testing.T) {
	full := Role{
		RoleARN: demoARN, ExternalID: "ext:1/2", Policy: `{"Version": "2012-10-17"}`, PolicyARNs: []string{"arn:aws:iam::aws:policy/ReadOnlyAccess"},
		Tags: map[string]string{"team": "a b", "cost": ""}, TransitiveTags: []string{"team"}, SourceIdentity: "alice", Duration: 2 * time.Hour,
	}
	golden(t, "form.txt", Role{RoleARN: demoARN}.form("web01")+"\n"+full.form("web01")+"\n")
}
