package mock

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

const vaultRest = `"wrap_info":null,"warnings":null,"auth":null}`

func TestVaultAWSForms(t *testing.T) {
	roles := []VaultAWSRole{
		{Name: "web"}, {Name: "fed", Type: FederationToken}, {Name: "session", Type: SessionToken}, {Name: "user", Type: IAMUser},
	}
	for _, c := range []struct {
		newer      bool
		path, want string
	}{
		{false, "aws/creds/web", `{"request_id":"UUID","lease_id":"aws/creds/web/LEASE","renewable":false,"lease_duration":3600,"data":{"access_key":"ID",` +
			`"arn":"arn:aws:sts::123456789012:assumed-role/web/SESSION","secret_key":"SECRET","security_token":"SECRET","ttl":3599},` + vaultRest},
		{false, "aws/sts/fed", `{"request_id":"UUID","lease_id":"aws/sts/fed/LEASE","renewable":false,"lease_duration":3600,"data":{"access_key":"ID",` +
			`"secret_key":"SECRET","security_token":"SECRET","ttl":3599},` + vaultRest},
		{false, "aws/creds/user", `{"request_id":"UUID","lease_id":"aws/creds/user/LEASE","renewable":true,"lease_duration":2764800,"data":{"access_key":"ID",` +
			`"secret_key":"SECRET","security_token":null},` + vaultRest},
		{true, "aws/creds/web", `{"request_id":"UUID","lease_id":"aws/creds/web/LEASE","renewable":false,"lease_duration":3600,"data":{"access_key":"ID",` +
			`"arn":"arn:aws:sts::123456789012:assumed-role/web/SESSION","secret_key":"SECRET","security_token":"SECRET","session_token":"SECRET","ttl":3599},` +
			strings.TrimSuffix(vaultRest, "}") + `,"mount_type":"aws"}`},
		{true, "aws/sts/session", `{"request_id":"UUID","lease_id":"aws/sts/session/LEASE","renewable":false,"lease_duration":3600,"data":{"access_key":"ID",` +
			`"secret_key":"SECRET","session_token":"SECRET","ttl":3599},` + strings.TrimSuffix(vaultRest, "}") + `,"mount_type":"aws"}`},
		{true, "aws/creds/user", `{"request_id":"UUID","lease_id":"aws/creds/user/LEASE","renewable":true,"lease_duration":2764800,"data":{"access_key":"ID",` +
			`"secret_key":"SECRET","session_token":null},` + strings.TrimSuffix(vaultRest, "}") + `,"mount_type":"aws"}`},
	} {
		newVaultTest(VaultOptions{AWSRoles: roles, Newer: c.newer}).get(t, c.path).matches(t, c.path, c.want)
	}
}

func TestVaultAWSParameters(t *testing.T) {
	one, two := "arn:aws:iam::123456789012:role/one", "arn:aws:iam::123456789012:role/two"
	v := newVaultTest(VaultOptions{AWSRoles: []VaultAWSRole{{Name: "web", MaxTTL: 30 * time.Minute}, {Name: "both", ARNs: []string{one, two}}, {Name: "brief", TTL: time.Minute}}})
	v.get(t, "aws/creds/none").wants(t, "no such role", 400, `Role "none" not found`)
	v.get(t, "aws/creds/web?role_session_name=x").wants(t, "a short session name", 400,
		"Error assuming role: InvalidParameter: 1 validation error(s) found.\n- minimum field size of 2, AssumeRoleInput.RoleSessionName.\n")
	v.get(t, "aws/creds/both").wants(t, "no ARN", 400, "did not supply a role_arn parameter and unable to determine one")
	v.get(t, "aws/creds/both?role_arn=x").wants(t, "another ARN", 400, `role_arn "x" not in allowed role arns for Vault role "both"`)
	a := v.post(t, "aws/creds/both", map[string]string{"role_arn": two, "role_session_name": "host1", "ttl": "15m"})
	if a.wants(t, "an ARN", 200); a.Data["arn"] != "arn:aws:sts::123456789012:assumed-role/two/host1" || *a.LeaseDuration != 900 {
		t.Errorf("got %s", a.text)
	}
	if a := v.get(t, "aws/sts/web?ttl=5h"); *a.LeaseDuration != 1800 || a.Warnings != nil || !strings.Contains(a.text, `"ttl":1799`) {
		t.Errorf("capped: %s", a.text)
	}
	if a := v.get(t, "aws/creds/brief"); *a.LeaseDuration != 60 {
		t.Errorf("the role's own time: %s", a.text)
	}
	v.get(t, "aws/creds/web?ttl=60").wants(t, "less than AWS gives", 400,
		"Error assuming role: InvalidParameter: 1 validation error(s) found.\n- minimum field value of 900, AssumeRoleInput.DurationSeconds.\n")
	if a := v.get(t, "aws/creds/brief?ttl=37h"); a.status != 400 || !strings.Contains(a.text, "durationSeconds") {
		t.Errorf("more than AWS gives: %s", a.text)
	}
	if a := v.get(t, "aws/creds/web?role_session_name=a%20b"); a.Data["arn"] != "arn:aws:sts::123456789012:assumed-role/web/a_b" {
		t.Errorf("a session name with a blank: %s", a.text)
	}
	if a := v.get(t, "aws/creds/web?role_session_name="+strings.Repeat("x", 65)); a.status != 400 || !strings.Contains(a.text, "roleSessionName") {
		t.Errorf("a long session name: %s", a.text)
	}
	if reads := v.Record().Reads; reads["aws/creds/both"] != 3 || reads["aws/sts/web"] != 1 {
		t.Errorf("reads %v", reads)
	}
}

