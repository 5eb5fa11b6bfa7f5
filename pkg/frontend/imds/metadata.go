package imds

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/frontend"
)

// A directory is one level of the static metadata, rendered once.
type directory struct {
	listing     []byte
	directories map[string]*directory
	leaves      map[string][]byte
}

// listing has one name per line and no line end after the last, sorted, with
// directories ending in a slash.
func listing(names ...string) []byte {
	slices.SortFunc(names, func(a, b string) int {
		return strings.Compare(strings.TrimSuffix(a, "/"), strings.TrimSuffix(b, "/"))
	})
	return lines(names)
}

func lines(names []string) []byte { return []byte(strings.Join(names, "\n")) }

// newDirectory checks and renders a configured tree. What is empty is left out, so
// that whatever is listed has an answer. The prefix is the tree's key for messages.
func newDirectory(prefix string, tree map[string]any) (*directory, error) {
	d := &directory{directories: map[string]*directory{}, leaves: map[string][]byte{}}
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		key := prefix + name
		if err := credential.CheckName(name); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		if subtree, ok := tree[name].(map[string]any); ok {
			child, err := newDirectory(key+".", subtree)
			if err != nil {
				return nil, err
			}
			if len(child.listing) > 0 {
				d.directories[name] = child
			}
			continue
		}
		text, err := leafText(tree[name])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		if text != "" {
			d.leaves[name] = []byte(text)
		}
	}
	d.listing = listing(d.names()...)
	return d, nil
}

// names are those of a listing, unsorted.
func (d *directory) names() []string {
	names := slices.Collect(maps.Keys(d.leaves))
	for name := range d.directories {
		names = append(names, name+"/")
	}
	return names
}

// leafText returns the text of a leaf, a list being one line per element. Fractions
// and dates are refused because they are hardly ever meant: YAML takes an account ID
// with a leading zero for the one and an unquoted date for the other.
func leafText(value any) (string, error) {
	switch v := value.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case bool, int, int64, uint64:
		return fmt.Sprint(v), nil
	case []any:
		var texts []string
		for _, element := range v {
			text, err := leafText(element)
			if err != nil {
				return "", err
			}
			texts = append(texts, text)
		}
		return strings.Join(texts, "\n"), nil
	case []string:
		return strings.Join(v, "\n"), nil
	default:
		return "", fmt.Errorf("a value of type %T cannot be served; if it is meant as text, put it in quotes", value)
	}
}

// lookUp returns what a GET of the path answers.
func (d *directory) lookUp(path frontend.Path) ([]byte, bool) {
	for {
		name := path.Next()
		if name == "" {
			return d.listing, true
		}
		if text, found := d.leaves[name]; found && path.End() {
			return text, true
		}
		child, found := d.directories[name]
		if !found {
			return nil, false
		}
		d = child
	}
}

// text returns a configured leaf, or nothing.
func (d *directory) text(path frontend.Path) string {
	for {
		name := path.Next()
		if path.End() {
			return string(d.leaves[name])
		}
		child, found := d.directories[name]
		if !found {
			return ""
		}
		d = child
	}
}

// setMetadata keeps the configured tree and makes the identity document of it.
func (f *Frontend) setMetadata(tree map[string]any) error {
	const prefix = "metadata."
	if _, found := tree["iam"]; found {
		return fmt.Errorf("%siam: roles come from the credentials and the instance profile from its own key", prefix)
	}
	tree = maps.Clone(tree)
	dynamic := tree["dynamic"]
	delete(tree, "dynamic")
	var err error
	if f.metadata, err = newDirectory(prefix, tree); err != nil {
		return err
	}
	f.withRole = listing(append(f.metadata.names(), "iam/")...)
	f.identity, err = newIdentity(f.metadata, dynamic)
	if err != nil {
		return fmt.Errorf("%sdynamic%w", prefix, err)
	}
	return nil
}
