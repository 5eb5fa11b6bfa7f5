package mock

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// askIAM makes a call, with parameters in pairs, and returns the answer's body.
func askIAM(t *testing.T, i *IAM, keys aws.Credentials, action string, pairs ...string) string {
	t.Helper()
	form := url.Values{"Action": {action}, "Version": {"2010-05-08"}}
	for n := 0; n < len(pairs); n += 2 {
		form.Set(pairs[n], pairs[n+1])
	}
	body := form.Encode()
	r := httptest.NewRequest(http.MethodPost, "http://iam.example.com/", strings.NewReader(body))
	digest := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(t.Context(), keys, r, hex.EncodeToString(digest[:]), "iam", "us-east-1", time.Now()); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	i.ServeHTTP(w, r)
	return w.Body.String()
}

func codeOf(answer string) string {
	code := regexp.MustCompile("<Code>(.*)</Code>").FindStringSubmatch(answer)
	if code == nil {
		return ""
	}
	return code[1]
}

func TestIAMKeepsUsersTheirKeysAndPolicies(t *testing.T) {
	known := &Keys{}
	id, secretKey := known.User("admin")
	admin := aws.Credentials{AccessKeyID: id, SecretAccessKey: secretKey}
	i := NewIAM(IAMOptions{Keys: known, Users: []string{"robot"}})
	const policy = "arn:aws:iam::aws:policy/ReadOnlyAccess"
	for n, step := range []struct {
		action string
		pairs  []string
		want   string // the code of an error, or a part of the answer
	}{
		{"GetUser", []string{"UserName", "robot"}, "<UserId>AIDA"},
		{"GetUser", []string{"UserName", "alice"}, "NoSuchEntity"},
		{"CreateUser", []string{"UserName", "alice"}, "<UserName>alice</UserName>"},
		{"CreateUser", []string{"UserName", "alice"}, "EntityAlreadyExists"},
		{"CreateUser", []string{"UserName", strings.Repeat("x", 65)}, "ValidationError"},
		{"AttachUserPolicy", []string{"UserName", "alice", "PolicyArn", policy}, "<AttachUserPolicyResult>"},
		{"AttachUserPolicy", []string{"UserName", "alice", "PolicyArn", ""}, "ValidationError"},
		{"ListAttachedUserPolicies", []string{"UserName", "alice"}, "<member><PolicyArn>" + policy + "</PolicyArn></member>"},
		{"PutUserPolicy", []string{"UserName", "alice", "PolicyName", "own", "PolicyDocument", "{}"}, "<PutUserPolicyResult>"},
		{"ListUserPolicies", []string{"UserName", "alice"}, "<PolicyNames><member>own</member></PolicyNames>"},
		{"ListGroupsForUser", []string{"UserName", "alice"}, "<Groups></Groups>"},
		{"CreateAccessKey", []string{"UserName", "alice"}, "<SecretAccessKey>" + Marker},
		{"CreateAccessKey", []string{"UserName", "alice"}, "<AccessKeyId>AKIA"},
		{"CreateAccessKey", []string{"UserName", "alice"}, "LimitExceeded"},
		{"DeleteUser", []string{"UserName", "alice"}, "DeleteConflict"},
		{"DetachUserPolicy", []string{"UserName", "alice", "PolicyArn", policy}, "<DetachUserPolicyResult>"},
		{"DetachUserPolicy", []string{"UserName", "alice", "PolicyArn", policy}, "NoSuchEntity"},
		{"DeleteUserPolicy", []string{"UserName", "alice", "PolicyName", "own"}, "<DeleteUserPolicyResult>"},
		{"DeleteAccessKey", []string{"UserName", "alice", "AccessKeyId", "AKIAX"}, "NoSuchEntity"},
		{"ListUsers", []string{"UserName", "alice"}, "InvalidAction"},
	} {
		answer := askIAM(t, i, admin, step.action, step.pairs...)
		if code := codeOf(answer); code != step.want && (code != "" || !strings.Contains(answer, step.want)) {
			t.Errorf("step %d, %s: got %s, want %s", n, step.action, answer, step.want)
		}
	}
	listed := askIAM(t, i, admin, "ListAccessKeys", "UserName", "alice")
	made := regexp.MustCompile("<AccessKeyId>(.*?)</").FindAllStringSubmatch(listed, -1)
	if len(made) != 2 {
		t.Fatalf("alice's keys are %s", listed)
	}
	for _, one := range made {
		if _, there := known.find(one[1]); !there {
			t.Errorf("nobody else would know the key %s", one[1])
		}
		askIAM(t, i, admin, "DeleteAccessKey", "UserName", "alice", "AccessKeyId", one[1])
		if _, there := known.find(one[1]); there {
			t.Errorf("the key %s outlives its end", one[1])
		}
	}
	if answer := askIAM(t, i, admin, "DeleteUser", "UserName", "alice"); codeOf(answer) != "" {
		t.Errorf("got %s", answer)
	}
	if users := i.Users(); !slices.Equal(users, []string{"robot"}) {
		t.Errorf("the users are %q", users)
	}
	if asked := i.Requests().Fetches; asked["DeleteUser"] != 2 || asked["CreateAccessKey"] != 3 {
		t.Errorf("what was asked is counted as %v", asked)
	}
}

