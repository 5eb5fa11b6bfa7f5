package awsapi

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// keys are what STS answers for an assumed role.
type keys struct {
	accessKeyID, secretAccessKey, sessionToken string
	expiration                                 time.Time
}

// The longest values that are believed, in bytes; AWS's are a tenth of that.
const (
	maxKey   = 1 << 10
	maxToken = 32 << 10
)

// A result is what an answer holds beside its ResponseMetadata.
type result struct {
	XMLName     xml.Name
	Credentials []struct {
		AccessKeyID     []string `xml:"AccessKeyId"`
		SecretAccessKey []string `xml:"SecretAccessKey"`
		SessionToken    []string `xml:"SessionToken"`
		Expiration      []string `xml:"Expiration"`
	} `xml:"Credentials"`
}

// parseAnswer reads the answer to a call strictly: each field is there once. No error
// quotes the answer.
func parseAnswer(body []byte, action string) (*keys, error) {
	var answer struct {
		XMLName xml.Name
		Results []result `xml:",any"` // ResponseMetadata is one too
	}
	if err := decode(body, &answer); err != nil {
		return nil, err
	}
	if answer.XMLName.Local != action+"Response" {
		return nil, errNotXML
	}
	results := slices.DeleteFunc(answer.Results, func(r result) bool { return r.XMLName.Local != action+"Result" })
	if len(results) != 1 || len(results[0].Credentials) != 1 {
		return nil, errors.New("the answer has no Credentials, or several")
	}
	found, k := results[0].Credentials[0], &keys{}
	var ends string
	err := errors.Join(
		one("AccessKeyId", found.AccessKeyID, maxKey, &k.accessKeyID),
		one("SecretAccessKey", found.SecretAccessKey, maxKey, &k.secretAccessKey),
		one("SessionToken", found.SessionToken, maxToken, &k.sessionToken),
		one("Expiration", found.Expiration, maxKey, &ends),
	)
	if err != nil {
		return nil, err
	}
	k.expiration, err = time.Parse(time.RFC3339, ends)
	if err != nil {
		return nil, errors.New("the Expiration is not a time with a zone, such as 2026-01-31T12:00:00Z")
	}
	k.expiration = k.expiration.UTC().Truncate(time.Second)
	return k, nil
}

var errNotXML = errors.New("the answer is not an XML document of STS, or not all of one")

// decode reads one XML document and nothing after it.
func decode(body []byte, into any) error {
	decoder := xml.NewDecoder(bytes.NewReader(body))
	if decoder.Decode(into) != nil {
		return errNotXML
	}
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if text, blank := token.(xml.CharData); err != nil || !blank || strings.TrimSpace(string(text)) != "" {
			return errNotXML
		}
	}
}

// one takes a field that must be there once, with nothing that could not be sent on
// in a header or a line.
func one(name string, values []string, limit int, into *string) error {
	if len(values) != 1 || values[0] == "" {
		return fmt.Errorf("the answer has no %s, or several", name)
	}
	switch value := values[0]; {
	case len(value) > limit:
		return fmt.Errorf("the %s is longer than %d bytes", name, limit)
	case strings.ContainsFunc(value, func(c rune) bool { return c <= ' ' || c > '~' }):
		return fmt.Errorf("the %s has characters that do not belong in it", name)
	default:
		*into = value
	}
	return nil
}

// parseCode returns the code of an ErrorResponse, or nothing for what is none.
func parseCode(body []byte) string {
	var answer struct {
		XMLName xml.Name `xml:"ErrorResponse"`
		Codes   []string `xml:"Error>Code"`
	}
	if decode(body, &answer) != nil || len(answer.Codes) != 1 {
		return ""
	}
	return answer.Codes[0]
}
