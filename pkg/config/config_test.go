package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/testkit"
)

// A shared part of options, as kinds embed it.
type client struct {
	Proxy         string               `koanf:"proxy"`
	ProxyUser     string               `koanf:"proxy_user"`
	ProxyPassword credential.SecretRef `koanf:"proxy_password"`
	NoProxy       []string             `koanf:"no_proxy"`
	TLS           struct {
		CA          string `koanf:"ca"`
		Certificate string `koanf:"certificate"`
		Key         string `koanf:"key"`
		ServerName  string `koanf:"server_name"`
	} `koanf:"tls"`
	Timeouts struct {
		Dial   time.Duration `koanf:"dial"`
		TLS    time.Duration `koanf:"tls"`
		Header time.Duration `koanf:"header"`
		Total  time.Duration `koanf:"total"`
	} `koanf:"timeouts"`
}

// imsOptions are the options of a kind, as a kind declares them.
type imsOptions struct {
	URL       []string           `koanf:"url"`
	Roles     map[string]imsRole `koanf:"roles"`
	AccountID string             `koanf:"account_id"`
	client    `koanf:",squash"`
}

type imsRole struct {
	Role string `koanf:"role"`
}

func (o *imsOptions) Validate() error {
	var all []error
	if len(o.URL) == 0 {
		all = append(all, errors.New("url: missing"))
	}
	if o.AccountID != "" && len(o.AccountID) != 12 {
		all = append(all, errors.New("account_id: not twelve digits"))
	}
	for _, host := range o.NoProxy {
		if strings.Contains(host, " ") {
			all = append(all, fmt.Errorf("no_proxy: %q is no host", host))
		}
	}
	if o.Timeouts.Dial <= 0 {
		all = append(all, errors.Join(errors.New("timeouts.dial: too short")))
	}
	return errors.Join(all...)
}

// tokenOptions are the options of another kind, without rules.
type tokenOptions struct {
	Nested struct {
		Secret credential.SecretRef `koanf:"secret"`
	} `koanf:"nested"`
	Token  credential.SecretRef `koanf:"token"`
	Retry  *bool                `koanf:"retry"`
	Size   int8                 `koanf:"size"`
	Labels map[string]string    `koanf:"labels"`
	Form   *form                `koanf:"form"`
}

// A form is a number with a text form of its own.
type form int

func (f *form) UnmarshalText(text []byte) error {
	if string(text) != "auto" && string(text) != "1" {
		return errors.New("auto or 1")
	}
	*f = form(len(text))
	return nil
}

// stsOptions are of a kind with sections below sections.
type stsOptions struct {
	Base struct {
		Credential string `koanf:"credential"`
		Upstream   string `koanf:"upstream"`
		Chain      string `koanf:"chain"`
		Profile    string `koanf:"profile"`

		ConfigFile      string `koanf:"config_file"`
		CredentialsFile string `koanf:"credentials_file"`
	} `koanf:"base"`
	Region    string             `koanf:"region"`
	Endpoint  string             `koanf:"endpoint"`
	FIPS      bool               `koanf:"fips"`
	DualStack bool               `koanf:"dual_stack"`
	Proxy     string             `koanf:"proxy"`
	Roles     map[string]stsRole `koanf:"roles"`
	OnDemand  map[string]stsRole `koanf:"on_demand"`
}

// identityOptions are of a kind whose name has a hyphen.
type identityOptions struct {
	Token credential.SecretRef `koanf:"token"`
	Base  struct {
		Credential string `koanf:"credential"`
	} `koanf:"base"`
	Region string             `koanf:"region"`
	Roles  map[string]stsRole `koanf:"roles"`
}

type stsRole struct {
	RoleARN        string            `koanf:"role_arn"`
	SessionName    string            `koanf:"session_name"`
	ExternalID     string            `koanf:"external_id"`
	SourceIdentity string            `koanf:"source_identity"`
	Duration       time.Duration     `koanf:"duration"`
	Policy         string            `koanf:"policy"`
	PolicyARNs     []string          `koanf:"policy_arns"`
	Tags           map[string]string `koanf:"tags"`
	TransitiveTags []string          `koanf:"transitive_tags"`
}

