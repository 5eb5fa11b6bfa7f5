package config

import (
	"cmp"
	"encoding"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
)

// The types with rules of their own.
var (
	durationType = reflect.TypeFor[time.Duration]()
	metadataType = reflect.TypeFor[Metadata]()
	secretType   = reflect.TypeFor[credential.SecretRef]()
	upstreamType = reflect.TypeFor[Upstream]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// forms tells what the text of a type looks like. For another one its error does.
var forms = map[reflect.Type]string{
	reflect.TypeFor[netip.AddrPort](): "an IP address and a port such as 127.0.0.1:25772 or [::1]:25772",
	reflect.TypeFor[netip.Prefix]():   "a network such as 10.1.0.0/16 or fd00::/8",
}

// wrongType notes that a value has another form than its key demands. It does not
// show the value.
func (l *loader) wrongType(at path, from any, want string) {
	hint := ""
	if text, ok := from.(string); ok && strings.HasPrefix(want, "a section") && glued.MatchString(text) {
		hint = "; a key needs a blank after its colon"
	}
	l.wrong(at, "wrong type for %s: %s instead of %s%s", at, describe(from), want, hint)
}

// describe tells the form of a value.
func describe(from any) string {
	switch from.(type) {
	case nil:
		return "nothing"
	case string:
		return "a text"
	case bool:
		return "true or false"
	case int:
		return "a whole number"
	case number:
		return "a number with a fraction"
	case []any:
		return "a list"
	default:
		return "a section"
	}
}

// decode fills the struct that into points to from a section. It goes on after a
// problem and leaves the value in question as it was.
func (l *loader) decode(at path, from any, into any) {
	l.value(at, from, reflect.ValueOf(into).Elem())
}

func (l *loader) value(at path, from any, into reflect.Value) {
	switch into.Type() {
	case durationType:
		l.duration(at, from, into)
		return
	case secretType:
		l.secret(at, from, into)
		return
	case metadataType:
		l.metadata(at, from, into)
		return
	case upstreamType:
		l.upstream(at, from, into)
		return
	}
	if into.CanAddr() && into.Addr().Type().Implements(textType) {
		l.text(at, from, into)
		return
	}
	switch into.Kind() {
	case reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		l.value(at, from, into.Elem())
	case reflect.Struct:
		l.section(at, from, into)
	case reflect.Map:
		l.named(at, from, into)
	case reflect.Slice:
		l.list(at, from, into)
	default:
		l.scalar(at, from, into)
	}
}

// A field is one key that a struct declares.
type field struct {
	name  string
	index []int
	typ   reflect.Type
}

// fields lists the keys of a struct, those of a squashed struct among them.
func fields(t reflect.Type) []field {
	var all []field
	for i := range t.NumField() {
		f := t.Field(i)
		name, option, _ := strings.Cut(f.Tag.Get("koanf"), ",")
		switch {
		case option == "squash":
			for _, inner := range fields(f.Type) {
				all = append(all, field{inner.name, append([]int{i}, inner.index...), inner.typ})
			}
		case name != "" && name != "-":
			all = append(all, field{name, []int{i}, f.Type})
		}
	}
	return all
}

// section fills structs whose keys stand side by side in one section.
func (l *loader) section(at path, from any, into ...reflect.Value) {
	section, ok := from.(map[string]any)
	if !ok {
		l.wrongType(at, from, "a section")
		return
	}
	known := map[string]reflect.Value{}
	for _, v := range into {
		for _, f := range fields(v.Type()) {
			known[f.name] = v.FieldByIndex(f.index)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(section)) {
		v, ok := known[key]
		null := section[key] == nil
		if ok && !null {
			l.value(at.with(key), section[key], v)
		}
		if ok || null && l.given[at.with(key).id()] { // a key of another kind may be removed
			continue
		}
		names := slices.Collect(maps.Keys(known))
		if len(at) == 0 {
			names = append(names, alppacaKeys...)
		}
		if before, _, ok := strings.Cut(key, ":"); ok { // what follows may be a secret
			hint := ""
			if !slices.Contains(names, before) {
				hint = DidYouMean(before, names)
			}
			l.wrong(at.with(key), "unknown key %q%s; a key needs a blank after its colon%s", before+":...", in(at), hint)
			continue
		}
		l.wrong(at.with(key), "unknown key %s%s%s", quote(key), in(at), DidYouMean(key, names))
	}
}

// upstream fills the common part of an upstream and the options of its kind.
func (l *loader) upstream(at path, from any, into reflect.Value) {
	section, ok := from.(map[string]any)
	if !ok {
		l.wrongType(at, from, "a section")
		return
	}
	kind, _ := section["kind"].(string)
	into.Addr().Interface().(*Upstream).identity = newIdentity(section)
	if newOptions := l.options.Kinds[kind]; newOptions != nil {
		options := newOptions()
		into.FieldByName("Options").Set(reflect.ValueOf(options))
		l.section(at, section, into, reflect.ValueOf(options).Elem())
		return
	}
	// Which other keys there are is for the kind to say: look at the common ones only.
	common := map[string]any{}
	for _, f := range fields(upstreamType) {
		common[f.name] = section[f.name]
	}
	l.section(at, common, into)
	kinds := slices.Sorted(maps.Keys(l.options.Kinds))
	if section["kind"] == nil {
		l.wrong(at, "%s has no kind; it is one of: %s", at, strings.Join(kinds, ", "))
	} else if !l.spoiled.has(at.with("kind")) {
		l.oneOf(at.with("kind"), kind, kinds)
	}
}

// named fills a map of values by name.
func (l *loader) named(at path, from any, into reflect.Value) {
	section, ok := from.(map[string]any)
	if !ok {
		l.wrongType(at, from, "a section of names")
		return
	}
	filled := reflect.MakeMapWithSize(into.Type(), len(section))
	for name, below := range section {
		if below == nil {
			continue
		}
		element := reflect.New(into.Type().Elem())
		if d, ok := element.Interface().(defaulted); ok {
			d.setDefaults()
		}
		l.value(at.with(name), below, element.Elem())
		filled.SetMapIndex(reflect.ValueOf(name).Convert(into.Type().Key()), element.Elem())
	}
	into.Set(filled)
}

// list fills a slice; a single value is a list of one.
func (l *loader) list(at path, from any, into reflect.Value) {
	elements, ok := from.([]any)
	if !ok {
		if _, ok := from.(map[string]any); ok {
			l.wrongType(at, from, "a list")
			return
		}
		one := reflect.MakeSlice(into.Type(), 1, 1)
		l.value(at, from, one.Index(0))
		into.Set(one)
		return
	}
	filled := reflect.MakeSlice(into.Type(), len(elements), len(elements))
	for i, element := range elements {
		l.value(at.index(i), element, filled.Index(i))
	}
	into.Set(filled)
}

func (l *loader) scalar(at path, from any, into reflect.Value) {
	switch into.Kind() {
	case reflect.String:
		if text, ok := from.(string); ok {
			into.SetString(l.expand(at, text))
			return
		}
		switch from.(type) {
		case int, number, bool:
			l.wrongType(at, from, "a text; quote it")
		default:
			l.wrongType(at, from, "a text")
		}
	case reflect.Bool:
		if b, ok := from.(bool); ok {
			into.SetBool(b)
			return
		}
		l.wrongType(at, from, "true or false")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, ok := from.(int)
		if !ok {
			l.wrongType(at, from, "a whole number")
			return
		}
		if into.OverflowInt(int64(n)) {
			l.wrong(at, "%s: %d is too large", at, n)
			return
		}
		into.SetInt(int64(n))
	default:
		l.wrong(at, "%s cannot be configured: there is no rule for the type %s", at, into.Type())
	}
}

// text fills a type that reads its own text form. That of a number may be one.
func (l *loader) text(at path, from any, into reflect.Value) {
	if n, ok := from.(int); ok && into.CanInt() {
		from = strconv.Itoa(n)
	}
	text, ok := from.(string)
	if !ok {
		l.wrongType(at, from, "a text")
		return
	}
	text = l.expand(at, text)
	if err := into.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)); err != nil {
		l.wrong(at, "%s: %s is not %s", at, quote(text), cmp.Or(forms[into.Type()], err.Error()))
	}
}

