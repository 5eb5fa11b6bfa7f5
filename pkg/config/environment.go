package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/knadh/koanf/providers/confmap"
)

// environmentPrefix starts every variable that sets a key. Two underscores lead
// into a section: PURSER_LOG__LEVEL is log.level.
//
// Letter case does not count, and a dot, colon or hyphen of a name is written as
// one underscore. A name that an administrator chose (of an upstream, a role) is
// looked for in the files first; if it is not there, it is new, in lower case. New
// names in aws.metadata get hyphens for underscores, because all names there have.
// A list is separated by commas.
const environmentPrefix = "PURSER_"

// A setting is one variable and what it sets.
type setting struct {
	name, text string
	at         path
	typ        reflect.Type
}

// environment sets what the environment says on top of tree.
func (l *loader) environment(tree map[string]any) map[string]any {
	taken := map[string]string{}
	// The kind of an upstream comes first: it says which other keys there are.
	for _, kinds := range []bool{true, false} {
		flat := map[string]any{}
		for _, s := range l.settings(kinds) {
			if !l.resolve(&s, tree) {
				continue
			}
			if other, twice := taken[s.at.id()]; twice {
				l.problem(Origin{Variable: s.name}, s.at, "%s is set by %s too", s.at, other)
				continue
			}
			taken[s.at.id()] = s.name
			flat[s.at.id()] = l.read(s)
		}
		if len(flat) > 0 {
			layer, _ := confmap.Provider(flat, separator).Read() // which has no error
			tree = merge(tree, layer)
		}
	}
	return tree
}

// settings lists Purser's variables by name: those that set the kind of an
// upstream, or the others.
func (l *loader) settings(kinds bool) []setting {
	var all []setting
	for _, entry := range slices.Compact(slices.Sorted(slices.Values(l.options.Environ))) {
		name, _, ok := strings.Cut(entry, "=")
		segments := strings.Split(strings.ToUpper(name), "__")
		isKind := len(segments) == 3 && segments[0] == environmentPrefix+"UPSTREAMS" && segments[2] == "KIND"
		left := l.options.WithoutUpstreams && segments[0] == environmentPrefix+"UPSTREAMS"
		if ok && strings.HasPrefix(name, environmentPrefix) && isKind == kinds && !left {
			text, _ := variable(l.options.Environ, name)
			if !clean(name) {
				name = quote(name) // which no key has
			}
			all = append(all, setting{name: name, text: text})
		}
	}
	return slices.CompactFunc(all, func(a, b setting) bool { return a.name == b.name })
}

// resolve finds the key that a variable means.
func (l *loader) resolve(s *setting, tree map[string]any) bool {
	origin := Origin{Variable: s.name}
	segments := strings.Split(strings.TrimPrefix(s.name, environmentPrefix), "__")
	s.typ = reflect.TypeFor[Config]()
	for i, segment := range segments {
		next, typ, known := l.step(s.at, s.typ, segment, tree)
		if len(next) == 0 {
			hint := meant(segments, i, known)
			if section, _ := lookUp(tree, s.at).(map[string]any); s.typ == upstreamType && section["kind"] == nil {
				hint = fmt.Sprintf("; the kind of %s, which decides what its keys are, is not set", s.at)
			}
			l.problem(origin, nil, "no key has this name%s", hint)
			return false
		}
		if len(next) > 1 {
			l.problem(origin, s.at, "the variable could mean each of %s%s; set it in a file", strings.Join(next, ", "), in(s.at))
			return false
		}
		s.at, s.typ = s.at.with(next[0]), typ
	}
	switch _, ok := badText([]byte(s.text)); {
	case !ok:
		l.problem(origin, s.at, "the value is not UTF-8, or holds a control character")
	case s.typ == secretType:
		l.problem(origin, s.at, "a secret in the environment can be seen in /proc; "+
			"write it to a file and set %s__FILE to its path", s.name)
	case !single(s.typ):
		l.problem(origin, s.at, "%s is a section; a variable sets one value in it: %s__KEY", s.at, s.name)
	default:
		return true
	}
	return false
}

// meant ends a message about a variable whose segment i is not known.
func meant(segments []string, i int, known []string) string {
	corrected := slices.Clone(segments)
	if near := nearest(segments[i], known); near != "" {
		corrected[i] = near
	} else if near := nearest(strings.Join(segments[i:], "__"), known); near != "" {
		corrected = append(corrected[:i], near)
	} else {
		return ""
	}
	return "; did you mean " + environmentPrefix + strings.ToUpper(strings.Join(corrected, "__")) + "?"
}