// awsKeysOf reads the keys of an answer.
func awsKeysOf(a vaultAnswer) aws.Credentials {
	text := func(name string) string { text, _ := a.Data[name].(string); return text }
	return aws.Credentials{AccessKeyID: text("access_key"), SecretAccessKey: text("secret_key"), SessionToken: text("security_token")}
}

func TestVaultKeysSignAtTheSTS(t *testing.T) {
	known := &Keys{}
	v := newVaultTest(VaultOptions{Keys: known, AWSRoles: []VaultAWSRole{{Name: "web"}, {Name: "user", Type: IAMUser}}})
	s := NewSTS(STSOptions{Keys: known})
	if status, got := call(t, s, demo(), awsKeysOf(v.get(t, "aws/creds/web")), time.Now(), nil); status != 200 {
		t.Errorf("a session: %d %s", status, got)
	}
	lent := v.as(v.IssueToken(VaultGrant{}))
	a := lent.get(t, "aws/creds/user")
	if status, got := call(t, s, demo(), awsKeysOf(a), time.Now(), nil); status != 200 {
		t.Errorf("a user: %d %s", status, got)
	}
	v.RevokeToken(lent.token)
	if _, got := call(t, s, demo(), awsKeysOf(a), time.Now(), nil); got != "InvalidClientTokenId" {
		t.Errorf("a user whose token ended: %s", got)
	}
	b := v.get(t, "aws/creds/user")
	v.post(t, "sys/leases/revoke", map[string]string{"lease_id": b.LeaseID}).wants(t, "revoke", 204)
	if _, got := call(t, s, demo(), awsKeysOf(b), time.Now(), nil); got != "InvalidClientTokenId" {
		t.Errorf("a user whose lease was revoked: %s", got)
	}
	if r := v.Record(); r.LeasesMade != 3 || r.LeasesRevoked != 1 || r.LeasesEnded != 2 || r.Leases != 1 {
		t.Errorf("record %+v", r)
	}
}

// The keys go when the token's time is over, also when nobody asks Vault any more.
func TestVaultUserEndsWithItsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known := &Keys{}
		v := newVaultTest(VaultOptions{Keys: known, AWSRoles: []VaultAWSRole{{Name: "user", Type: IAMUser}}})
		v.token = v.IssueToken(VaultGrant{TTL: 15 * time.Minute})
		a := v.get(t, "aws/creds/user")
		s := NewSTS(STSOptions{Keys: known})
		signs := func(when, want string) {
			t.Helper()
			if _, got := call(t, s, demo(), awsKeysOf(a), time.Now(), nil); !strings.Contains(got, want) {
				t.Errorf("%s: %s", when, got)
			}
		}
		time.Sleep(14 * time.Minute)
		signs("at first", "AssumeRoleResponse")
		v.post(t, "auth/token/renew-self", nil).wants(t, "renewed", 200)
		time.Sleep(14 * time.Minute)
		signs("after the renewal", "AssumeRoleResponse")
		time.Sleep(time.Minute)
		signs("after the token", "InvalidClientTokenId")

		v.token = v.IssueToken(VaultGrant{TTL: 15 * time.Minute})
		a = v.get(t, "aws/creds/user")
		time.Sleep(15 * time.Minute)
		signs("after a token that was never renewed", "InvalidClientTokenId")
	})
}

func TestVaultStaticKeys(t *testing.T) {
	o := VaultOptions{StaticRoles: []VaultStaticRole{{Name: "old", Period: time.Hour}}}
	v := newVaultTest(o)
	first := v.get(t, "aws/static-creds/old")
	first.matches(t, "static", `{"request_id":"UUID","lease_id":"","renewable":false,"lease_duration":0,"data":{"access_key":"ID","secret_key":"SECRET"},`+vaultRest)
	if again := v.get(t, "aws/static-creds/old"); again.Data["access_key"] != first.Data["access_key"] {
		t.Error("other keys at the second time")
	}
	v.RotateStatic("old")
	if rotated := v.get(t, "aws/static-creds/old"); rotated.Data["access_key"] == first.Data["access_key"] {
		t.Error("the same keys after a rotation")
	}
	none := v.get(t, "aws/static-creds/none")
	none.matches(t, "unknown", `{"errors":[]}`)
	o.Newer = true
	if a := newVaultTest(o).get(t, "aws/static-creds/old"); a.Data["expiration"] == nil {
		t.Errorf("newer: %s", a.text)
	}
}