func (l *loader) duration(at path, from any, into reflect.Value) {
	const want = "a duration such as 90s, 15m or 6h"
	switch from := from.(type) {
	case int:
		if from != 0 {
			l.wrong(at, "%s: %d has no unit; write %s", at, from, want)
			return
		}
		into.SetInt(0)
	case string:
		d, err := time.ParseDuration(l.expand(at, from))
		if err != nil {
			l.wrong(at, "%s: %s is not %s", at, quote(from), want)
			return
		}
		into.SetInt(int64(d))
	default:
		l.wrongType(at, from, want)
	}
}

// secret fills a secret. No message shows anything of what was given, not even the
// keys: a password in braces is a section to YAML.
func (l *loader) secret(at path, from any, into reflect.Value) {
	const want = "a text in quotes or {file: PATH}"
	var ref credential.SecretRef
	switch from := from.(type) {
	case string:
		ref.Value = credential.NewSecret(l.expand(at, from))
	case map[string]any:
		name, ok := from["file"].(string)
		if !ok || len(from) != 1 {
			l.wrong(at, "wrong type for %s: a section instead of %s", at, want)
			return
		}
		ref.File = l.expand(at, name)
		if !strings.HasPrefix(ref.File, "/") {
			l.wrong(at.with("file"), "%s: the path must start with /", at.with("file"))
			return
		}
	default:
		l.wrongType(at, from, want)
		return
	}
	into.Set(reflect.ValueOf(ref))
}

