package main

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"go.yaml.in/yaml/v3"

	"github.com/purser-agent/purser/pkg/config"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/store"
)

const (
	shippedFile     = top + "/etc/purser.yaml"
	shippedExamples = top + "/etc/conf.d.examples"
)

// loadShipped loads files as a service of systemd would.
func loadShipped(t *testing.T, paths ...string) *config.Config {
	t.Helper()
	c, err := config.Load(configOptions(paths, []string{"CREDENTIALS_DIRECTORY=/run/credentials/purser.service"}))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Notices) > 0 {
		t.Errorf("got notices %q, want none about what is shipped", c.Notices)
	}
	return c
}

// turnedOn is the shipped file with all that is turned off in it turned on, by the
// rule in its head.
func turnedOn(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(shippedFile)
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`(?m)^#([^#])`).ReplaceAllString(string(text), "$1")
}

func TestShippedConfigurationServesAsItIs(t *testing.T) {
	c := loadShipped(t, shippedFile)
	if c.User != "purser" || c.Group != "purser" || c.Admin.Socket != systemSocket || len(c.Upstreams) != 0 {
		t.Errorf("got user %s, group %s, socket %s, %d upstreams", c.User, c.Group, c.Admin.Socket, len(c.Upstreams))
	}
	main, ok := c.Listen["main"]
	if !ok || len(c.Listen) != 1 || main.Address.String() != "127.0.0.1:25772" || len(main.Dialects) != len(dialects) {
		t.Errorf("got listeners %+v, want main with every dialect", c.Listen)
	}
	for _, d := range dialects {
		if _, err := d.open(c, &localKeys{sessionTokens: make([]byte, 32), authorization: credential.NewSecret("x")}); err != nil {
			t.Errorf("dialect %s: %v", d.name, err)
		}
	}
}

func TestShippedConfigurationTurnedOnOpensEveryKindOfUpstream(t *testing.T) {
	file := filepath.Join(t.TempDir(), "purser.yaml")
	if err := os.WriteFile(file, []byte(turnedOn(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	c := loadShipped(t, file)
	if _, err := openSources(c.Upstreams, &store.Store{}, surroundings{log: zerolog.Nop()}); err != nil {
		t.Error(err)
	}
	var kinds []string
	for _, u := range c.Upstreams {
		kinds = append(kinds, u.Kind)
	}
	for kind := range upstreamKinds {
		if !slices.Contains(kinds, kind) {
			t.Errorf("no upstream of kind %s is in %s", kind, shippedFile)
		}
	}
	if rules := grants(c, nil); len(rules.Grants) < 3 {
		t.Errorf("got the grants %+v, want everyone's and examples of the others", rules.Grants)
	}
}

func TestShippedExamplesOpenOverTheShippedFile(t *testing.T) {
	examples, err := filepath.Glob(shippedExamples + "/*.yaml")
	if err != nil || len(examples) < 3 {
		t.Fatalf("found only %v (%v)", examples, err)
	}
	for _, path := range append(examples, shippedExamples) { // each alone, and all together
		if _, err := openSources(loadShipped(t, shippedFile, path).Upstreams, &store.Store{}, surroundings{log: zerolog.Nop()}); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestShippedConfigurationHasEveryKey: what can be set is explained there, also what
// a kind of upstream adds.
func TestShippedConfigurationHasEveryKey(t *testing.T) {
	var tree map[string]any
	if err := yaml.Unmarshal([]byte(turnedOn(t)), &tree); err != nil {
		t.Fatal(err)
	}
	count := demandKeys(t, "", reflect.TypeFor[config.Config](), []map[string]any{tree}, nil)
	upstreams := sections(sections([]map[string]any{tree}, "upstreams"), "")
	for kind, k := range upstreamKinds {
		ofKind := slices.DeleteFunc(slices.Clone(upstreams), func(u map[string]any) bool { return u["kind"] != kind })
		count += demandKeys(t, "upstreams of kind "+kind, reflect.TypeOf(k.options()).Elem(), ofKind, upstreams)
	}
	if count < 50 {
		t.Errorf("found only %d keys to look for", count)
	}
}

// demandKeys fails for each key of a struct that none of the sections has, and
// counts them. Keys of a squashed struct, which several kinds share, may be in any of
// the shared sections.
func demandKeys(t *testing.T, at string, section reflect.Type, own, shared []map[string]any) (count int) {
	t.Helper()
	for _, f := range reflect.VisibleFields(section) {
		name, _, _ := strings.Cut(f.Tag.Get("koanf"), ",")
		if name == "" {
			continue // not a key, or squashed: its fields are visible as well
		}
		count++
		key, in := strings.TrimPrefix(at+"."+name, "."), own
		if len(f.Index) > 1 {
			in = shared
		}
		if !slices.ContainsFunc(in, func(s map[string]any) bool { _, ok := s[name]; return ok }) {
			t.Errorf("%s is not in %s", key, shippedFile)
			continue
		}
		below, what := sections(in, name), f.Type
		if what.Kind() == reflect.Map && what.Elem().Kind() == reflect.Struct { // elements with names
			below, what = sections(below, ""), what.Elem()
		}
		if isSection(what) {
			count += demandKeys(t, key, what, below, below)
		}
	}
	return count
}

// isSection reports whether a type is written as a section, not as one value.
func isSection(what reflect.Type) bool {
	return what.Kind() == reflect.Struct &&
		slices.ContainsFunc(reflect.VisibleFields(what), func(f reflect.StructField) bool { return f.Tag.Get("koanf") != "" })
}

// sections are those with a name in any of some sections, or all that they have if
// the name is empty.
func sections(in []map[string]any, name string) (found []map[string]any) {
	for _, section := range in {
		for _, key := range slices.Sorted(maps.Keys(section)) {
			if below, ok := section[key].(map[string]any); ok && (name == "" || key == name) {
				found = append(found, below)
			}
		}
	}
	return found
}
