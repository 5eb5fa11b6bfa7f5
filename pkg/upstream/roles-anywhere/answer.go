package rolesanywhere

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/purser-agent/purser/pkg/awsapi"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

var errNotSession = errors.New("the answer is not a JSON document with credentials, or not all of one")

// parseAnswer reads the answer to a CreateSession call. No error quotes it.
func parseAnswer(body []byte) (*credential.AWS, error) {
	document, err := upstream.ParseFields(body, "credentialSet")
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
	first, err := upstream.ParseFields(set[0], "credentials")
	if err != nil {
		return nil, err
	}
	names := []string{"accessKeyId", "secretAccessKey", "sessionToken", "expiration"}
	found, err := upstream.ParseFields(first["credentials"], names...)
	if err != nil {
		return nil, err
	}
	var parts [4]upstream.Part
	for i, name := range names {
		parts[i].Name = name
		if parts[i].Value, err = found.Text(name); err != nil {
			return nil, err
		}
	}
	return awsapi.ParseKeys(parts[0], parts[1], parts[2], parts[3])
}

// parseError returns the code of an error and what the service says about it, as far as
// there is any. The text is for comparison only: it comes from outside.
func parseError(header string, body []byte) (code, message string) {
	document, _ := upstream.ParseFields(body, "code", "__type", "message", "Message") // nothing, if it is no document
	text := func(names ...string) string {
		for _, name := range names {
			if found, err := document.Text(name); err == nil && found != "" {
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
