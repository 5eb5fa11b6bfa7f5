package rolesanywhere

import (
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/upstream"
)

// answer is one as the service sends it. U12.
const answer = `{"credentialSet":[{"assumedRoleUser":{"arn":"arn:aws:sts::123456789012:assumed-role/demoRole/0a","assumedRoleId":"AROAEXAMPLE:0a"},
 "credentials":{"accessKeyId":"ASIAEXAMPLE","secretAccessKey":"secret/EXAMPLE+=","sessionToken":"token//EXAMPLE==","expiration":"2022-07-27T04:36:55Z"},
 "packedPolicySize":10,"roleArn":"arn:aws:iam::123456789012:role/demoRole","sourceIdentity":"web01"}],"subjectArn":"arn:aws:rolesanywhere:eu-central-1:123456789012:subject/x"}`

func TestParseAnswerReadsTheKeys(t *testing.T) {
	ends := time.Date(2022, 7, 27, 4, 36, 55, 0, time.UTC)
	for name, body := range map[string]string{
		"as it is":       answer,
		"line ends":      "\n" + answer + "\n",
		"unknown fields": strings.Replace(answer, `{"credentialSet"`, `{"new":{"accessKeyId":"x"},"credentialSet"`, 1),
		"an offset":      strings.Replace(answer, "04:36:55Z", "06:36:55.9+02:00", 1),
	} {
		if got, err := parseAnswer([]byte(body)); err != nil || got.AccessKeyID != "ASIAEXAMPLE" || got.SecretAccessKey.Reveal() != "secret/EXAMPLE+=" ||
			got.SessionToken.Reveal() != "token//EXAMPLE==" || !got.Expires.Equal(ends) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

func TestParseAnswerRefusesWithoutQuoting(t *testing.T) {
	with := func(old, fresh string) string {
		if !strings.Contains(answer, old) {
			t.Fatalf("%s is not in the answer", old)
		}
		return strings.Replace(answer, old, fresh, 1)
	}
	for name, c := range map[string]struct{ body, want string }{
		"a login page":       {"<html>" + secretText + "</html>", "not a JSON document"},
		"a list":             {"[" + answer + "]", "not a JSON document"},
		"cut off":            {answer[:len(answer)-30], "not a JSON document"},
		"text after it":      {answer + secretText, "something follows the JSON document"},
		"another after it":   {answer + answer, "something follows the JSON document"},
		"no set":             {`{"subjectArn":"` + secretText + `"}`, "not a JSON document"},
		"a field twice":      {with(`"credentials":`, `"credentials":{},"credentials":`), "credentials is there twice"},
		"a key twice":        {with(`"accessKeyId":`, `"accessKeyId":"x","accessKeyId":`), "accessKeyId is there twice"},
		"deep nesting":       {strings.Repeat("[", 100_000), "not a JSON document"},
		"an empty set":       {`{"credentialSet":[]}`, "the answer has 0 sets of credentials, not one"},
		"two sets":           {`{"credentialSet":[{},{}]}`, "the answer has 2 sets of credentials, not one"},
		"no secret":          {with(`"secretAccessKey"`, `"secretaccesskey"`), "the answer has no secretAccessKey"},
		"an empty token":     {with("token//EXAMPLE==", ""), "the answer has no sessionToken"},
		"a number as key":    {with(`"ASIAEXAMPLE"`, "5"), "accessKeyId is not a string"},
		"a line end":         {with("token//EXAMPLE", secretText+`\n`), "the sessionToken has characters that do not belong in it"},
		"an endless token":   {with("token//EXAMPLE", strings.Repeat("x", upstream.MaxToken)), "the sessionToken is longer than 32768 bytes"},
		"no zone":            {with("04:36:55Z", "04:36:55"), "the expiration is not a time with a zone"},
		"a word as its end":  {with("2022-07-27T04:36:55Z", secretText), "the expiration is not a time with a zone"},
		"a number as an end": {with(`"2022-07-27T04:36:55Z"`, "1658896615"), "expiration is not a string"},
	} {
		got, err := parseAnswer([]byte(c.body))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), secretText) {
			t.Errorf("%s: got %v, %v, want ...%s", name, got, err, c.want)
		}
	}
}

func TestParseErrorTakesTheHeaderFirst(t *testing.T) {
	for _, c := range []struct{ header, body, code, message string }{
		{"AccessDeniedException:", `{"message":"x"}`, "AccessDeniedException", "x"},
		{"AccessDeniedException", `{"Message":"x"}`, "AccessDeniedException", "x"},
		{"ValidationException:http://internal.amazon.com/", `{"__type":"y","message":"x"}`, "ValidationException", "x"},
		{"", `{"__type":"com.amazonaws#ValidationException","message":"x"}`, "ValidationException", "x"},
		{"", `{"code":"ThrottlingException"}`, "ThrottlingException", ""},
		{"", "<html>", "", ""},
		{"", `{"code":5}`, "", ""},
	} {
		if code, message := parseError(c.header, []byte(c.body)); code != c.code || message != c.message {
			t.Errorf("%q, %s: got %q, %q", c.header, c.body, code, message)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{answer, "", "{}", `{"credentialSet":[{"credentials":{}}]}`, `{"code":"AccessDeniedException","message":"x"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		_, _ = parseError("", body)
		k, err := parseAnswer(body)
		if err != nil {
			return
		}
		for _, value := range []string{k.AccessKeyID, k.SecretAccessKey.Reveal(), k.SessionToken.Reveal()} {
			if value == "" || strings.ContainsAny(value, " \r\n\x00") {
				t.Errorf("%q passed", value)
			}
		}
		if k.Expires.Location() != time.UTC || k.Expires.Nanosecond() != 0 {
			t.Errorf("the end is %v", k.Expires)
		}
	})
}
