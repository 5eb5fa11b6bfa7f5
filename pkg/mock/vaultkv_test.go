package mock

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestVaultKV(t *testing.T) {
	secrets := map[string]map[string]any{"a": {"k": "v"}, "dir/b": {"k": 1}}
	v := newVaultTest(VaultOptions{KV: []VaultKV{{Secrets: secrets}, {Mount: "kv1", Version: 1, Secrets: secrets}}})
	const envelope = `{"request_id":"UUID","lease_id":"","renewable":false,"lease_duration":0,"data":`
	v.get(t, "secret/data/a").matches(t, "version 2", envelope+`{"data":{"k":"v"},"metadata":{"created_time":"TIME","custom_metadata":null,"deletion_time":"",`+
		`"destroyed":false,"version":1}},`+vaultRest)
	v.get(t, "kv1/a").matches(t, "version 1", `{"request_id":"UUID","lease_id":"","renewable":false,"lease_duration":2764800,"data":{"k":"v"},`+vaultRest)
	v.get(t, "secret/data/none").matches(t, "missing", `{"errors":[]}`)
	v.get(t, "kv1/none").matches(t, "missing in version 1", `{"errors":[]}`)
	v.get(t, "secret/data/a?version=7").matches(t, "a version that is not there", `{"errors":[]}`)
	wrong := v.get(t, "secret/a")
	wrong.matches(t, "the wrong form", envelope+`null,"wrap_info":null,"warnings":["Invalid path for a versioned K/V secrets engine. See the API docs for the `+
		`appropriate API endpoints to use. If using the Vault CLI, use 'vault kv get' for this operation."],"auth":null}`)
	if wrong.status != 404 {
		t.Errorf("the wrong form: %d", wrong.status)
	}
	v.get(t, "kv1/?list=true").matches(t, "list", envelope+`{"keys":["a","dir/"]},`+vaultRest)
	v.ask(t, "LIST", "secret/metadata/dir", nil).matches(t, "list a folder", envelope+`{"keys":["b"]},`+vaultRest)
	v.ask(t, "LIST", "secret/metadata/none", nil).matches(t, "list nothing", `{"errors":[]}`)

	v.PutSecret("secret", "a", map[string]any{"k": "new"})
	if a := v.get(t, "secret/data/a"); !strings.Contains(a.text, `{"k":"new"}`) || !strings.Contains(a.text, `"version":2`) {
		t.Errorf("a new version: %s", a.text)
	}
	v.DeleteSecret("secret", "a")
	deleted := v.get(t, "secret/data/a")
	deleted.matches(t, "deleted", envelope+`{"data":null,"metadata":{"created_time":"TIME","custom_metadata":null,"deletion_time":"TIME","destroyed":false,"version":2}},`+vaultRest)
	if deleted.status != 404 {
		t.Errorf("deleted: %d", deleted.status)
	}
	if a := v.get(t, "secret/data/a?version=1"); a.status != 200 || !strings.Contains(a.text, `{"k":"v"}`) {
		t.Errorf("the version before: %s", a.text)
	}
	if a := v.get(t, "secret/metadata/a"); a.status != 200 || !strings.Contains(a.text, `"current_version":2`) {
		t.Errorf("metadata: %s", a.text)
	}
	v.DeleteSecret("kv1", "a")
	v.get(t, "kv1/a").matches(t, "deleted in version 1", `{"errors":[]}`)

	v.SetKVVersion("kv1", 2)
	v.get(t, "kv1/dir/b").wants(t, "the old form after a change of version", 404)
	v.get(t, "kv1/data/dir/b").wants(t, "the new form", 200)
	if reads := v.Record().Reads; reads["secret/data/a"] != 5 || reads["kv1/a"] != 2 {
		t.Errorf("reads %v", reads)
	}
	root := v.as(v.addRoot())
	root.post(t, "secret/data/c", map[string]any{"data": map[string]string{"x": "y"}}).matches(t, "write",
		envelope+`{"created_time":"TIME","custom_metadata":null,"deletion_time":"","destroyed":false,"version":1},`+vaultRest)
	root.post(t, "secret/data/c", map[string]any{"x": "y"}).wants(t, "write without data", 400, "no data provided")
	root.ask(t, http.MethodDelete, "secret/data/c", nil).wants(t, "delete", 204)
	v.SetFaults(Fault{Kind: Vanished, Role: "dir/b"}, Fault{Kind: Lease, Time: time.Minute})
	v.get(t, "kv1/data/dir/b").matches(t, "vanished", `{"errors":[]}`)
	if a := root.get(t, "secret/data/a?version=1"); *a.LeaseDuration != 60 {
		t.Errorf("another hint: %s", a.text)
	}
}

