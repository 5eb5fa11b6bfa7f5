package webidentity

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/awsapi"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

const demoARN = "arn:aws:iam::123456789012:role/team/demoRole"

// options are the least that is valid.
func options() *Options {
	o := Defaults()
	o.Token.File, o.Region = "/run/token", "eu-central-1"
	o.Roles = map[string]awsapi.Session{"demo": {RoleARN: demoARN}}
	return o
}

func TestValidateAcceptsATokenOrABase(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"a file":        func(*Options) {},
		"a token":       func(o *Options) { o.Token = credential.SecretRef{Value: credential.NewSecret("x.y.z")} },
		"a base":        func(o *Options) { o.Token, o.Base.Credential = credential.SecretRef{}, "identity" },
		"an endpoint":   func(o *Options) { o.Endpoint = "https://sts.example.com" },
		"twelve hours":  func(o *Options) { o.Roles["demo"] = awsapi.Session{RoleARN: demoARN, Duration: 12 * time.Hour} },
		"another place": func(o *Options) { o.FIPS, o.DualStack, o.Region = true, true, "us-east-1" },
	} {
		o := options()
		change(o)
		if err := faults(o); len(err) > 0 {
			t.Errorf("%s: got %q", name, err)
		}
	}
}

// faults are what Validate and CheckChained report, by line.
func faults(o *Options) []string {
	if err := o.Validate(); err != nil {
		return strings.Split(err.Error(), "\n")
	}
	if err := o.CheckChained(); err != nil {
		return strings.Split(err.Error(), "\n")
	}
	return nil
}

func TestValidateNamesEachKeyThatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"no token":            {func(o *Options) { o.Token.File = "" }, "token: missing: {file: PATH}, or base: {credential: NAME} of a token that another upstream gives"},
		"two of them":         {func(o *Options) { o.Base.Credential = "x" }, "base: excludes token; one of them says what to assume roles with"},
		"a base with a slash": {func(o *Options) { o.Token.File, o.Base.Credential = "", "a/b" }, `base.credential: the name "a/b" contains a slash`},
		"its own base":        {func(o *Options) { o.Token.File, o.Base.Credential = "", "demo" }, `base.credential: "demo" is one of this upstream's own roles`},
		"no region":           {func(o *Options) { o.Region = "" }, "region: missing, such as eu-central-1"},
		"no roles":            {func(o *Options) { o.Roles = nil }, "roles: missing, such as NAME"},
		"a role with a slash": {func(o *Options) { o.Roles["a/b"] = o.Roles["demo"] }, `roles: the name "a/b" contains a slash`},
		"no ARN":              {func(o *Options) { o.Roles["demo"] = awsapi.Session{} }, "roles.demo.role_arn: missing, such as arn:aws:iam::123456789012:role/demo"},
		"another partition":   {func(o *Options) { o.Region = "cn-north-1" }, "roles.demo.role_arn: the role is in the partition aws, the region in aws-cn"},
		"a short duration":    {func(o *Options) { o.Roles["demo"] = awsapi.Session{RoleARN: demoARN, Duration: time.Minute} }, "roles.demo.duration: 1m0s is not between 15m0s and 12h0m0s"},
		"the shared options":  {func(o *Options) { o.Timeouts = upstream.Timeouts{} }, "timeouts.dial: "},
	} {
		o := options()
		c.change(o)
		if got := faults(o); !slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, c.want) }) {
			t.Errorf("%s: got %q, want %s...", name, got, c.want)
		}
	}
}
