package ims

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// A document is what the instance metadata service answers for a role, as far as
// Purser needs it.
type document struct {
	code            string
	accessKeyID     string
	secretAccessKey string
	token           string
	expiration      time.Time
	lastUpdated     time.Time
}

// The longest values that are believed, in bytes. They are sent on in headers and
// environment variables; AWS's are a tenth of that.
const (
	maxKey   = 1 << 10
	maxToken = 32 << 10
)

// parseDocument reads a document strictly: encoding/json by itself takes a field in
// any letter case and the last of several, so that two readers could see different
// keys in one document. No error quotes the body.
func parseDocument(body []byte) (*document, error) {
	fields, err := parseFields(body)
	if err != nil {
		return nil, err
	}
	d := &document{
		code:            fields["Code"],
		accessKeyID:     fields["AccessKeyId"],
		secretAccessKey: fields["SecretAccessKey"],
		token:           fields["Token"],
	}
	err = errors.Join(
		checkValue("AccessKeyId", d.accessKeyID, maxKey),
		checkValue("SecretAccessKey", d.secretAccessKey, maxKey),
		checkValue("Token", d.token, maxToken),
	)
	if err != nil {
		return nil, err
	}
	if text := fields["Expiration"]; text != "" {
		if d.expiration, err = parseTime(text); err != nil {
			return nil, fmt.Errorf("the Expiration %w", err)
		}
	}
	d.lastUpdated, _ = parseTime(fields["LastUpdated"]) // optional: see issued
	return d, nil
}

// parseFields returns the fields that matter. Each may be there once and must be a
// string or null; other fields may be anything.
func parseFields(body []byte) (map[string]string, error) {
	known := []string{"Code", "AccessKeyId", "SecretAccessKey", "Token", "Expiration", "LastUpdated"}
	fields := map[string]string{}
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
		var text string // stays empty for null
		if err := json.Unmarshal(raw, &text); err != nil {
			return nil, fmt.Errorf("%s is not a string", name)
		}
		fields[name] = text
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

// checkValue keeps out what could not be sent on in a header or a line.
func checkValue(name, value string, limit int) error {
	if len(value) > limit {
		return fmt.Errorf("%s is longer than %d bytes", name, limit)
	}
	if strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("%s has characters that do not belong in it", name)
	}
	return nil
}

// complete reports what is missing. Code is not missed: alppaca's mock and some
// services leave it out.
func (d *document) complete() error {
	if d.code != "" && d.code != "Success" {
		return errors.New("the document reports a failure: its Code is not Success")
	}
	for _, field := range []struct {
		name    string
		missing bool
	}{
		{"AccessKeyId", d.accessKeyID == ""},
		{"SecretAccessKey", d.secretAccessKey == ""},
		{"Token", d.token == ""},
		{"Expiration", d.expiration.IsZero()},
	} {
		if field.missing {
			return fmt.Errorf("the document has no %s", field.name)
		}
	}
	return nil
}

// longestBelief is how old a document may say it is.
const longestBelief = 24 * time.Hour

// issued returns when the credential was made: LastUpdated on our clock, where that
// is plausible, else now.
func (d *document) issued(now time.Time, skew time.Duration) time.Time {
	now = now.UTC().Truncate(time.Second)
	issued := d.lastUpdated.Add(-skew)
	if d.lastUpdated.IsZero() || issued.After(now) || now.Sub(issued) > longestBelief || !issued.Before(d.expiration) {
		return now
	}
	return issued
}

// parseTime reads RFC 3339, which has a colon in its offset, and the form of ISO 8601
// without one. The result is in UTC and cut to the second: a credential ends rather a
// little early than late.
func parseTime(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05Z0700"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC().Truncate(time.Second), nil
		}
	}
	return time.Time{}, errors.New("is not a time with a zone, such as 2026-01-31T12:00:00Z")
}
