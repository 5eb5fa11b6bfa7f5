package ims

import (
	"errors"
	"fmt"
	"time"

	"github.com/purser-agent/purser/pkg/upstream"
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

// parseDocument reads a document. No error quotes the body.
func parseDocument(body []byte) (*document, error) {
	fields, err := upstream.ParseFields(body, "Code", "AccessKeyId", "SecretAccessKey", "Token", "Expiration", "LastUpdated")
	if err != nil {
		return nil, err
	}
	d := &document{}
	var expiration, lastUpdated string
	for _, field := range []struct {
		name string
		into *string
	}{
		{"Code", &d.code}, {"AccessKeyId", &d.accessKeyID}, {"SecretAccessKey", &d.secretAccessKey},
		{"Token", &d.token}, {"Expiration", &expiration}, {"LastUpdated", &lastUpdated},
	} {
		if *field.into, err = fields.Text(field.name); err != nil {
			return nil, err
		}
	}
	err = errors.Join(
		upstream.CheckValue(upstream.Part{Name: "AccessKeyId", Value: d.accessKeyID}, upstream.MaxKey),
		upstream.CheckValue(upstream.Part{Name: "SecretAccessKey", Value: d.secretAccessKey}, upstream.MaxKey),
		upstream.CheckValue(upstream.Part{Name: "Token", Value: d.token}, upstream.MaxToken),
	)
	if err != nil {
		return nil, err
	}
	if expiration != "" {
		if d.expiration, err = upstream.ParseTime(expiration); err != nil {
			return nil, fmt.Errorf("the Expiration %w", err)
		}
	}
	d.lastUpdated, _ = upstream.ParseTime(lastUpdated) // optional: see issued
	return d, nil
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
