package config

import (
	"bytes"
	"encoding"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/purser-agent/purser/pkg/credential"
)

// YAML prints the configuration in the form of its files, defaults included. A
// secret that was given in place is printed as [redacted]; otherwise what is
// printed can be loaded again and means the same. With origins, a comment tells
// where each value was set.
func (c *Config) YAML(origins bool) ([]byte, error) {
	return c.print(printer{origins: c.origins, comments: origins})
}

// Own prints in the same form what was set, without defaults: what to put into a file
// of one's own, but for some keys at the top.
func (c *Config) Own(without ...string) ([]byte, error) {
	return c.print(printer{origins: c.origins, own: true, without: without})
}

func (c *Config) print(p printer) ([]byte, error) {
	root := &yaml.Node{Kind: yaml.MappingNode}
	p.section(nil, root, reflect.ValueOf(c).Elem())
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(root); err != nil {
		return nil, err
	}
	if err := encoder.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// A printer turns values into nodes. It goes by the types, as decoding does.
type printer struct {
	origins  origins
	comments bool
	own      bool     // leave out what nobody set
	without  []string // keys at the top to leave out
}

// section adds the fields of a struct to a node.
func (p *printer) section(at path, to *yaml.Node, from reflect.Value) {
	for _, f := range fields(from.Type()) {
		p.add(at.with(f.name), to, from.FieldByIndex(f.index))
	}
	if upstream, ok := from.Interface().(Upstream); ok {
		p.section(at, to, reflect.ValueOf(upstream.Options).Elem())
	}
}

// add adds one key, unless it is empty and nobody set it.
func (p *printer) add(at path, to *yaml.Node, value reflect.Value) {
	if len(at) == 1 && slices.Contains(p.without, at[0]) {
		return
	}
	_, set := p.origins[at.id()]
	node := p.node(at, value)
	if node == nil || !set && (empty(node) || p.own && node.Kind != yaml.MappingNode) {
		return
	}
	var key yaml.Node
	key.SetString(at[len(at)-1])
	to.Content = append(to.Content, &key, node)
}

func empty(node *yaml.Node) bool {
	if node.Kind == yaml.ScalarNode {
		return node.Value == ""
	}
	return len(node.Content) == 0
}

// node is a value in the form of the files, nil if there is none.
func (p *printer) node(at path, value reflect.Value) *yaml.Node {
	switch v := value.Interface().(type) {
	case credential.SecretRef:
		return p.secret(at, v)
	case time.Duration:
		return p.text(at, short(v))
	case encoding.TextMarshaler:
		text, _ := v.MarshalText() // of an address or a network, which does not fail
		return p.text(at, string(text))
	}
	switch value.Kind() {
	case reflect.Pointer, reflect.Interface:
		if value.IsNil() {
			return nil
		}
		return p.node(at, value.Elem())
	case reflect.Struct:
		node := &yaml.Node{Kind: yaml.MappingNode}
		p.section(at, node, value)
		return node
	case reflect.Map:
		node, named := &yaml.Node{Kind: yaml.MappingNode}, byName(value)
		for _, name := range slices.Sorted(maps.Keys(named)) {
			p.add(at.with(name), node, named[name])
		}
		return node
	case reflect.Slice:
		node := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle, LineComment: p.comment(at)}
		for i := range value.Len() {
			element := p.node(at.index(i), value.Index(i))
			element.LineComment = ""
			node.Content = append(node.Content, element)
		}
		return node
	case reflect.String:
		return p.text(at, withoutPassword(value.String()))
	case reflect.Bool:
		return p.scalar(at, "!!bool", strconv.FormatBool(value.Bool()))
	default:
		return p.scalar(at, "!!int", strconv.FormatInt(value.Int(), 10))
	}
}

func byName(m reflect.Value) map[string]reflect.Value {
	all := make(map[string]reflect.Value, m.Len())
	for name, value := range m.Seq2() {
		all[name.String()] = value
	}
	return all
}

// scalar is a value of a YAML type. A text is quoted if it could be taken for
// another.
func (p *printer) scalar(at path, tag, text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: text, LineComment: p.comment(at)}
}

func (p *printer) text(at path, text string) *yaml.Node {
	node := p.scalar(at, "!!str", text)
	if strings.Contains(text, "\n") {
		node.Style = yaml.DoubleQuotedStyle // so that the comment stays on the line
	}
	return node
}

func (p *printer) comment(at path) string {
	if !p.comments {
		return ""
	}
	return p.origins[at.id()].String()
}

// secret tells the file of a secret, or that there is one.
func (p *printer) secret(at path, ref credential.SecretRef) *yaml.Node {
	switch {
	case ref.File != "":
		var key yaml.Node
		key.SetString("file")
		return &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{&key, p.text(at.with("file"), ref.File)}}
	case ref.IsZero():
		return p.text(at, "")
	default:
		return p.text(at, ref.Value.String())
	}
}

var userinfo = regexp.MustCompile(`://[^/\s]*@`)

// withoutPassword hides the user and password in a URL. Purser has keys for them,
// but an administrator may not know.
func withoutPassword(text string) string {
	return userinfo.ReplaceAllString(text, "://redacted@")
}

// flow prints a section in one line.
func flow(section map[string]any) string {
	var node yaml.Node
	_ = node.Encode(section) // of texts, lists and sections, which does not fail
	node.Style = yaml.FlowStyle
	text, _ := yaml.Marshal(&node)
	return strings.TrimSpace(string(text))
}
