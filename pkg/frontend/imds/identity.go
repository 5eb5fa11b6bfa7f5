package imds

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/frontend"
)

var identityListing = listing("document")

// identityFields are the keys of the identity document after accountId, in the order
// of the real one.
var identityFields = []struct {
	key      string
	metadata string // the path of the leaf that says it; empty: only configured for the document
	list     bool
}{
	{key: "architecture"},
	{key: "availabilityZone", metadata: "placement/availability-zone"},
	{key: "billingProducts", list: true},
	{key: "devpayProductCodes", list: true},
	{key: "marketplaceProductCodes", metadata: "product-codes", list: true},
	{key: "imageId", metadata: "ami-id"},
	{key: "instanceId", metadata: "instance-id"},
	{key: "instanceType", metadata: "instance-type"},
	{key: "kernelId", metadata: "kernel-id"},
	{key: "pendingTime"},
	{key: "privateIp", metadata: "local-ipv4"},
	{key: "ramdiskId", metadata: "ramdisk-id"},
	{key: "region", metadata: "placement/region"},
}

// identity is the identity document but for the account ID, which may depend on the
// caller.
type identity struct {
	account string // if configured
	rest    []byte // all after the account ID; empty if there is no document
}

func (i identity) exists() bool { return len(i.rest) > 0 }

// newIdentity makes the document from the metadata and from what is configured for
// it alone.
func newIdentity(metadata *directory, dynamic any) (identity, error) {
	own, err := ownIdentityFields(dynamic)
	if err != nil {
		return identity{}, err
	}
	if metadata.text("placement/region") == "" {
		if len(own) > 0 {
			return identity{}, errors.New(": there is no identity document without metadata.placement.region")
		}
		return identity{}, nil
	}
	if own["architecture"] == "" {
		own["architecture"] = architecture()
	}
	d := document{}
	for _, field := range identityFields {
		value := own[field.key]
		if field.metadata != "" {
			value = metadata.text(frontend.Path(field.metadata))
		}
		d = d.key(field.key)
		switch {
		case value == "":
			d = append(d, "null"...)
		case field.list:
			d = appendList(d, strings.Split(value, "\n"))
		default:
			d = frontend.AppendString(d, value)
		}
	}
	rest := d.text("version", "2017-09-30").end()
	rest[0] = ',' // continues after the account ID instead of opening the object
	return identity{account: own["accountId"], rest: rest}, nil
}

// ownIdentityFields reads metadata.dynamic: instance-identity, document and in it
// the fields that no other metadata says.
func ownIdentityFields(dynamic any) (map[string]string, error) {
	fields := map[string]string{}
	if dynamic == nil {
		return fields, nil
	}
	path, level := "", dynamic
	for _, name := range []string{"instance-identity", "document"} {
		children, ok := level.(map[string]any)
		if !ok || len(children) != 1 || children[name] == nil {
			return nil, fmt.Errorf("%s: only %s can be configured here", path, name)
		}
		path, level = path+"."+name, children[name]
	}
	values, ok := level.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s: has to be a map", path)
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if err := checkIdentityField(key); err != nil {
			return nil, fmt.Errorf("%s.%s: %w", path, key, err)
		}
		text, err := leafText(values[key])
		if err == nil {
			err = checkIdentityValue(key, text)
		}
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", path, key, err)
		}
		fields[key] = text
	}
	return fields, nil
}

func checkIdentityField(key string) error {
	if key == "accountId" {
		return nil
	}
	for _, field := range identityFields {
		if field.key == key {
			if field.metadata != "" {
				return fmt.Errorf("is taken from metadata.%s", strings.ReplaceAll(field.metadata, "/", "."))
			}
			return nil
		}
	}
	return errors.New("the identity document has no such field")
}

func checkIdentityValue(key, text string) error {
	switch key {
	case "accountId":
		if text != "" && !credential.IsAccountID(text) {
			return fmt.Errorf("%q is no account ID of twelve digits; put it in quotes", text)
		}
	case "pendingTime":
		if _, err := time.Parse(time.RFC3339, text); text != "" && err != nil {
			return fmt.Errorf("%q is no time like 2006-01-02T15:04:05Z", text)
		}
	}
	return nil
}

func appendList(d document, values []string) document {
	d = append(d, "[ "...)
	for i, value := range values {
		if i > 0 {
			d = append(d, ", "...)
		}
		d = frontend.AppendString(d, value)
	}
	return append(d, " ]"...)
}

// architecture is this machine's in EC2's words, or nothing where EC2 has none.
func architecture() string {
	return map[string]string{"amd64": "x86_64", "arm64": "arm64", "386": "i386"}[runtime.GOARCH]
}

// identityDocument answers with the document. Its account is the configured one or
// that of iam/info.
func (f *Frontend) identityDocument(e *exchange) {
	account := f.identity.account
	if account == "" {
		account = f.attached(e).account
	}
	b := frontend.NewBuffer()
	defer b.Free()
	d := document(b.Text).key("accountId")
	if account == "" {
		d = append(d, "null"...)
	} else {
		d = frontend.AppendString(d, account)
	}
	b.Text = append(d, f.identity.rest...)
	e.text(b.Text, f.modified, frontend.Listed)
}
