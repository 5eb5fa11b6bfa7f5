package rolesanywhere

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// keys are what the service answers for a role.
type keys struct {
	accessKeyID, secretAccessKey, sessionToken string
	expiration                                 time.Time
}

// The longest values that are believed, in bytes; AWS's are a tenth of that.
const (
	maxKey   = 1 << 10
	maxToken = 32 << 10
)

var errNotSession = errors.New("the answer is not a JSON document with credentials, or not all of one")

// parseAnswer reads a CreateSession answer strictly: encoding/json by itself takes a
// field in any letter case and the last of several, so that two readers could see
// different keys in one document. No error quotes the answer.
func parseAnswer(body []byte) (*keys, error) {
	document, err := object(body)
	if err != nil {
		return nil, err
	}
	var set []json.RawMessage
	if json.Unmarshal(document["credentialSet"], &set) != nil {
		return nil, errNotSession
	}
	if len(set) != 1 {
		return nil, fmt.Errorf("the answer has %d sets of credentials, not one", len(set))
	}
	first, err := object(set[0])
	if err != nil {
		return nil, err
	}
	found, err := object(first["credentials"])
	if err != nil {
		return nil, err
	}
	k := &keys{}
	var ends string
	err = errors.Join(
		take(found, "accessKeyId", maxKey, &k.accessKeyID),
		take(found, "secretAccessKey", maxKey, &k.secretAccessKey),
		take(found, "sessionToken", maxToken, &k.sessionToken),
		take(found, "expiration", maxKey, &ends),
	)
	if err != nil {
		return nil, err
	}
	k.expiration, err = time.Parse(time.RFC3339, ends)
	if err != nil {
		return nil, errors.New("the expiration is not a time with a zone, such as 2026-01-31T12:00:00Z")
	}
	k.expiration = k.expiration.UTC().Truncate(time.Second)
	return k, nil
}

// object returns the fields of a JSON object with nothing after it. Each is there once.
func object(body []byte) (map[string]json.RawMessage, error) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return nil, errNotSession
	}
	fields := map[string]json.RawMessage{}
	for decoder.More() {
		key, err := decoder.Token()
		name, ok := key.(string)
		if err != nil || !ok {
			return nil, errNotSession
		}
		var raw json.RawMessage
		if _, twice := fields[name]; twice || decoder.Decode(&raw) != nil {
			return nil, errNotSession
		}
		fields[name] = raw
	}
	if _, err := decoder.Token(); err != nil {
		return nil, errNotSession
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errNotSession
	}
	return fields, nil
}

// take reads a text that must be there, with nothing that could not be sent on in a
// header or a line.
func take(fields map[string]json.RawMessage, name string, limit int, into *string) error {
	var value string
	if json.Unmarshal(fields[name], &value) != nil || value == "" {
		return fmt.Errorf("the answer has no %s", name)
	}
	switch {
	case len(value) > limit:
		return fmt.Errorf("the %s is longer than %d bytes", name, limit)
	case strings.ContainsFunc(value, func(c rune) bool { return c <= ' ' || c > '~' }):
		return fmt.Errorf("the %s has characters that do not belong in it", name)
	}
	*into = value
	return nil
}

// parseError returns the code of an error and what the service says about it, as far as
// there is any. The text is for comparison only: it comes from outside.
func parseError(header string, body []byte) (code, message string) {
	document, err := object(body)
	if err != nil {
		document = nil
	}
	text := func(names ...string) (found string) {
		for _, name := range names {
			if json.Unmarshal(document[name], &found) == nil && found != "" {
				return found
			}
		}
		return ""
	}
	code = header
	if code == "" {
		code = text("code", "__type")
	}
	code, _, _ = strings.Cut(code, ":")
	if at := strings.LastIndex(code, "#"); at >= 0 {
		code = code[at+1:]
	}
	return code, text("message", "Message")
}