func options(paths ...string) Options {
	return Options{
		Paths:    paths,
		Dialects: []string{"aws", "ecs"},
		Kinds: map[string]func() any{
			"ims": func() any {
				o := &imsOptions{}
				o.Timeouts.Dial, o.Timeouts.TLS = 3*time.Second, 5*time.Second
				o.Timeouts.Header, o.Timeouts.Total = 10*time.Second, 15*time.Second
				return o
			},
			"sts":   func() any { return &stsOptions{} },
			"token": func() any { return &tokenOptions{Size: 7} },

			"web-identity": func() any { return &identityOptions{} },
		},
	}
}

// write puts files into a new folder, which becomes the working directory, so that
// names in messages are short and always the same.
func write(t *testing.T, files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// loadText loads one file.
func loadText(t *testing.T, text string) (*Config, error) {
	t.Helper()
	write(t, map[string]string{"purser.yaml": text})
	return Load(options("purser.yaml"))
}

// Each archive in testdata holds files, and what comes of them: the errors, or the
// configuration with the origin of each value and the notices. Its head names the
// paths to load and the environment.
func TestLoadingTellsWhatCameOfItAndWhere(t *testing.T) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives in testdata: %v", err)
	}
	for _, name := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			golden, err := filepath.Abs(name)
			if err != nil {
				t.Fatal(err)
			}
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			inputs, want := map[string]string{}, []txtar.File(nil)
			for _, f := range archive.Files {
				if isResult(f) {
					want = append(want, f)
				} else {
					inputs[f.Name] = string(f.Data)
				}
			}
			write(t, inputs)
			got := outcome(t, headOptions(t, string(archive.Comment)))
			if *testkit.Update {
				archive.Files = append(slices.DeleteFunc(archive.Files, isResult), got...)
				if err := os.WriteFile(golden, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got, want := txtar.Format(&txtar.Archive{Files: got}), txtar.Format(&txtar.Archive{Files: want}); !bytes.Equal(got, want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// loadArchive loads what an archive in testdata describes.
func loadArchive(t *testing.T, name string) *Config {
	t.Helper()
	archive, err := txtar.ParseFile(filepath.Join("testdata", name+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	inputs := map[string]string{}
	for _, f := range archive.Files {
		inputs[f.Name] = string(f.Data)
	}
	dir := cwd(t)
	write(t, inputs)
	defer t.Chdir(dir)
	c, err := Load(headOptions(t, string(archive.Comment)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func isResult(f txtar.File) bool {
	return slices.Contains([]string{"errors", "config", "notices"}, f.Name)
}

// headOptions reads the head of an archive: "config PATH..." and "env NAME=VALUE".
func headOptions(t *testing.T, head string) Options {
	t.Helper()
	o := options()
	for line := range strings.Lines(head) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "config":
			o.Paths = strings.Fields(rest)
		case "env":
			o.Environ = append(o.Environ, rest)
		case "", "#":
		default:
			t.Fatalf("unknown line %q at the head of the archive", line)
		}
	}
	return o
}

func outcome(t *testing.T, o Options) []txtar.File {
	t.Helper()
	c, err := Load(o)
	if err != nil {
		return []txtar.File{{Name: "errors", Data: []byte(err.Error() + "\n")}}
	}
	text, err := c.YAML(true)
	if err != nil {
		t.Fatal(err)
	}
	found := []txtar.File{{Name: "config", Data: text}}
	if len(c.Notices) > 0 {
		found = append(found, txtar.File{Name: "notices", Data: fmt.Appendln(nil, strings.Join(c.Notices, "\n"))})
	}
	return found
}

func TestThePlacesOfOneUserFollowTheirSumWhereOnlyThatIsSet(t *testing.T) {
	for _, test := range []struct {
		text          string
		most, perUser int
	}{
		{"{}", 4096, 512},
		{"connections: {most: 100}", 100, 100},
		{"connections: {most: 1000}", 1000, 512},
		{"connections: {most: 100, per_user: 10}", 100, 10},
	} {
		c, err := loadText(t, test.text)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Connections; got.Most != test.most || got.PerUser != test.perUser {
			t.Errorf("%s: got %+v, want %d and %d", test.text, got, test.most, test.perUser)
		}
	}
}