func TestVaultTellsOfMountsAndCapabilities(t *testing.T) {
	v := newVaultTest(VaultOptions{KV: []VaultKV{{}, {Mount: "kv1", Version: 1}}, AWSRoles: []VaultAWSRole{{Name: "web"}}})
	for path, want := range map[string]string{
		"secret/a": `"options":{"version":"2"},"path":"secret/"`, "kv1": `"options":{"version":"1"},"path":"kv1/"`, "aws/creds/web": `"options":{},"path":"aws/"`,
	} {
		if a := v.get(t, "sys/internal/ui/mounts/"+path); a.status != 200 || !strings.Contains(a.text, want) {
			t.Errorf("%s: %d %s", path, a.status, a.text)
		}
	}
	refused := func(path string) string {
		return `preflight capability check returned 403, please ensure client's policies grant access to path "` + path + `"`
	}
	v.get(t, "sys/internal/ui/mounts/none/x").wants(t, "no mount", 403, refused("none/x/"))
	stranger := v.as(v.IssueToken(VaultGrant{Policies: []string{"none"}}))
	stranger.get(t, "sys/internal/ui/mounts/secret").wants(t, "a stranger", 403, refused("secret/"))
	v.as("").get(t, "sys/internal/ui/mounts/secret").wants(t, "nobody", 403, "permission denied")

	v.post(t, "sys/capabilities-self", map[string]any{"paths": []string{"aws/creds/web", "x"}}).matches(t, "capabilities",
		`{"auth":null,"aws/creds/web":["list","read","update"],"data":{"aws/creds/web":["list","read","update"],"x":["deny"]},"lease_duration":0,"lease_id":"","renewable":false,`+
			`"request_id":"UUID","warnings":null,"wrap_info":null,"x":["deny"]}`)
	root := v.as(v.addRoot())
	if a := root.post(t, "sys/capabilities-self", map[string]any{"paths": []string{"x"}}); !strings.Contains(a.text, `"capabilities":["root"]`) {
		t.Errorf("root: %s", a.text)
	}
	v.post(t, "sys/capabilities-self", nil).wants(t, "no path", 400, "paths must be supplied")
}

func TestVaultIdentityTokens(t *testing.T) {
	v := newVaultTest(VaultOptions{OIDCRoles: []VaultOIDCRole{{Name: "web", ClientID: "sts.amazonaws.com", TTL: time.Hour}}})
	a := v.get(t, "identity/oidc/token/web")
	token, _ := a.Data["token"].(string)
	claims, err := openJWT(token, v.IdentityKey())
	if err != nil || claims.Audience[0] != "sts.amazonaws.com" || claims.Subject == "" || time.Until(claims.Expires.at()).Round(time.Minute) != time.Hour {
		t.Errorf("got %s, %+v, %v", a.text, claims, err)
	}
	if a.Data["client_id"] != "sts.amazonaws.com" || mustText(a.Data["ttl"]) != "3600" {
		t.Errorf("got %s", a.text)
	}
	v.get(t, "identity/oidc/token/none").wants(t, "no such role", 400, `role "none" not found`)
	v.as(v.addRoot()).get(t, "identity/oidc/token/web").wants(t, "root is nobody", 400, "no entity associated with the request's token")
	if found := v.as("").get(t, "identity/oidc/.well-known/openid-configuration"); found.status != 200 ||
		!strings.Contains(found.text, `"issuer":"http://example.com/v1/identity/oidc","jwks_uri":"http://example.com/v1/identity/oidc/.well-known/keys"`) {
		t.Errorf("discovery: %s", found.text)
	}
	if keys := v.as("").get(t, "identity/oidc/.well-known/keys"); keys.status != 200 || !strings.Contains(keys.text, `"crv":"P-256"`) {
		t.Errorf("keys: %s", keys.text)
	}
}