// expand replaces ${CREDENTIALS_DIRECTORY}, where systemd puts the files of
// LoadCredential=.
func (l *loader) expand(at path, text string) string {
	const name = "${CREDENTIALS_DIRECTORY}"
	if !l.inService && !l.options.WithoutUpstreams && strings.Contains(text, name) && !l.spoiled.has(at) {
		l.wrong(at, "%s: %s is not set; systemd sets it for a service with LoadCredential=, "+
			"elsewhere set it to the folder of these files", at, name)
	}
	return strings.ReplaceAll(text, name, l.credentials)
}

// metadata fills the static tree of the AWS metadata service.
func (l *loader) metadata(at path, from any, into reflect.Value) {
	section, ok := from.(map[string]any)
	if !ok {
		l.wrongType(at, from, "a section")
		return
	}
	into.Set(reflect.ValueOf(Metadata(l.metadataTree(at, section))))
}

func (l *loader) metadataTree(at path, section map[string]any) map[string]any {
	tree := make(map[string]any, len(section))
	for name, from := range section {
		switch from := from.(type) {
		case nil:
		case map[string]any:
			tree[name] = l.metadataTree(at.with(name), from)
		case []any:
			lines := make([]string, len(from))
			for i, element := range from {
				lines[i] = l.leaf(at.with(name).index(i), element)
			}
			tree[name] = strings.Join(lines, "\n")
		default:
			tree[name] = l.leaf(at.with(name), from)
		}
	}
	return tree
}

// leaf is any scalar as the text that was written.
func (l *loader) leaf(at path, from any) string {
	switch from := from.(type) {
	case string:
		return l.expand(at, from)
	case number:
		return string(from)
	case int:
		return strconv.Itoa(from)
	case bool:
		return strconv.FormatBool(from)
	default:
		l.wrongType(at, from, "a text")
		return ""
	}
}
