package mock

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

const notAWrap = "wrapping token is not valid or does not exist"

func TestVaultWraps(t *testing.T) {
	v := newVaultTest(VaultOptions{})
	wrapping := *v
	wrapping.wrap = "30"
	a := wrapping.get(t, "aws/creds/test_role")
	a.matches(t, "wrapped", `{"request_id":"","lease_id":"","renewable":false,"lease_duration":0,"data":null,`+
		`"wrap_info":{"token":"SECRET","accessor":"ACCESSOR","ttl":30,"creation_time":"TIME","creation_path":"aws/creds/test_role"},"warnings":null,"auth":null}`)
	token := map[string]string{"token": a.WrapInfo.Token}
	want := `{"request_id":"UUID","lease_id":"","renewable":false,"lease_duration":0,"data":{"creation_path":"aws/creds/test_role","creation_time":"TIME","creation_ttl":30},` + vaultRest
	v.as("").post(t, "sys/wrapping/lookup", token).matches(t, "lookup", want)
	v.as(a.WrapInfo.Token).get(t, "sys/wrapping/lookup").matches(t, "lookup with the header", want)
	v.as(a.WrapInfo.Token).get(t, "aws/creds/test_role").wants(t, "something else with the header", 403, "1 error occurred:\n\t* permission denied\n\n")
	v.as("").post(t, "sys/wrapping/lookup", nil).wants(t, "lookup of nothing", 403, "error validating wrapping token: token is empty")
	v.as("").post(t, "sys/wrapping/unwrap", token).wants(t, "unwrap without a token of one's own", 403, "permission denied")
	opened := v.as(a.WrapInfo.Token).post(t, "sys/wrapping/unwrap", nil)
	if opened.wants(t, "unwrap", 200); opened.Data["secret_key"] == nil || opened.RequestID == "" || *opened.LeaseDuration != 3600 {
		t.Errorf("unwrapped: %s", opened.text)
	}
	v.as(a.WrapInfo.Token).post(t, "sys/wrapping/unwrap", nil).wants(t, "unwrap again", 400, notAWrap)
	v.post(t, "sys/wrapping/unwrap", token).wants(t, "unwrap again by the body", 400, notAWrap)
	v.post(t, "sys/wrapping/lookup", token).wants(t, "lookup after use", 400, notAWrap)
	v.as("hvs.x").post(t, "sys/wrapping/unwrap", nil).wants(t, "unwrap nothing", 400, notAWrap)

	burnt := wrapping.get(t, "aws/creds/test_role").WrapInfo.Token
	v.as(burnt).post(t, "sys/wrapping/unwrap", map[string]string{"token": burnt}).wants(t, "twice the same", 500,
		"1 error occurred:\n\t* error decrementing wrapping token's use-count: invalid token entry provided for use count decrementing\n\n")
	v.as(burnt).post(t, "sys/wrapping/unwrap", nil).wants(t, "burnt", 400, notAWrap)
	body := wrapping.get(t, "aws/creds/test_role").WrapInfo.Token
	v.post(t, "sys/wrapping/unwrap", map[string]string{"token": body}).wants(t, "the token in the body", 200)

	if a := wrapping.post(t, "sys/wrapping/wrap", map[string]string{"a": "b"}); a.WrapInfo == nil || a.WrapInfo.CreationPath != "sys/wrapping/wrap" {
		t.Errorf("wrap: %s", a.text)
	}
	v.post(t, "sys/wrapping/wrap", nil).wants(t, "wrap for no time", 400, "endpoint requires response wrapping to be used")
	wrapping.wrap = "x"
	wrapping.get(t, "aws/creds/test_role").wants(t, "no time", 400, `error parsing X-Vault-Wrap-TTL header: time: invalid duration "x"`)
	wrapping.wrap = "-5s"
	wrapping.get(t, "aws/creds/test_role").wants(t, "a negative time", 400, "error parsing X-Vault-Wrap-TTL header: requested wrap ttl cannot be negative")
	if r := v.Record(); r.Wraps != 4 || r.Unwraps != 2 || r.UnwrapsRefused != 5 {
		t.Errorf("%d wraps, %d unwraps, %d refused", r.Wraps, r.Unwraps, r.UnwrapsRefused)
	}
}

// The inner secret ages inside the wrap and its numbers do not.
func TestVaultWrapsAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVaultTest(VaultOptions{AppRoles: []VaultAppRole{{Name: "web", RoleID: "role"}}})
		v.wrap = "10s"
		a, b := v.get(t, "aws/creds/test_role").WrapInfo, v.get(t, "aws/creds/test_role").WrapInfo
		secretID, ok := v.WrapSecretID("web", VaultSecretID{Uses: 1}, 10*time.Second)
		if !ok || a.CreationTime != time.Now().UTC().Format(time.RFC3339Nano) {
			t.Errorf("wrapped %+v and %v", a, ok)
		}
		v.wrap = ""
		time.Sleep(6 * time.Second)
		if opened := v.as(a.Token).post(t, "sys/wrapping/unwrap", nil); *opened.LeaseDuration != 3600 || mustText(opened.Data["ttl"]) != "3599" {
			t.Errorf("6 s late: %s", opened.text)
		}
		if info := v.as("").post(t, "sys/wrapping/lookup", map[string]string{"token": secretID}); info.Data["creation_path"] != "auth/approle/role/web/secret-id" {
			t.Errorf("a wrapped secret ID: %s", info.text)
		}
		opened := v.as(secretID).ask(t, http.MethodPut, "sys/wrapping/unwrap", nil)
		v.post(t, "auth/approle/login", map[string]any{"role_id": "role", "secret_id": opened.Data["secret_id"]}).wants(t, "login with it", 200)
		time.Sleep(4 * time.Second)
		v.as(b.Token).post(t, "sys/wrapping/unwrap", nil).wants(t, "expired", 400, notAWrap)
		if _, ok := v.WrapSecretID("none", VaultSecretID{}, time.Second); ok {
			t.Error("a secret ID of no role")
		}
	})
}

// mustText is a JSON number's text.
func mustText(value any) string {
	text, _ := value.(interface{ String() string })
	return text.String()
}
