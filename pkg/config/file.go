package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

const (
	maxFile  = 2 << 20 // bytes; 10,000 declared roles take less than one million
	maxFiles = 1000    // in a folder
	maxDepth = 32      // sections in sections
)

// A file is one YAML file as a layer for koanf. Reading it notes the line of every
// value, and everything that is wrong.
type file struct {
	*loader
	name string
}

// errUnreadable says that a file is no layer at all; the problems tell why.
var errUnreadable = errors.New("the file cannot be read")

// Read implements koanf.Provider. Its only error is errUnreadable.
func (f *file) Read() (map[string]any, error) {
	text, err := f.ReadBytes()
	if err != nil {
		f.note(nil, 0, "%s", cause(err))
		return nil, errUnreadable
	}
	document, ok := f.parse(text)
	if !ok {
		return nil, errUnreadable
	}
	if document == nil {
		return map[string]any{}, nil
	}
	if document.Kind != yaml.MappingNode {
		f.note(nil, document.Line, "the file holds no section with keys")
		return nil, errUnreadable
	}
	return f.keys(nil, document, 0), nil
}

// ReadBytes implements koanf.Provider. It does not wait for a pipe that nobody
// writes to.
func (f *file) ReadBytes() ([]byte, error) {
	in, err := os.OpenFile(f.name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("this is no regular file")
	}
	text, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("the file is longer than %d bytes", maxFile)
	}
	return text, nil
}

// cause is an error of the file system without the operation and the path, which
// the origin tells.
func cause(err error) error {
	if wrapped, ok := errors.AsType[*fs.PathError](err); ok {
		return wrapped.Err
	}
	return err
}

// note notes a problem at a line.
func (f *file) note(at path, line int, format string, args ...any) {
	f.problem(Origin{File: f.name, Line: line}, at, format, args...)
}

// parse returns the root of the only document in text, nil if that is empty.
func (f *file) parse(text []byte) (root *yaml.Node, ok bool) {
	if line, ok := badText(text); !ok {
		f.note(nil, line, "the text is not UTF-8, or holds a control character")
		return nil, false
	}
	in := yaml.NewDecoder(bytes.NewReader(text))
	var document, second yaml.Node
	err := in.Decode(&document)
	if errors.Is(err, io.EOF) {
		return nil, true
	}
	if err == nil {
		err = in.Decode(&second)
	}
	switch {
	case err == nil:
		f.note(nil, second.Line, "a second document starts here; put it into a file of its own")
		return nil, false
	case !errors.Is(err, io.EOF):
		line, why := syntax(err, text)
		f.note(nil, line, "%s", why)
		return nil, false
	case len(document.Content) == 0 || document.Content[0].ShortTag() == "!!null":
		return nil, true
	}
	return document.Content[0], true
}

// badText finds the line of the first byte that does not belong into a text.
func badText(text []byte) (line int, ok bool) {
	line = 1
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		switch {
		case r == utf8.RuneError && size == 1,
			r < ' ' && r != '\n' && r != '\r' && r != '\t',
			r == 0x7f:
			return line, false
		case r == '\n':
			line++
		}
		i += size
	}
	return 0, true
}

// value turns a node into the Go value that its form says: a map, a list, or a
// scalar.
func (f *file) value(at path, node *yaml.Node, depth int) any {
	if depth > maxDepth {
		f.note(at, node.Line, "the sections are nested more than %d deep", maxDepth)
		return nil
	}
	if node.Anchor != "" || node.Kind == yaml.AliasNode {
		f.note(at, node.Line, "%s: %s", at, noAnchors)
		return nil
	}
	switch node.Kind {
	case yaml.MappingNode:
		return f.keys(at, node, depth)
	case yaml.SequenceNode:
		list := make([]any, len(node.Content))
		for i, element := range node.Content {
			f.origins[at.index(i).id()] = Origin{File: f.name, Line: element.Line}
			list[i] = f.value(at.index(i), element, depth+1)
		}
		return list
	default:
		return f.leaf(at, node)
	}
}

// keys turns a mapping into a section.
func (f *file) keys(at path, node *yaml.Node, depth int) map[string]any {
	section := make(map[string]any, len(node.Content)/2)
	lines := make(map[string]int, len(node.Content)/2)
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, element := node.Content[i], node.Content[i+1]
		if why := badKey(key); why != "" {
			f.note(at, key.Line, "a key%s %s", in(at), why)
			continue
		}
		name := key.Value
		if first, twice := lines[name]; twice {
			f.note(at.with(name), key.Line, "duplicate key %s%s; it is on line %d already", quote(name), in(at), first)
			continue
		}
		lines[name] = key.Line
		f.origins[at.with(name).id()] = Origin{File: f.name, Line: key.Line}
		section[name] = f.value(at.with(name), element, depth+1)
		if section[name] != nil {
			f.given[at.with(name).id()] = true
		}
	}
	return section
}

// badKey says why a key cannot be a name.
func badKey(key *yaml.Node) string {
	switch {
	case key.Kind == yaml.AliasNode || key.Anchor != "":
		return "is an anchor or an alias, which are not supported"
	case key.Kind != yaml.ScalarNode:
		return "is a list or a section instead of a name"
	case key.ShortTag() == "!!merge":
		return "is <<: merge keys are not supported"
	case key.ShortTag() == "!!null" || key.Value == "":
		return "is empty"
	}
	if !clean(key.Value) {
		return "holds a control character"
	}
	return ""
}

// clean reports whether a name can be part of a message.
func clean(name string) bool {
	_, ok := badText([]byte(name))
	return ok && !strings.ContainsAny(name, "\n\r\t")
}

// leaf turns a scalar into a text, a number or a bool.
func (f *file) leaf(at path, node *yaml.Node) any {
	switch node.ShortTag() {
	case "!!null":
		return nil
	case "!!str", "!!timestamp":
		return node.Value
	case "!!bool":
		return strings.EqualFold(node.Value, "true")
	case "!!int":
		// A leading zero would be lost, and some would read the rest as octal.
		if n, err := strconv.Atoi(node.Value); err == nil && strconv.Itoa(n) == node.Value {
			return n
		}
		f.note(at, node.Line, "the number at %s is not in plain decimal form, or too large; quote it if it is a text", at)
	case "!!float":
		return number(node.Value)
	default:
		f.note(at, node.Line, "the tag at %s is not supported; quote a text that starts with !", at)
	}
	return nil
}

// A number is a number with a fraction as it was written.
type number string

// in names a section in a message, but not the root.
func in(at path) string {
	if len(at) == 0 {
		return ""
	}
	return " in " + at.String()
}

// folder lists the configuration files of a folder in alphabetical order. Hidden
// ones are left out, as a shell does: editors keep their locks and copies there.
func folder(name string) ([]string, error) {
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		extension := filepath.Ext(entry.Name())
		if (extension == ".yaml" || extension == ".yml") && !strings.HasPrefix(entry.Name(), ".") {
			names = append(names, filepath.Join(name, entry.Name()))
		}
	}
	if len(names) > maxFiles {
		return nil, fmt.Errorf("there are %d files, at most %d are read", len(names), maxFiles)
	}
	return names, nil
}
