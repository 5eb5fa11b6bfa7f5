package awsapi

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
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
func parseAnswer(body []byte, action string) (*credential.AWS, error) {
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
	found := results[0].Credentials[0]
	var parts [4]upstream.Part
	for i, field := range []struct {
		name   string
		values []string
	}{
		{"AccessKeyId", found.AccessKeyID}, {"SecretAccessKey", found.SecretAccessKey},
		{"SessionToken", found.SessionToken}, {"Expiration", found.Expiration},
	} {
		if len(field.values) != 1 {
			return nil, fmt.Errorf("the answer has no %s, or several", field.name)
		}
		parts[i] = upstream.Part{Name: field.name, Value: field.values[0]}
	}
	return ParseKeys(parts[0], parts[1], parts[2], parts[3])
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