// step finds the keys that a segment of a variable's name can mean in the section
// at a path, and the type of what stands there. Without any, known lists what there
// is.
func (l *loader) step(at path, typ reflect.Type, segment string, tree map[string]any) (next []string, below reflect.Type, known []string) {
	section, _ := lookUp(tree, at).(map[string]any)
	switch {
	case typ == secretType && fold(segment) == "file":
		return []string{"file"}, reflect.TypeFor[string](), nil
	case typ == secretType:
		return nil, nil, []string{"file"}
	case typ == metadataType:
		return chosen(section, segment, "-"), metadataType, nil
	case typ.Kind() == reflect.Map:
		return chosen(section, segment, "_"), typ.Elem(), nil
	case typ.Kind() != reflect.Struct || single(typ):
		return nil, nil, nil
	}
	all := fields(typ)
	if kind, _ := section["kind"].(string); typ == upstreamType && l.options.Kinds[kind] != nil {
		all = append(all, fields(reflect.TypeOf(l.options.Kinds[kind]()).Elem())...)
	}
	for _, f := range all {
		if fold(f.name) == fold(segment) {
			return []string{f.name}, f.typ, nil
		}
		known = append(known, spellings(f)...)
	}
	return nil, nil, known
}

// spellings lists a field and the fields below it as a variable would name them.
func spellings(f field) []string {
	all := []string{f.name}
	if f.typ.Kind() == reflect.Struct && !single(f.typ) && f.typ != secretType {
		for _, below := range fields(f.typ) {
			for _, name := range spellings(below) {
				all = append(all, f.name+"__"+name)
			}
		}
	}
	return all
}

// chosen lists the names in a section that a segment can mean; if there is none,
// the segment is a new name, with hyphen for underscores.
func chosen(section map[string]any, segment, hyphen string) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(section)) {
		if fold(name) == fold(segment) {
			all = append(all, name)
		}
	}
	if len(all) == 0 && segment != "" {
		all = append(all, strings.ReplaceAll(strings.ToLower(segment), "_", hyphen))
	}
	return all
}

// lookUp returns the value at a path of a tree.
func lookUp(tree map[string]any, at path) any {
	var value any = tree
	for _, name := range at {
		section, _ := value.(map[string]any)
		value = section[name]
	}
	return value
}

// single reports whether a type is one value, or a list of such, rather than a
// section.
func single(t reflect.Type) bool {
	switch {
	case t == metadataType: // a leaf: only what stands in it tells
		return true
	case t == secretType:
		return false
	case t == durationType, reflect.PointerTo(t).Implements(textType):
		return true
	case t.Kind() == reflect.Pointer, t.Kind() == reflect.Slice:
		return single(t.Elem())
	default:
		return t.Kind() != reflect.Struct && t.Kind() != reflect.Map
	}
}

// read returns the value of a setting, and notes its origin.
func (l *loader) read(s setting) any {
	origin := Origin{Variable: s.name}
	for n := range s.at[1:] {
		if around := s.at[:n+1].id(); l.origins[around] == (Origin{}) {
			l.origins[around] = origin
		}
	}
	l.origins[s.at.id()] = origin
	value := parse(s.text, s.typ)
	if list, ok := value.([]any); ok {
		for i := range list {
			l.origins[s.at.index(i).id()] = origin
		}
	}
	return value
}

// parse gives a variable's text the form that a type demands. What cannot have it
// stays a text, and decoding says so.
func parse(text string, t reflect.Type) any {
	switch {
	case t == durationType, reflect.PointerTo(t).Implements(textType):
		return text
	case t.Kind() == reflect.Pointer:
		return parse(text, t.Elem())
	case t.Kind() == reflect.Slice:
		list := []any{}
		for element := range strings.SplitSeq(text, ",") {
			if element = strings.TrimSpace(element); element != "" {
				list = append(list, parse(element, t.Elem()))
			}
		}
		return list
	case t.Kind() == reflect.Bool && (text == "true" || text == "false"):
		return text == "true"
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Int64:
		if n, err := strconv.Atoi(text); err == nil {
			return n
		}
	}
	return text
}
