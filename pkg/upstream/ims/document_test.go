package ims

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/upstream"
)

const confidential = "CONFIDENTIAL0123456789"

// afp is a document as AFP sends it.
const afp = `{"Code": "Success", "LastUpdated": "2026-11-01T11:00:00Z", "Type": "AWS-HMAC", "AccessKeyId": "ASIAEXAMPLEEXAMPLE01", ` +
	`"SecretAccessKey": "secretEXAMPLE/with+slash=and", "Token": "tokenEXAMPLE==", "Expiration": "2026-11-01T12:00:00Z"}`

// with returns the document with one piece of text replaced.
func with(t *testing.T, old, fresh string) string {
	t.Helper()
	if !strings.Contains(afp, old) {
		t.Fatalf("%s is not in the document", old)
	}
	return strings.Replace(afp, old, fresh, 1)
}

func TestParseDocumentReadsTheFieldsThatMatter(t *testing.T) {
	d, err := parseDocument([]byte(afp))
	if err != nil {
		t.Fatal(err)
	}
	want := document{
		code: "Success", accessKeyID: "ASIAEXAMPLEEXAMPLE01", secretAccessKey: "secretEXAMPLE/with+slash=and", token: "tokenEXAMPLE==",
		expiration:  time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC),
		lastUpdated: time.Date(2026, 11, 1, 11, 0, 0, 0, time.UTC),
	}
	if *d != want || d.complete() != nil {
		t.Errorf("got %+v (%v), want %+v", *d, d.complete(), want)
	}
}

func TestParseDocumentAccepts(t *testing.T) {
	for name, body := range map[string]string{
		"blanks around":    "\r\n " + afp + " \n",
		"unknown fields":   with(t, `{`, `{"AccountId": 1, "Nested": {"a": [1, {"b": null}]}, `),
		"no Type":          with(t, `"Type": "AWS-HMAC", `, ""),
		"no Code":          with(t, `"Code": "Success", `, ""),
		"Code null":        with(t, `"Code": "Success"`, `"Code": null`),
		"no LastUpdated":   with(t, `"LastUpdated": "2026-11-01T11:00:00Z", `, ""),
		"odd LastUpdated":  with(t, "2026-11-01T11:00:00Z", "yesterday"),
		"escaped text":     with(t, "AccessKeyId", `\u0041ccessKeyId`),
		"other letters":    with(t, `{`, `{"accesskeyid": "other", "TOKEN": 5, "expiration": [], `),
		"unknown repeated": with(t, `{`, `{"x": 1, "x": 2, `),
	} {
		t.Run(name, func(t *testing.T) {
			d, err := parseDocument([]byte(body))
			if err != nil {
				t.Fatal(err)
			}
			if err := d.complete(); err != nil || d.accessKeyID != "ASIAEXAMPLEEXAMPLE01" || d.token != "tokenEXAMPLE==" {
				t.Errorf("got %+v, %v", d, err)
			}
		})
	}
}