func TestVaultAWSErrors(t *testing.T) {
	v := newVaultTest(VaultOptions{})
	for code, want := range map[string]struct {
		status int
		text   string
	}{
		"AccessDenied": {400, "Error assuming role: AccessDenied: User: arn:aws:iam::123456789012:user/vault is not authorized to perform: " +
			"sts:AssumeRole on resource: arn:aws:iam::123456789012:role/test_role\n\tstatus code: 403, request id: UUID"},
		"InternalFailure": {400, "Error assuming role: InternalFailure: scripted SECRET\n\tstatus code: 500, request id: UUID"},
		"Unreachable": {400, "Error assuming role: RequestError: send request failed\ncaused by: Post \"https://sts.amazonaws.com/\": " +
			"dial tcp 127.0.0.1:443: connect: connection refused"},
		"Throttling": {502, "Error assuming role: Throttling: Rate exceeded\n\tstatus code: 400, request id: UUID"},
	} {
		v.SetFaults(Fault{Kind: Code, Code: code})
		a := v.get(t, "aws/creds/test_role")
		if len(a.Errors) != 1 {
			t.Fatalf("%s: %s", code, a.text)
		}
		got := regexp.MustCompile(`[0-9a-f-]{36}`).ReplaceAllString(a.Errors[0], "UUID")
		got = regexp.MustCompile(Marker+`\w+`).ReplaceAllString(got, "SECRET")
		if a.status != want.status || got != want.text {
			t.Errorf("%s: %d %q", code, a.status, got)
		}
	}
}

func TestVaultOddExpiries(t *testing.T) {
	v := newVaultTest(VaultOptions{})
	for fault, want := range map[string]string{
		"expired":     `"lease_duration":2764800,.*"ttl":18446744073709551316}`,
		"lease=0s":    `"lease_duration":0,.*"ttl":3599}`,
		"lease=7200s": `"lease_duration":7200,.*"ttl":3599}`,
		"ttl=0s":      `"lease_duration":3600,.*"ttl":0}`,
		"ttl-text":    `"ttl":"3599"`,
		"no-expiry":   `"renewable":false,"data":{"access_key":"[^"]*","arn":"[^"]*","secret_key":"[^"]*","security_token":"[^"]*"}`,
		"short=1m":    `"lease_duration":60,.*"ttl":59}`,
		"incomplete":  `"arn":"[^"]*","security_token"`,
	} {
		parsed, err := ParseFault(fault)
		if err != nil {
			t.Fatal(err)
		}
		v.SetFaults(parsed)
		if a := v.get(t, "aws/creds/test_role"); a.status != 200 || !regexp.MustCompile(want).MatchString(a.text) {
			t.Errorf("%s: %d %s", fault, a.status, a.text)
		}
	}
	v.SetFaults(Fault{Kind: Age, Time: 20 * time.Minute})
	if got := v.get(t, "aws/creds/test_role").header.Get("Age"); got != "1200" {
		t.Errorf("Age: %s", got)
	}
	v.SetFaults()
	batch := v.as(v.IssueToken(VaultGrant{Batch: true, TTL: 10 * time.Minute}))
	if a := batch.get(t, "aws/creds/test_role"); *a.LeaseDuration != 599 || !strings.Contains(a.text, `"ttl":3599`) {
		t.Errorf("a batch token: %s", a.text)
	}
}

func TestVaultLeases(t *testing.T) {
	v := newVaultTest(VaultOptions{AWSRoles: []VaultAWSRole{{Name: "web"}, {Name: "user", Type: IAMUser}}})
	web, user := v.get(t, "aws/creds/web").LeaseID, v.get(t, "aws/creds/user").LeaseID
	id := func(id string) map[string]any { return map[string]any{"lease_id": id, "increment": 600} }
	v.post(t, "sys/leases/renew", id(web)).wants(t, "a session", 400, "lease is not renewable")
	v.post(t, "sys/leases/renew", id("aws/creds/web/x")).wants(t, "no lease", 400, "lease not found")
	if a := v.post(t, "sys/leases/renew", id(user)); a.status != 200 || *a.LeaseDuration != 600 || !a.Renewable || a.LeaseID != user {
		t.Errorf("a user: %s", a.text)
	}
	if a := v.post(t, "sys/leases/lookup", id(user)); a.Data["renewable"] != true || a.Data["last_renewal"] == nil {
		t.Errorf("lookup: %s", a.text)
	}
	v.post(t, "sys/leases/lookup", id("x")).wants(t, "lookup of none", 400, "invalid lease")
	v.post(t, "sys/leases/revoke", id(user)).wants(t, "revoke", 204)
	v.post(t, "sys/leases/renew", id(user)).wants(t, "a revoked one", 400, "lease not found")
	v.RevokeLeases()
	v.ask(t, http.MethodPut, "sys/leases/lookup", id(web)).wants(t, "an operator's revocation", 400, "invalid lease")
}