func TestIAMVerifiesAndFailsOnDemand(t *testing.T) {
	known := &Keys{}
	id, secretKey := known.User("admin")
	i := NewIAM(IAMOptions{Keys: known})
	if code := codeOf(askIAM(t, i, aws.Credentials{AccessKeyID: id, SecretAccessKey: "x"}, "CreateUser", "UserName", "alice")); code != "SignatureDoesNotMatch" {
		t.Errorf("another secret key: %s", code)
	}
	admin := aws.Credentials{AccessKeyID: id, SecretAccessKey: secretKey}
	i.SetFaults(Fault{Kind: Code, Code: "Throttling", Role: "CreateUser"})
	if code := codeOf(askIAM(t, i, admin, "CreateUser", "UserName", "alice")); code != "Throttling" {
		t.Errorf("the fault's action answers %q", code)
	}
	if code := codeOf(askIAM(t, i, admin, "GetUser", "UserName", "alice")); code != "NoSuchEntity" {
		t.Errorf("another action answers %q", code)
	}
	if users := i.Users(); len(users) != 0 {
		t.Errorf("there are the users %q", users)
	}
}

func TestSTSFederatesForUsersOnly(t *testing.T) {
	known := &Keys{}
	id, secretKey := known.User("vault")
	user := aws.Credentials{AccessKeyID: id, SecretAccessKey: secretKey}
	made := known.session("test_role", time.Now().Add(time.Hour))
	session := aws.Credentials{AccessKeyID: made.id, SecretAccessKey: made.secret, SessionToken: made.token}
	s := NewSTS(STSOptions{Keys: known})
	set := func(pairs ...string) url.Values {
		form := url.Values{"Action": {federationToken}, "Version": {"2011-06-15"}, "Name": {"vault-root"}, "DurationSeconds": {"3600"}, "Policy": {"{}"}}
		for n := 0; n < len(pairs); n += 2 {
			form.Set(pairs[n], pairs[n+1])
		}
		return form
	}
	for _, c := range []struct {
		name string
		keys aws.Credentials
		form url.Values
		want string
	}{
		{"good", user, set(), "<Arn>arn:aws:sts::123456789012:federated-user/vault-root</Arn>"},
		{"with policies", user, set("PolicyArns.member.1.arn", "arn:aws:iam::aws:policy/ReadOnlyAccess"), "<AccessKeyId>ASIA"},
		{"36 hours", user, set("DurationSeconds", "129600"), "<AccessKeyId>ASIA"},
		{"more", user, set("DurationSeconds", "129601"), "ValidationError"},
		{"less", user, set("DurationSeconds", "899"), "ValidationError"},
		{"no name", user, set("Name", ""), "ValidationError"},
		{"an unknown parameter", user, set("RoleArn", "x"), "ValidationError"},
		{"a bad list", user, set("PolicyArns.member.1.arn", ""), "ValidationError"},
		{"a session", session, set(), "AccessDenied"},
	} {
		if _, got := call(t, s, c.form, c.keys, time.Now(), nil); !strings.Contains(got, c.want) {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
	if calls := s.Assumptions(); len(calls) != 9 || calls[0].By != "vault" || calls[0].Made == "" || s.Requests().Fetches["vault-root"] != 8 {
		t.Errorf("got the calls %+v and %v", calls, s.Requests().Fetches)
	}
}
