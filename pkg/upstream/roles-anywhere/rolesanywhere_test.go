package rolesanywhere

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/mock"
	"github.com/purser-agent/purser/pkg/upstream"
)

func TestTheEndpointIsThatOfTheTrustAnchorsRegion(t *testing.T) {
	for _, c := range []struct {
		region, endpoint string
		fips, dualStack  bool
		want             string
	}{
		{"eu-central-1", "", false, false, "https://rolesanywhere.eu-central-1.amazonaws.com/"},
		{"us-east-1", "", true, false, "https://rolesanywhere-fips.us-east-1.amazonaws.com/"},
		{"eu-central-1", "", false, true, "https://rolesanywhere.eu-central-1.api.aws/"},
		{"cn-north-1", "", false, false, "https://rolesanywhere.cn-north-1.amazonaws.com.cn/"},
		{"us-gov-west-1", "", true, false, "https://rolesanywhere-fips.us-gov-west-1.amazonaws.com/"},
		{"eu-central-1", "https://vpce.example.com", false, false, "https://vpce.example.com/"},
	} {
		o := options()
		o.TrustAnchorARN = strings.Replace(anchorARN, "eu-central-1", c.region, 1)
		o.Endpoint, o.FIPS, o.DualStack = c.endpoint, c.fips, c.dualStack
		if got := o.place().URL(service); got != c.want {
			t.Errorf("%+v: got %s", c, got)
		}
	}
}

func TestValidateAcceptsWhatTheServiceTakes(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"the least": func(*Options) {},
		"China": func(o *Options) {
			o.TrustAnchorARN, o.ProfileARN = strings.NewReplacer("aws:", "aws-cn:", "eu-central-1", "cn-north-1").Replace(anchorARN), strings.NewReplacer("aws:", "aws-cn:", "eu-central-1", "cn-north-1").Replace(profileARN)
			o.Roles["demo"] = Role{RoleARN: "arn:aws-cn:iam::123456789012:role/x"}
		},
		"twelve hours": func(o *Options) {
			o.Roles["demo"] = Role{RoleARN: demoARN, Duration: 12 * time.Hour, SessionName: "{{ .Hostname }}"}
		},
		"one file": func(o *Options) { o.Key = o.Certificate },
	} {
		o := options()
		change(o)
		if err := o.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestValidateNamesEachKeyThatIsWrong(t *testing.T) {
	of := func(r Role) func(*Options) { return func(o *Options) { o.Roles["demo"] = r } }
	for name, c := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"no trust anchor":         {func(o *Options) { o.TrustAnchorARN = "" }, `trust_anchor_arn: "" is not the ARN of a trust anchor, such as arn:aws:rolesanywhere:eu-central-1:123456789012:trust-anchor/ID`},
		"a profile as anchor":     {func(o *Options) { o.TrustAnchorARN = profileARN }, "trust_anchor_arn: "},
		"an anchor as profile":    {func(o *Options) { o.ProfileARN = anchorARN }, `profile_arn: "` + anchorARN + `" is not the ARN of a profile`},
		"another region":          {func(o *Options) { o.ProfileARN = strings.Replace(profileARN, "eu-central-1", "us-east-1", 1) }, "profile_arn: the profile is in us-east-1, the trust anchor in eu-central-1; Roles Anywhere wants them in one region"}, // U16
		"another partition":       {of(Role{RoleARN: "arn:aws-cn:iam::123456789012:role/x"}), "roles.demo.role_arn: the role is in the partition aws-cn, the region in aws"},
		"no certificate":          {func(o *Options) { o.Certificate = "" }, "certificate: missing, the PEM file with the certificate to ask with"},
		"no key":                  {func(o *Options) { o.Key = "" }, "key: missing, the PEM file with the certificate's private key"},
		"a TPM without a path":    {func(o *Options) { o.TPM = "tpmrm0" }, `tpm: "tpmrm0" is not an absolute path, such as /dev/tpmrm0`},
		"an endpoint and fips":    {func(o *Options) { o.Endpoint, o.FIPS = "https://x", true }, "endpoint: excludes fips and dual_stack"},
		"an endpoint, a path":     {func(o *Options) { o.Endpoint = "https://x/y" }, `endpoint: "https://x/y" has a path`},
		"no roles":                {func(o *Options) { o.Roles = nil }, "roles: missing, such as NAME"},
		"a name with a slash":     {func(o *Options) { o.Roles["a/b"] = o.Roles["demo"] }, `roles: the name "a/b" contains a slash`},
		"a user's ARN":            {of(Role{RoleARN: "arn:aws:iam::123456789012:user/x"}), `roles.demo.role_arn: "arn:aws:iam::123456789012:user/x" is not the ARN of a role`},
		"a template":              {of(Role{RoleARN: demoARN, SessionName: "{{ .Host }}"}), "roles.demo.session_name: unknown {{ .Host }}"},
		"a short duration":        {of(Role{RoleARN: demoARN, Duration: time.Minute}), "roles.demo.duration: 1m0s is not between 15m0s and 12h0m0s"},
		"what all upstreams have": {func(o *Options) { o.Timeouts = upstream.Timeouts{} }, "timeouts.dial: "},
	} {
		o := options()
		c.change(o)
		err := o.Validate()
		if err == nil || !slices.ContainsFunc(strings.Split(err.Error(), "\n"), func(line string) bool { return strings.HasPrefix(line, c.want) }) {
			t.Errorf("%s: got %v, want %s...", name, err, c.want)
		}
	}
}

// TestAProxyThatRefusesIsNamed without its password, and nothing goes past it.
func TestAProxyThatRefusesIsNamed(t *testing.T) {
	var asked atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.Error(w, secretText, http.StatusProxyAuthRequired)
	}))
	defer proxy.Close()
	p := newPlace(t, mock.RolesAnywhereOptions{}, func(p *place) {
		p.options.Proxy, p.options.ProxyUser = proxy.URL, "purser"
		p.options.ProxyPassword = credential.SecretRef{Value: credential.NewSecret(secretText)}
	})
	_, err := p.fetch()
	want := "POST " + p.options.Endpoint + "/sessions through proxy " + proxy.Listener.Addr().String() +
		": answered 407 Proxy Authentication Required: the proxy wants proxy_user and proxy_password, or others than these"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	proxy.Close()
	if _, err := p.fetch(); err == nil || !strings.Contains(err.Error(), "the proxy cannot be reached") {
		t.Errorf("got %v", err)
	}
	if got := p.service.Requests(); asked.Load() != 1 || got.Total != 0 || got.Connections != 0 {
		t.Errorf("the proxy was asked %d times, the service got %+v", asked.Load(), got)
	}
}
