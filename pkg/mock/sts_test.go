package mock

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// TestSignTheVectorOfAWS: get-vanilla of the test suite for Signature Version 4.
func TestSignTheVectorOfAWS(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "https://example.amazonaws.com/", nil)
	r.Header.Set("X-Amz-Date", "20150830T123600Z")
	s := signature{scope: []string{"20150830", "us-east-1", "service", "aws4_request"}, headers: []string{"host", "x-amz-date"}}
	const want = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
	if got := sign(r, nil, s, "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// demo is a call with all that it needs.
func demo() url.Values {
	return url.Values{
		"Action": {"AssumeRole"}, "Version": {"2011-06-15"}, "DurationSeconds": {"3600"},
		"RoleArn": {"arn:aws:iam::123456789012:role/demo"}, "RoleSessionName": {"web01"},
	}
}

// call asks an STS with keys, by a clock.
func call(t *testing.T, s *STS, form url.Values, keys aws.Credentials, at time.Time, spoil func(*http.Request)) (int, string) {
	t.Helper()
	body := form.Encode()
	r := httptest.NewRequest(http.MethodPost, "http://sts.example.com/", strings.NewReader(body))
	digest := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(t.Context(), keys, r, hex.EncodeToString(digest[:]), "sts", "eu-central-1", at); err != nil {
		t.Fatal(err)
	}
	if spoil != nil {
		spoil(r)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	answer := w.Body.String()
	if code := regexp.MustCompile("<Code>(.*)</Code>").FindStringSubmatch(answer); code != nil {
		return w.Code, code[1]
	}
	return w.Code, answer
}

func TestSTSVerifiesWhoAsks(t *testing.T) {
	known := &Keys{}
	s := NewSTS(STSOptions{Keys: known, Region: "eu-central-1"})
	made := known.session("test_role", time.Now().Add(time.Hour))
	over := known.session("test_role", time.Now().Add(-time.Second))
	good := aws.Credentials{AccessKeyID: made.id, SecretAccessKey: made.secret, SessionToken: made.token}
	with := func(change func(*aws.Credentials)) aws.Credentials {
		keys := good
		change(&keys)
		return keys
	}
	now := time.Now()
	for _, c := range []struct {
		name   string
		keys   aws.Credentials
		at     time.Time
		spoil  func(*http.Request)
		status int
		want   string
	}{
		{"good", good, now, nil, 200, "<AccessKeyId>ASIA"},
		{"14 minutes late", good, now.Add(-14 * time.Minute), nil, 200, "<AccessKeyId>ASIA"},
		{"16 minutes late", good, now.Add(-16 * time.Minute), nil, 403, "SignatureDoesNotMatch"},
		{"another secret key", with(func(k *aws.Credentials) { k.SecretAccessKey = "x" }), now, nil, 403, "SignatureDoesNotMatch"},
		{"another token", with(func(k *aws.Credentials) { k.SessionToken = "x" }), now, nil, 403, "InvalidClientTokenId"},
		{"no token", with(func(k *aws.Credentials) { k.SessionToken = "" }), now, nil, 403, "InvalidClientTokenId"},
		{"unknown keys", with(func(k *aws.Credentials) { k.AccessKeyID = "AKIAX" }), now, nil, 403, "InvalidClientTokenId"},
		{"an ended session", aws.Credentials{AccessKeyID: over.id, SecretAccessKey: over.secret, SessionToken: over.token}, now, nil, 403, "ExpiredToken"},
		{"no signature", good, now, func(r *http.Request) { r.Header.Del("Authorization") }, 403, "MissingAuthenticationToken"},
		{"another host", good, now, func(r *http.Request) { r.Host = "evil.example.com" }, 403, "SignatureDoesNotMatch"},
		{"another body", good, now, func(r *http.Request) { r.Body = http.NoBody }, 403, "SignatureDoesNotMatch"},
	} {
		if status, got := call(t, s, demo(), c.keys, c.at, c.spoil); status != c.status || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %d %s, want %d %s", c.name, status, got, c.status, c.want)
		}
	}
	elsewhere := NewSTS(STSOptions{Keys: known, Region: "us-east-1"})
	if _, got := call(t, elsewhere, demo(), good, now, nil); got != "SignatureDoesNotMatch" {
		t.Errorf("in another region: %s", got)
	}
}

func TestSTSHoldsCallsAgainstItsLimits(t *testing.T) {
	known := &Keys{}
	id, secretKey := known.User("alice")
	user := aws.Credentials{AccessKeyID: id, SecretAccessKey: secretKey}
	made := known.session("test_role", time.Now().Add(time.Hour))
	session := aws.Credentials{AccessKeyID: made.id, SecretAccessKey: made.secret, SessionToken: made.token}
	open := NewSTS(STSOptions{Keys: known})
	choosy := NewSTS(STSOptions{Keys: known, Roles: []STSRole{{ARN: "arn:aws:iam::123456789012:role/demo", By: []string{"alice"}, ExternalID: "ext", Longest: 2 * time.Hour}}})
	set := func(pairs ...string) url.Values {
		form := demo()
		for i := 0; i < len(pairs); i += 2 {
			form.Set(pairs[i], pairs[i+1])
		}
		return form
	}
	for _, c := range []struct {
		name string
		sts  *STS
		keys aws.Credentials
		form url.Values
		want string
	}{
		{"another action", open, user, set("Action", "GetCallerIdentity"), "InvalidAction"},
		{"twelve hours", open, user, set("DurationSeconds", "43200"), "AssumeRoleResponse"},
		{"more", open, user, set("DurationSeconds", "43201"), "ValidationError"},
		{"less", open, user, set("DurationSeconds", "899"), "ValidationError"},
		{"a chain of two hours", open, session, set("DurationSeconds", "7200"), "ValidationError"},
		{"a session's name", open, user, set("RoleSessionName", "a b"), "ValidationError"},
		{"a long name", open, user, set("RoleSessionName", strings.Repeat("x", 65)), "ValidationError"},
		{"no role", open, user, set("RoleArn", ""), "ValidationError"},
		{"an unknown parameter", open, user, set("Tag.1", "x"), "ValidationError"},
		{"tags", open, user, set("Tags.member.1.Key", "team", "Tags.member.1.Value", "", "TransitiveTagKeys.member.1", "team"), "AssumeRoleResponse"},
		{"a tag's key", open, user, set("Tags.member.1.Key", "", "Tags.member.1.Value", ""), "ValidationError"},
		{"trusted", choosy, user, set("ExternalId", "ext", "DurationSeconds", "7200"), "AssumeRoleResponse"},
		{"longer than the role", choosy, user, set("ExternalId", "ext", "DurationSeconds", "7201"), "ValidationError"},
		{"another external ID", choosy, user, set("ExternalId", "xte"), "AccessDenied"},
		{"another caller", choosy, session, set("ExternalId", "ext"), "AccessDenied"},
		{"another role", choosy, user, set("RoleArn", "arn:aws:iam::123456789012:role/other"), "AccessDenied"},
	} {
		if _, got := call(t, c.sts, c.form, c.keys, time.Now(), nil); !strings.Contains(got, c.want) {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
	if calls := choosy.Assumptions(); len(calls) != 5 || calls[0].By != "alice" || calls[0].Code != "" || calls[4].Code != "AccessDenied" {
		t.Errorf("got the calls %+v", calls)
	}
}

func TestSTSKnowsWhatTheIMSAndItselfMade(t *testing.T) {
	known := &Keys{}
	ims := NewIMS(IMSOptions{Keys: known})
	s := NewSTS(STSOptions{Keys: known})
	text := body(t, ask(ims, testRole))
	field := func(text, form string) string {
		found := regexp.MustCompile(form).FindStringSubmatch(text)
		if found == nil {
			t.Fatalf("%s is not in the answer", form)
		}
		return found[1]
	}
	keys := aws.Credentials{AccessKeyID: field(text, `"AccessKeyId":"(\w+)"`), SecretAccessKey: field(text, `"SecretAccessKey":"(\w+)"`), SessionToken: field(text, `"Token":"(\w+)"`)}
	for range 3 {
		status, answer := call(t, s, demo(), keys, time.Now(), nil)
		if status != http.StatusOK {
			t.Fatalf("got %d %s", status, answer)
		}
		keys = aws.Credentials{
			AccessKeyID:     field(answer, "<AccessKeyId>(.*?)</"),
			SecretAccessKey: field(answer, "<SecretAccessKey>(.*?)</"),
			SessionToken:    field(answer, "<SessionToken>(.*?)</"),
		}
		if !strings.Contains(keys.SecretAccessKey, Marker) || !strings.Contains(keys.SessionToken, Marker) {
			t.Error("a secret without the marker")
		}
	}
}
