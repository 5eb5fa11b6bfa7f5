package awsapi

import (
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/upstream"
)

const assumeRole = "AssumeRole"

const confidential = "CONFIDENTIAL0123456789"

// assumed is an answer as STS sends it.
const assumed = `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleResult>
    <AssumedRoleUser><AssumedRoleId>AROAEXAMPLE:web01</AssumedRoleId><Arn>arn:aws:sts::123456789012:assumed-role/demoRole/web01</Arn></AssumedRoleUser>
    <Credentials>
      <AccessKeyId>ASIAEXAMPLE</AccessKeyId><SecretAccessKey>secret/EXAMPLE+=</SecretAccessKey>
      <SessionToken>token//EXAMPLE==</SessionToken><Expiration>2026-11-23T06:00:01Z</Expiration>
    </Credentials>
    <PackedPolicySize>6</PackedPolicySize>
  </AssumeRoleResult>
  <ResponseMetadata><RequestId>00000000-0000-0000-0000-000000000000</RequestId></ResponseMetadata>
</AssumeRoleResponse>
`

func TestParseAnswerReadsTheKeys(t *testing.T) {
	ends := time.Date(2026, 11, 23, 6, 0, 1, 0, time.UTC)
	for name, body := range map[string]string{
		"as it is":       assumed,
		"declared":       `<?xml version="1.0" encoding="UTF-8"?>` + "\n" + assumed,
		"no namespace":   strings.Replace(assumed, ` xmlns="https://sts.amazonaws.com/doc/2011-06-15/"`, "", 1),
		"unknown fields": strings.Replace(assumed, "<AssumeRoleResult>", "<AssumeRoleResult><New><AccessKeyId>x</AccessKeyId></New>", 1),
	} {
		if got, err := parseAnswer([]byte(body), assumeRole); err != nil || got.AccessKeyID != "ASIAEXAMPLE" || got.SecretAccessKey.Reveal() != "secret/EXAMPLE+=" ||
			got.SessionToken.Reveal() != "token//EXAMPLE==" || !got.Expires.Equal(ends) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

func TestParseAnswerTakesTheResultOfItsCallOnly(t *testing.T) {
	const other = "AssumeRoleWithWebIdentity"
	renamed := strings.NewReplacer("AssumeRoleResponse", other+"Response", "AssumeRoleResult", other+"Result").Replace(assumed)
	if k, err := parseAnswer([]byte(renamed), other); err != nil || k.AccessKeyID != "ASIAEXAMPLE" {
		t.Errorf("got %+v, %v", k, err)
	}
	for name, body := range map[string]string{
		"another call's":        assumed,
		"another call's result": strings.ReplaceAll(renamed, other+"Result", "AssumeRoleResult"),
		"two results":           strings.Replace(renamed, "<ResponseMetadata>", "<"+other+"Result></"+other+"Result><ResponseMetadata>", 1),
	} {
		if k, err := parseAnswer([]byte(body), other); err == nil {
			t.Errorf("%s: got %+v", name, k)
		}
	}
}

func TestParseAnswerRefusesWithoutQuoting(t *testing.T) {
	with := func(old, fresh string) string {
		if !strings.Contains(assumed, old) {
			t.Fatalf("%s is not in the answer", old)
		}
		return strings.Replace(assumed, old, fresh, 1)
	}
	for name, c := range map[string]struct{ body, want string }{
		"JSON":              {`{"x": "` + confidential + `"}`, "not an XML document"},
		"a login page":      {"<!DOCTYPE html><html>" + confidential + "</html>", "not an XML document"},
		"another operation": {strings.ReplaceAll(assumed, "AssumeRoleResponse", "GetSessionTokenResponse"), "not an XML document"},
		"cut off":           {assumed[:len(assumed)-30], "not an XML document"},
		"text after it":     {assumed + confidential, "not an XML document"},
		"another after it":  {assumed + assumed, "not an XML document"},
		"an entity":         {`<!DOCTYPE x [<!ENTITY a "` + confidential + `">]>` + with("ASIAEXAMPLE", "&a;"), "not an XML document"},
		"deep nesting":      {strings.Repeat("<a>", 100_000), "not an XML document"},
		"no credentials":    {strings.ReplaceAll(assumed, "Credentials>", "Other>"), "no Credentials, or several"},
		"two credentials":   {with("</AssumeRoleResult>", "<Credentials/></AssumeRoleResult>"), "no Credentials, or several"},
		"no secret":         {with("<SecretAccessKey>secret/EXAMPLE+=</SecretAccessKey>", ""), "no SecretAccessKey, or several"},
		"two tokens":        {with("<SessionToken>", "<SessionToken>"+confidential+"</SessionToken><SessionToken>"), "no SessionToken, or several"},
		"a line end":        {with("token//EXAMPLE", confidential+"\n"), "SessionToken has characters that do not belong in it"},
		"an umlaut":         {with("ASIAEXAMPLE", "ÄSIA"), "AccessKeyId has characters"},
		"an endless token":  {with("token//EXAMPLE", strings.Repeat("x", upstream.MaxToken)), "SessionToken is longer than"},
		"no zone":           {with("06:00:01Z", "06:00:01"), "the Expiration is not a time with a zone"},
		"a word as end":     {with("2026-11-23T06:00:01Z", confidential), "the Expiration is not a time with a zone"},
	} {
		got, err := parseAnswer([]byte(c.body), assumeRole)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), confidential) {
			t.Errorf("%s: got %v, %v, want ...%s", name, got, err, c.want)
		}
	}
}

func TestParseCode(t *testing.T) {
	for body, want := range map[string]string{
		`<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>x</Message></Error></ErrorResponse>`: "AccessDenied",
		`<ErrorResponse><Error><Code>A</Code><Code>B</Code></Error></ErrorResponse>`:                                                                                       "",
		`<Error><Code>A</Code></Error>`: "",
		`{"Code": "A"}`:                 "",
		"":                              "",
	} {
		if got := parseCode([]byte(body)); got != want {
			t.Errorf("%s: got %q, want %q", body, got, want)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{assumed, "", "<a>", "<AssumeRoleResponse/>", "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		_ = parseCode(body)
		k, err := parseAnswer(body, assumeRole)
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
