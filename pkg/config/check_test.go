package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestUserDataIsAtMostAsLongAsOnEC2(t *testing.T) {
	for _, test := range []struct {
		length int
		want   string
	}{
		{16 << 10, "<nil>"},
		{16<<10 + 1, "purser.yaml:1: aws.user_data is longer than 16384 bytes"},
	} {
		_, err := loadText(t, "aws: {user_data: "+strings.Repeat("x", test.length)+"}")
		if got := fmt.Sprint(err); got != test.want {
			t.Errorf("%d bytes: got %s, want %s", test.length, got, test.want)
		}
	}
}

func TestInstanceProfileIsTheARNOfOne(t *testing.T) {
	for arn, ok := range map[string]bool{
		"arn:aws:iam::123456789012:instance-profile/a/b": true,
		"arn:aws:iam::1234:instance-profile/web":         false,
		"arn:aws:iam::123456789012:role/web":             false,
		"arn:aws:iam":                                    false,
	} {
		want := "<nil>"
		if !ok {
			want = fmt.Sprintf("purser.yaml:1: aws.instance_profile.arn: %q is not an ARN such as arn:aws:iam::123456789012:instance-profile/web", arn)
		}
		_, err := loadText(t, fmt.Sprintf("aws: {instance_profile: {arn: %q}}", arn))
		if got := fmt.Sprint(err); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestWhatTheUsersOfAConfigurationRefuseHasItsLine(t *testing.T) {
	const text = "user: %s\naws:\n  metadata:\n    dynamic: {x: y}\n"
	for name, test := range map[string]struct{ user, says, want string }{
		"nothing":             {"purser", "", "<nil>"},
		"a key":               {"purser", "aws.metadata.dynamic: is not known", "purser.yaml:4: aws.metadata.dynamic: is not known"},
		"a key below":         {"purser", "aws.metadata.dynamic.z.z: is missing", "purser.yaml:4: aws.metadata.dynamic.z.z: is missing"},
		"two keys":            {"purser", "user: a\naws.metadata: b", "purser.yaml:1: user: a\npurser.yaml:3: aws.metadata: b"},
		"after other reasons": {"5", "never: asked", "purser.yaml:1: wrong type for user: a whole number instead of a text; quote it"},
	} {
		t.Run(name, func(t *testing.T) {
			write(t, map[string]string{"purser.yaml": fmt.Sprintf(text, test.user)})
			o := options("purser.yaml")
			o.Check = func(c *Config) error {
				if c.User != test.user {
					t.Errorf("asked about the user %q", c.User)
				}
				var all []error
				for line := range strings.Lines(test.says) {
					all = append(all, errors.New(strings.TrimSpace(line)))
				}
				return errors.Join(all...)
			}
			_, err := Load(o)
			if got := fmt.Sprint(err); got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}

func TestWithoutUpstreamsNothingThatIsWrongWithThemIsAnError(t *testing.T) {
	const listen = "listen: {main: {address: 127.0.0.1:9}}\n"
	for name, text := range map[string]string{
		"a file of systemd's":     `upstreams: {a: {kind: ims, url: x, tls: {ca: "${CREDENTIALS_DIRECTORY}/ca"}}}`,
		"an unknown kind":         "upstreams: {a: {kind: nothing}}",
		"an unknown key":          "upstreams: {a: {kind: ims, ulr: x}}",
		"a duplicate key":         "upstreams: {a: {kind: ims, kind: ims}}",
		"an anchor":               "upstreams: {a: &x {kind: ims}}",
		"no section":              "upstreams: [a]",
		"a region of alppaca's":   "ims_host: [a]",
		"a role of alppaca's":     "{ims_host: localhost, assume_role: nonsense}",
		"a file for the metadata": `aws: {user_data: "${CREDENTIALS_DIRECTORY}/x"}`,
	} {
		o := options("purser.yaml", "listen.yaml")
		write(t, map[string]string{"purser.yaml": text, "listen.yaml": listen})
		o.Environ = []string{"PURSER_UPSTREAMS__A__TLSS=x", "PURSER_UPSTREAMS__A__URL=y"}
		if _, err := Load(o); err == nil {
			t.Errorf("%s: with upstreams it is no error", name)
		}
		o.WithoutUpstreams = true
		c, err := Load(o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := c.Listen["main"].Address.String(); got != "127.0.0.1:9" || len(c.Upstreams) > 0 {
			t.Errorf("%s: it listens on %s and has %d upstreams", name, got, len(c.Upstreams))
		}
	}
}

func TestWithoutUpstreamsAllElseIsAsStrict(t *testing.T) {
	for text, want := range map[string]string{
		"lisen: {}": `purser.yaml:1: unknown key "lisen"; did you mean "listen"?`,
		"listen: {main: {address: 127.0.0.1}}\nupstreams: {a: {}}": `purser.yaml:1: listen.main.address: "127.0.0.1" is not an IP address and a port such as 127.0.0.1:25772 or [::1]:25772`,
		"upstreams: [": "purser.yaml:2: did not find expected node content",
	} {
		write(t, map[string]string{"purser.yaml": text})
		o := options("purser.yaml")
		o.WithoutUpstreams = true
		if _, err := Load(o); fmt.Sprint(err) != want {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}
