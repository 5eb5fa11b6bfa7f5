package sts

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/awsapi"
	"github.com/purser-agent/purser/pkg/testkit"
	"github.com/purser-agent/purser/pkg/upstream"
)

const demoARN = "arn:aws:iam::123456789012:role/team/demoRole"

// options are the least that is valid.
func options() *Options {
	o := Defaults()
	o.Base.Credential, o.Region = "base", "eu-central-1"
	o.Roles = map[string]Role{"demo": role(demoARN)}
	return o
}

// role is one of which only the ARN is configured.
func role(arn string) Role { return Role{Session: awsapi.Session{RoleARN: arn}} }

// demand sets patterns for roles on demand, named a, b and so on.
func demand(patterns ...string) func(*Options) {
	return func(o *Options) {
		o.OnDemand = map[string]Role{}
		for i, pattern := range patterns {
			o.OnDemand[string(rune('a'+i))] = role(pattern)
		}
	}
}

func TestValidateAcceptsWhatSTSTakes(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"the least":         func(*Options) {},
		"a base's upstream": func(o *Options) { o.Base = BaseOptions{Upstream: "datacenter"} },
		"patterns alone": func(o *Options) {
			o.Roles = nil
			demand("arn:aws:iam::123456789012:role/app-*", "arn:aws:iam::123456789012:role/app/*")(o)
		},
		"the chain": func(o *Options) { o.Base = BaseOptions{Chain: "default", Profile: "x", CredentialsFile: "/x"} },
		"China": func(o *Options) {
			o.Region, o.Roles["demo"] = "cn-north-1", role("arn:aws-cn:iam::123456789012:role/x")
		},
		"an endpoint": func(o *Options) {
			o.Region, o.Endpoint, o.Roles["demo"] = "us-iso-east-1", "https://sts.example.com:8443", role("arn:aws-iso:iam::123456789012:role/x")
		},
		"a tag without value": func(o *Options) {
			o.Roles["demo"] = Role{Session: role(demoARN).Session, Tags: map[string]string{"a b:c": ""}}
		},
		"all at their limits": func(o *Options) {
			r := Role{
				Session:    awsapi.Session{RoleARN: demoARN, Duration: 12 * time.Hour, Policy: `{"a":"` + strings.Repeat("ä", 2040) + `"}`},
				ExternalID: strings.Repeat("x", 1224), SourceIdentity: strings.Repeat("x", 64), Tags: map[string]string{},
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
		"no base":              {func(o *Options) { o.Base = BaseOptions{} }, "base: missing: {credential: NAME}, {upstream: NAME} of one that grants a single credential, or {chain: default}"},
		"two bases":            {func(o *Options) { o.Base.Upstream = "x" }, "base: has several of credential, upstream and chain"},
		"a base with a slash":  {func(o *Options) { o.Base.Credential = "a/b" }, `base.credential: the name "a/b" contains a slash`},
		"another chain":        {func(o *Options) { o.Base = BaseOptions{Chain: "x"} }, `base.chain: "x" is not known; there is default`},
		"a profile alone":      {func(o *Options) { o.Base.Profile = "x" }, "base.chain: missing, but profile, config_file or credentials_file is set"},
		"a file's name":        {func(o *Options) { o.Base = BaseOptions{Chain: "default", ConfigFile: "x"} }, "base.config_file: the path must start with /"},
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
		"a user's ARN":         {of(role("arn:aws:iam::123456789012:user/x")), "roles.demo.role_arn: \"arn:aws:iam::123456789012:user/x\" is not the ARN of a role"},
		"a short account":      {of(role("arn:aws:iam::12345678901:role/x")), "roles.demo.role_arn: "},
		"another partition":    {of(role("arn:aws-cn:iam::123456789012:role/x")), "roles.demo.role_arn: the role is in the partition aws-cn, the region in aws"},
		"a template":           {of(Role{Session: awsapi.Session{SessionName: "{{ .Host }}"}}), "roles.demo.session_name: unknown {{ .Host }}; there is {{ .Hostname }} and {{ .Credential }}"},
		"open braces":          {of(Role{Session: awsapi.Session{SessionName: "x {{ .Hostname }"}}), "roles.demo.session_name: braces that are no"},
		"an external ID":       {of(Role{ExternalID: "a b"}), "roles.demo.external_id: must have 2 to 1224"},
		"a source identity":    {of(Role{SourceIdentity: "x"}), "roles.demo.source_identity: must have 2 to 64"},
		"a short duration":     {of(Role{Session: awsapi.Session{Duration: 899 * time.Second}}), "roles.demo.duration: 14m59s is not between 15m0s and 12h0m0s in whole seconds"},
		"a long duration":      {of(Role{Session: awsapi.Session{Duration: 13 * time.Hour}}), "roles.demo.duration: 13h0m0s is not between"},
		"a policy":             {of(Role{Session: awsapi.Session{Policy: "Allow"}}), "roles.demo.policy: is not a JSON document"},
		"a long policy":        {of(Role{Session: awsapi.Session{Policy: `{"a":"` + strings.Repeat("x", 2048) + `"}`}}), "roles.demo.policy: has more than the 2048 characters"},
		"a policy in Greek":    {of(Role{Session: awsapi.Session{Policy: `{"a":"α"}`}}), "roles.demo.policy: has characters beyond Latin-1"},
		"a policy's name":      {of(Role{Session: awsapi.Session{PolicyARNs: []string{"ReadOnlyAccess"}}}), `roles.demo.policy_arns: "ReadOnlyAccess" is not the ARN of a policy`},
		"many policies":        {of(Role{Session: awsapi.Session{PolicyARNs: slices.Repeat([]string{"arn:aws:iam::aws:policy/x"}, 11)}}), "roles.demo.policy_arns: there are 11, STS takes 10 at most"},
		"many tags":            {of(tooMany), "roles.demo.tags: there are 51, STS takes 50 at most"},
		"a reserved tag":       {of(Role{Tags: map[string]string{"AWS:x": ""}}), `roles.demo.tags: "AWS:x" cannot be the key of a tag`},
		"a tag's value":        {of(Role{Tags: map[string]string{"x": "a;b"}}), "roles.demo.tags.x: the value must have at most 256"},
		"two tags as one":      {of(Role{Tags: map[string]string{"Team": "", "team": ""}}), `roles.demo.tags: "Team" and "team" are the same to STS`},
		"an open account":      {demand("arn:aws:iam::*:role/x"), "on_demand.a.role_arn: \"arn:aws:iam::*:role/x\" is not a pattern for roles of one account"},
		"no pattern":           {demand(""), "on_demand.a.role_arn: missing, such as arn:aws:iam::123456789012:role/app-*"},
		"patterns that meet":   {demand("arn:aws:iam::123456789012:role/app-*", "arn:aws:iam::123456789012:role/*-x"), "on_demand.b.role_arn: there are roles that on_demand.a is for, too; make the patterns exclude each other"},
		"a pattern's duration": {func(o *Options) {
			demand("arn:aws:iam::123456789012:role/*")(o)
			r := o.OnDemand["a"]
			r.Duration = time.Second
			o.OnDemand["a"] = r
		}, "on_demand.a.duration: 1s is not between"},
		"a pattern's ID": {func(o *Options) {
			demand("arn:aws:iam::123456789012:role/*")(o)
			r := o.OnDemand["a"]
			r.ExternalID = "x"
			o.OnDemand["a"] = r
		}, "on_demand.a.external_id: must have 2 to 1224"},
		"a transitive tag":   {of(Role{TransitiveTags: []string{"x"}}), `roles.demo.transitive_tags: "x" is not one of tags`},
		"the shared options": {func(o *Options) { o.Timeouts = upstream.Timeouts{} }, "timeouts.dial: "},
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
	o.Roles["long"] = Role{Session: awsapi.Session{RoleARN: demoARN, Duration: 12 * time.Hour}}
	o.OnDemand = map[string]Role{"long": o.Roles["long"]}
	const what = ".long.duration: 12h0m0s is too long: the base is the session of a role itself, and AWS lets such a chain last 1h0m0s at most"
	const want = "roles" + what + "\non_demand" + what
	if err := o.CheckChained(); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// U01, U04.
func TestTheFormIsThatOfTheSDKs(t *testing.T) {
	full := Role{
		Session: awsapi.Session{
			RoleARN: demoARN, Policy: `{"Version": "2012-10-17"}`, PolicyARNs: []string{"arn:aws:iam::aws:policy/ReadOnlyAccess"}, Duration: 2 * time.Hour,
		},
		ExternalID: "ext:1/2", Tags: map[string]string{"team": "a b", "cost": ""}, TransitiveTags: []string{"team"}, SourceIdentity: "alice",
	}
	testkit.Golden(t, "form.txt", role(demoARN).form("web01").Encode()+"\n"+full.form("web01").Encode()+"\n")
}
