package config

import (
	"maps"
	"reflect"
	"slices"

	"github.com/purser-agent/purser/pkg/credential"
)

// Wrong is an error about the value at a path, such as "admin", "group", with its origin.
func (c *Config) Wrong(err error, names ...string) error {
	return Problem{Origin: c.origins.of(names), Text: path(names).String() + ": " + err.Error()}
}

// WrongFile is Wrong for a file that an upstream's section names somewhere, and false if
// it does not.
func (c *Config) WrongFile(err error, upstream, file string) (error, bool) {
	at := find(path{"upstreams", upstream}, reflect.ValueOf(c.Upstreams[upstream].Options), file)
	if at == nil {
		return nil, false
	}
	return c.Wrong(err, at...), true
}

// find returns where a text is the value, nil if it is nowhere. Of a secret it looks at
// the file only.
func find(at path, in reflect.Value, text string) path {
	if !in.IsValid() {
		return nil
	}
	if ref, ok := in.Interface().(credential.SecretRef); ok {
		if ref.File == text {
			return at.with("file")
		}
		return nil
	}
	switch in.Kind() {
	case reflect.Pointer, reflect.Interface:
		return find(at, in.Elem(), text)
	case reflect.Struct:
		for _, f := range fields(in.Type()) {
			if found := find(at.with(f.name), in.FieldByIndex(f.index), text); found != nil {
				return found
			}
		}
	case reflect.Map:
		named := byName(in)
		for _, name := range slices.Sorted(maps.Keys(named)) {
			if found := find(at.with(name), named[name], text); found != nil {
				return found
			}
		}
	case reflect.Slice:
		for i := range in.Len() {
			if found := find(at.index(i), in.Index(i), text); found != nil {
				return found
			}
		}
	case reflect.String:
		if in.String() == text {
			return at
		}
	}
	return nil
}
