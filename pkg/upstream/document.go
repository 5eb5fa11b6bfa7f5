package upstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Fields are the fields of a JSON document that were looked for.
type Fields map[string]json.RawMessage

// ParseFields reads a JSON document strictly: encoding/json by itself takes a field in
// any letter case and the last of several, so that two readers could see different
// things in one document. Each of the known fields may be there once; others may be
// anything. No error quotes the document.
func ParseFields(body []byte, known ...string) (Fields, error) {
	fields := Fields{}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return nil, errNotObject
	}
	for decoder.More() {
		key, err := decoder.Token()
		name, ok := key.(string)
		if err != nil || !ok {
			return nil, errNotObject
		}
		var raw json.RawMessage
		if err := decoder.Decode(&raw); err != nil {
			return nil, errNotObject
		}
		if !slices.Contains(known, name) {
			continue
		}
		if _, twice := fields[name]; twice {
			return nil, fmt.Errorf("%s is there twice", name)
		}
		fields[name] = raw
	}
	if _, err := decoder.Token(); err != nil {
		return nil, errNotObject
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON document")
	}
	return fields, nil
}

var errNotObject = errors.New("the answer is not a JSON document with credentials, or not all of one")

// Text returns a field that must be a string or null. It is empty for null, and where
// the field is missing.
func (f Fields) Text(name string) (text string, err error) {
	raw, ok := f[name]
	if !ok {
		return "", nil
	}
	if err := json.Unmarshal(raw, &text); err != nil {
		return "", fmt.Errorf("%s is not a string", name)
	}
	return text, nil
}

// ParseTime reads RFC 3339, which has a colon in its offset, and the form of ISO 8601
// without one. The result is in UTC and cut to the second: a credential ends rather a
// little early than late.
func ParseTime(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05Z0700"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC().Truncate(time.Second), nil
		}
	}
	return time.Time{}, errors.New("is not a time with a zone, such as 2026-01-31T12:00:00Z")
}
