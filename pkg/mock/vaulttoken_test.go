package mock

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestVaultTokenLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVaultTest(VaultOptions{})
		one := v.as(v.IssueToken(VaultGrant{TTL: 5 * time.Minute, MaxTTL: 10 * time.Minute}))
		time.Sleep(4 * time.Minute)
		if a := one.get(t, "auth/token/lookup-self"); a.status != 200 || !strings.Contains(a.text, `"ttl":60,"type":"service"`) {
			t.Errorf("lookup: %s", a.text)
		}
		if a := one.post(t, "auth/token/renew-self", nil); a.Auth.LeaseDuration != 300 || a.Warnings != nil {
			t.Errorf("renewed: %s", a.text)
		}
		time.Sleep(4 * time.Minute)
		a := one.post(t, "auth/token/renew-self", map[string]any{"increment": "5m"})
		a.matches(t, "capped", `{"request_id":"UUID","lease_id":"","renewable":false,"lease_duration":0,"data":null,"wrap_info":null,`+
			`"warnings":["TTL of \"5m\" exceeded the effective max_ttl of \"2m\"; TTL value is capped accordingly"],`+
			`"auth":{"client_token":"SECRET","accessor":"ACCESSOR","policies":["default","purser"],"token_policies":["default","purser"],"metadata":null,`+
			`"lease_duration":120,"renewable":true,"entity_id":"UUID","token_type":"service","orphan":true,"mfa_requirement":null,"num_uses":0}}`)
		time.Sleep(2 * time.Minute)
		one.post(t, "auth/token/renew-self", nil).wants(t, "renewal past the end", 403, "permission denied")
		one.get(t, "auth/token/lookup-self").wants(t, "lookup past the end", 403, "permission denied")

		forever := v.as(v.IssueToken(VaultGrant{Period: time.Hour}))
		for range 1000 {
			time.Sleep(59 * time.Minute)
			forever.post(t, "auth/token/renew-self", map[string]any{"increment": 5}).wants(t, "periodic", 200)
		}
		if r := v.Record(); r.Renewals != 1002 {
			t.Errorf("%d renewals", r.Renewals)
		}
	})
}

func TestVaultTokenKinds(t *testing.T) {
	v := newVaultTest(VaultOptions{})
	batch := v.as(v.IssueToken(VaultGrant{Batch: true, TTL: time.Hour}))
	if !strings.HasPrefix(batch.token, "hvb.") || len(batch.token) < 250 {
		t.Errorf("a batch token is %d long", len(batch.token))
	}
	batch.post(t, "auth/token/renew-self", nil).wants(t, "renew batch", 400, "batch tokens cannot be renewed")
	batch.post(t, "auth/token/revoke-self", nil).wants(t, "revoke batch", 400, "batch tokens cannot be revoked")
	fixed := v.as(v.IssueToken(VaultGrant{Fixed: true}))
	fixed.post(t, "auth/token/renew-self", nil).wants(t, "renew what is not renewable", 400, "lease is not renewable")
	root := v.as(v.addRoot())
	root.post(t, "auth/token/renew-self", nil).wants(t, "renew root", 400, "invalid lease ID")
	root.get(t, "auth/token/lookup-self").wants(t, "root", 200)

	bare := v.as(v.IssueToken(VaultGrant{NoDefault: true}))
	bare.get(t, "auth/token/lookup-self").wants(t, "lookup without default", 403, "1 error occurred:\n\t* permission denied\n\n")
	bare.get(t, "aws/creds/test_role").wants(t, "read without default", 200)

	used := v.as(v.IssueToken(VaultGrant{NumUses: 2}))
	used.get(t, "aws/creds/test_role").wants(t, "first use", 200)
	used.get(t, "aws/creds/test_role").wants(t, "last use", 400, "Secret cannot be returned; token had one use left, so leased credentials were immediately revoked.")
	used.get(t, "aws/creds/test_role").wants(t, "a use too much", 403, "permission denied")

	bound := v.as(v.IssueToken(VaultGrant{BoundCIDRs: []string{"10.0.0.0/8", "192.168.1.1"}}))
	for from, want := range map[string]int{"10.9.9.9:1": 200, "192.168.1.1:1": 200, "192.0.2.1:1": 403, "[::1]:1": 403, "nonsense": 403} {
		bound.from = from
		if a := bound.get(t, "auth/token/lookup-self"); a.status != want {
			t.Errorf("from %s: %d", from, a.status)
		}
	}

	v.post(t, "auth/token/revoke-self", nil).wants(t, "revoke", 204)
	v.get(t, "auth/token/lookup-self").wants(t, "a revoked one", 403, "permission denied")
	v.RevokeTokens()
	bare.get(t, "aws/creds/test_role").wants(t, "all revoked", 403, "permission denied")
	root.get(t, "auth/token/lookup-self").wants(t, "root after that", 200)
	if r := v.Record(); r.TokensRevoked != 1 || r.RenewalsRefused != 3 || r.Tokens != 1 {
		t.Errorf("record %+v", r)
	}
}

