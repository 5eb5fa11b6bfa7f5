package config

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"testing"
)

const shippedFile = "../../etc/purser.yaml"

func shipped(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(shippedFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// turnedOn is the shipped text with all that is turned off in it turned on, by the
// rule that its head explains.
func turnedOn(text string) string {
	return regexp.MustCompile(`(?m)^#([^#])`).ReplaceAllString(text, "$1")
}

func TestShippedFileMeansTheDefaultsAndEverythingForEveryone(t *testing.T) {
	c, err := loadText(t, shipped(t))
	if err != nil {
		t.Fatal(err)
	}
	want, err := loadText(t, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Grants[Everyone].Credentials; len(c.Grants) != 1 || !slices.Equal(got, []string{"*"}) || len(c.Upstreams) != 0 {
		t.Errorf("got grants %+v and upstreams %+v, want everything for everyone and no upstream", c.Grants, c.Upstreams)
	}
	c.Grants, c.Upstreams, c.origins, want.origins = nil, nil, nil, nil
	main := c.Listen["main"]
	main.From, main.Hosts = nil, nil // written down as empty lists
	c.Listen["main"] = main
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, want the defaults: %+v", c, want)
	}
}

func TestShippedFileTurnedOnHasEveryKey(t *testing.T) {
	// Only the first upstream is of a kind that is known here; cmd/purser knows all.
	c, err := loadText(t, regexp.MustCompile(`(?s)\n  finance:\n.*\n(## Who may)`).ReplaceAllString(turnedOn(shipped(t)), "\n$1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := c.Upstreams["datacenter"].Options.(*imsOptions); !ok || len(c.Grants) < 3 {
		t.Fatalf("got upstreams %+v and grants %+v, want an upstream of kind ims and several grants", c.Upstreams, c.Grants)
	}
	demandEveryKey(t, c.origins, nil, reflect.ValueOf(c).Elem())
}

// demandEveryKey fails for each key that nobody set. Of several elements of a map
// one is enough.
func demandEveryKey(t *testing.T, set origins, at path, section reflect.Value) {
	t.Helper()
	for _, f := range fields(section.Type()) {
		below, value := at.with(f.name), section.FieldByIndex(f.index)
		if _, ok := set[below.id()]; !ok {
			t.Errorf("%s is not in %s", below, shippedFile)
		}
		switch {
		case f.typ == secretType || f.typ == metadataType:
		case f.typ.Kind() == reflect.Struct && !single(f.typ):
			demandEveryKey(t, set, below, value)
		case f.typ.Kind() == reflect.Map:
			demandInSomeElement(t, set, below, value)
		}
	}
	if upstream, ok := section.Interface().(Upstream); ok {
		demandEveryKey(t, set, at, reflect.ValueOf(upstream.Options).Elem())
	}
}

func demandInSomeElement(t *testing.T, set origins, at path, elements reflect.Value) {
	t.Helper()
	merged := maps.Clone(set)
	var element reflect.Value
	for name, value := range byName(elements) {
		element = value
		for _, f := range fields(value.Type()) {
			if origin, ok := set[at.with(name).with(f.name).id()]; ok {
				merged[at.with("any").with(f.name).id()] = origin
			}
		}
	}
	if !element.IsValid() {
		t.Errorf("%s has no element in %s", at, shippedFile)
		return
	}
	if elements.Len() > 1 {
		demandEveryKey(t, merged, at.with("any"), element)
		return
	}
	demandEveryKey(t, set, at.with(elements.MapKeys()[0].String()), element)
}

// TestShippedExamplesLoadOverTheShippedFile leaves out those with an upstream of a kind
// that only cmd/purser knows.
func TestShippedExamplesLoadOverTheShippedFile(t *testing.T) {
	var files []string
	for _, name := range []string{"purser.yaml", "conf.d.examples/10-region.yaml", "conf.d.examples/50-datacenter.yaml", "conf.d.examples/60-grants.yaml"} {
		file, err := filepath.Abs("../../etc/" + name)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	o := options(files...)
	o.Environ = []string{"CREDENTIALS_DIRECTORY=/run/credentials/purser.service"}
	c, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Files) < 4 || len(c.Upstreams) == 0 || len(c.Grants) == 0 || len(c.AWS.Metadata) == 0 {
		t.Errorf("read %v: got %+v, want an upstream, grants and metadata", c.Files, c)
	}
	if _, open := c.Grants[Everyone]; open {
		t.Error("the example that closes the door leaves it open")
	}
}