func TestParseDocumentRefuses(t *testing.T) {
	for _, test := range []struct{ name, body, want string }{
		{"HTML", "<html>" + confidential, "not a JSON document"},
		{"list", "[" + afp + "]", "not a JSON document"},
		{"string", `"` + confidential + `"`, "not a JSON document"},
		{"null", "null", "not a JSON document"},
		{"cut off", afp[:len(afp)-1], "not a JSON document"},
		{"cut off in a string", afp[:200], "not a JSON document"},
		{"single quotes", strings.ReplaceAll(afp, `"`, `'`), "not a JSON document"},
		{"trailing comma", with(t, `"2026-11-01T12:00:00Z"`, `"2026-11-01T12:00:00Z",`), "not a JSON document"},
		{"text after it", afp + confidential, "something follows"},
		{"another after it", afp + afp, "something follows"},
		{"deep nesting", `{"x":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + "}", "not a JSON document"},
		{"key twice", with(t, `"Token"`, `"Token": "`+confidential+`", "Token"`), "Token is there twice"},
		{"key twice, once null", with(t, `"Token"`, `"Token": null, "Token"`), "Token is there twice"},
		{"key twice, once escaped", with(t, `"Token"`, `"Tok\u0065n": "x", "Token"`), "Token is there twice"},
		{"number", with(t, `"2026-11-01T12:00:00Z"`, "1793534400"), "Expiration is not a string"},
		{"object", with(t, `"tokenEXAMPLE=="`, `{"x": "`+confidential+`"}`), "Token is not a string"},
		{"line end in a value", with(t, "tokenEXAMPLE", `token\nEXAMPLE`), "Token has characters"},
		{"blank in a value", with(t, "ASIAEXAMPLE", "ASIA EXAMPLE"), "AccessKeyId has characters"},
		{"umlaut in a value", with(t, "secretEXAMPLE", "secretÜ"), "SecretAccessKey has characters"},
		{"endless token", with(t, "tokenEXAMPLE", strings.Repeat("x", upstream.MaxToken)), "Token is longer than"},
		{"endless key", with(t, "ASIAEXAMPLE", strings.Repeat("x", upstream.MaxKey)), "AccessKeyId is longer than"},
		{"no zone", with(t, "12:00:00Z", "12:00:00"), "the Expiration is not a time with a zone"},
		{"words", with(t, "2026-11-01T12:00:00Z", confidential), "the Expiration is not a time with a zone"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parseDocument([]byte(test.body))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want ...%s...", err, test.want)
			}
			if strings.Contains(err.Error(), confidential) {
				t.Errorf("%v quotes the document", err)
			}
		})
	}
}

func TestIncompleteDocumentsSayWhatIsMissing(t *testing.T) {
	for _, test := range []struct{ name, body, want string }{
		{"AccessKeyId", with(t, `"AccessKeyId"`, `"accessKeyId"`), "no AccessKeyId"},
		{"SecretAccessKey empty", with(t, "secretEXAMPLE/with+slash=and", ""), "no SecretAccessKey"},
		{"Token null", with(t, `"tokenEXAMPLE=="`, "null"), "no Token"},
		{"Expiration", with(t, "Expiration", "Expires"), "no Expiration"},
		{"another Code", with(t, "Success", confidential), "Code is not Success"},
		{"Code in another case", with(t, "Success", "success"), "Code is not Success"},
		{"nothing at all", "{}", "no AccessKeyId"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, err := parseDocument([]byte(test.body))
			if err != nil {
				t.Fatal(err)
			}
			if err := d.complete(); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), confidential) {
				t.Errorf("got %v, want ...%s", err, test.want)
			}
		})
	}
}

func TestIssuedIsLastUpdatedWhereThatIsPlausible(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 123, time.UTC)
	second := now.Truncate(time.Second)
	for _, test := range []struct {
		name    string
		updated time.Duration // against now; zero for none
		skew    time.Duration
		want    time.Duration
	}{
		{"missing", 0, 0, 0},
		{"ten minutes old", -10 * time.Minute, 0, -10 * time.Minute},
		{"from the future", time.Minute, 0, 0},
		{"from the future of a clock that is ahead", time.Minute, 2 * time.Minute, -time.Minute},
		{"old by a clock that is behind", -10 * time.Minute, -10 * time.Minute, 0},
		{"a day old", -24 * time.Hour, 0, -24 * time.Hour},
		{"older than that", -25 * time.Hour, 0, 0},
		{"after its own end", 2 * time.Hour, 3 * time.Hour, -time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := document{expiration: second.Add(time.Hour)}
			if test.updated != 0 {
				d.lastUpdated = second.Add(test.updated)
			}
			if got, want := d.issued(now, test.skew), second.Add(test.want); !got.Equal(want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func FuzzDocument(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", afp, afp + afp, afp[:100], `{"Token":null,"Token":""}`, `{"Expiration":1}`, `{"Code":"Failed"}`,
		fmt.Sprintf(`{"AccessKeyId":"a","SecretAccessKey":"b","Token":"c","Expiration":%q}`, "9999-12-31T23:59:59.9+1400"),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := parseDocument(body)
		if err != nil {
			if d != nil {
				t.Error("a document beside an error")
			}
			return
		}
		if d.complete() != nil {
			return
		}
		for _, value := range []string{d.accessKeyID, d.secretAccessKey, d.token} {
			if value == "" || strings.ContainsAny(value, " \r\n\x00") {
				t.Errorf("%q passed", value)
			}
		}
		now := time.Now()
		if issued := d.issued(now, 0); issued.After(now) || issued.Before(now.Add(-longestBelief-time.Second)) {
			t.Errorf("issued %v", issued)
		}
	})
}