func TestVaultTokensMakeTokens(t *testing.T) {
	v := newVaultTest(VaultOptions{
		TokenRoles: []VaultTokenRole{{Name: "app", Allowed: []string{"app"}, Orphan: true, VaultGrant: VaultGrant{Fixed: true, MaxTTL: 10 * time.Minute, NumUses: 2, NoDefault: true}}},
		Policies: map[string][]VaultRule{
			"broker": {{Path: "auth/token/create/app", Capabilities: []string{"update"}, MinWrap: time.Second, MaxWrap: time.Minute}},
			"maker":  {{Path: "auth/token/create", Capabilities: []string{"update"}}},
		},
	})
	broker := v.as(v.IssueToken(VaultGrant{Policies: []string{"broker"}}))
	denied := "1 error occurred:\n\t* permission denied\n\n"
	meta := map[string]any{"meta": map[string]string{"container_id": "x"}}
	broker.post(t, "auth/token/create/app", meta).wants(t, "not wrapped", 403, denied)
	broker.wrap = "600s"
	broker.post(t, "auth/token/create/app", meta).wants(t, "wrapped for long", 403, denied)
	broker.wrap = "30s"
	broker.post(t, "auth/token/create/app", map[string]any{"policies": []string{"root"}}).wants(t, "another policy", 400,
		`token policies (["root"]) must be subset of the role's allowed policies (["app"]) or glob policies ([])`)
	a := broker.post(t, "auth/token/create/app", meta)
	if a.wants(t, "wrapped", 200); a.WrapInfo == nil || a.WrapInfo.CreationPath != "auth/token/create/app" || a.WrapInfo.WrappedAccessor == "" {
		t.Fatalf("got %s", a.text)
	}
	opened := v.as(a.WrapInfo.Token).post(t, "sys/wrapping/unwrap", nil)
	opened.matches(t, "the child", `{"request_id":"UUID","lease_id":"","renewable":false,"lease_duration":0,"data":null,"wrap_info":null,`+
		`"warnings":["TTL of \"768h\" exceeded the effective max_ttl of \"10m\"; TTL value is capped accordingly","Policy \"app\" does not exist"],`+
		`"auth":{"client_token":"SECRET","accessor":"ACCESSOR","policies":["app"],"token_policies":["app"],"metadata":{"container_id":"x"},`+
		`"lease_duration":600,"renewable":false,"entity_id":"","token_type":"service","orphan":true,"mfa_requirement":null,"num_uses":2}}`)
	root := v.as(v.addRoot())
	accessor := map[string]string{"accessor": opened.Auth.Accessor}
	if a := root.post(t, "auth/token/lookup-accessor", accessor); a.Data["id"] != "" || a.Data["role"] != "app" {
		t.Errorf("lookup-accessor: %s", a.text)
	}
	root.post(t, "auth/token/revoke-accessor", accessor).wants(t, "revoke-accessor", 204)
	v.as(opened.Auth.ClientToken).get(t, "auth/token/lookup-self").wants(t, "after that", 403, "permission denied")
	if a := root.post(t, "auth/token/revoke-accessor", accessor); a.status != 200 || strings.Join(a.Warnings, "") != "No token found with this accessor" {
		t.Errorf("again: %s", a.text)
	}
	root.post(t, "auth/token/lookup-accessor", accessor).wants(t, "lookup of none", 400, "1 error occurred:\n\t* invalid accessor\n\n")
	root.post(t, "auth/token/create/none", nil).wants(t, "no such role", 400, "unknown role none")
	other := map[string]string{"token": "hvs.x"}
	root.post(t, "auth/token/lookup", other).wants(t, "lookup of an unknown one", 403, "bad token")
	root.post(t, "auth/token/renew", other).wants(t, "renewal of an unknown one", 400, "token not found")
	root.post(t, "auth/token/revoke", other).wants(t, "revocation of an unknown one", 204)

	maker := v.as(v.IssueToken(VaultGrant{Policies: []string{"maker"}}))
	maker.post(t, "auth/token/create", map[string]any{"policies": []string{"purser"}}).wants(t, "more than it may itself", 400, "child policies must be subset of parent")
	child := maker.post(t, "auth/token/create", map[string]any{"ttl": "1h", "num_uses": 9, "type": "service", "no_default_policy": true, "explicit_max_ttl": "2h"})
	if child.status != 200 || child.Auth.LeaseDuration != 3600 || child.Auth.NumUses != 9 || child.Auth.Orphan {
		t.Errorf("a child: %s", child.text)
	}
	v.RevokeToken(maker.token)
	v.as(child.Auth.ClientToken).post(t, "auth/token/create", nil).wants(t, "a child whose parent is gone", 403, "permission denied")
}
