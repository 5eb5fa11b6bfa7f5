package e2e

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
	"github.com/purser-agent/purser/pkg/mock"
)

// A realSetup gives the real Vault what the options of the fake say.
type realSetup struct {
	t      *testing.T
	vault  *harness.Vault
	mounts map[string]string // kinds by path
	sts    *mock.STS         // whom its AWS engine asks
	iam    *mock.IAM
}

// realVault is the real Vault with these options, until they are dismantled.
func (c *vaultContract) realVault(t *testing.T, o mock.VaultOptions) (vaultUnderTest, *realSetup) {
	t.Helper()
	if len(o.AWSRoles)+len(o.StaticRoles)+len(o.KV)+len(o.OIDCRoles) == 0 {
		o.AWSRoles = []mock.VaultAWSRole{{Name: "test_role"}} // as the fake
	}
	keys := &mock.Keys{}
	sts := mock.NewSTS(mock.STSOptions{Keys: keys})
	iam := mock.NewIAM(mock.IAMOptions{Keys: keys, Users: staticUsers(o)})
	stsServer, iamServer := httptest.NewServer(sts), httptest.NewServer(iam)
	t.Cleanup(stsServer.Close)
	t.Cleanup(iamServer.Close)

	s := &realSetup{t, c.real, map[string]string{}, sts, iam}
	id, secretKey := keys.User("vault")
	s.engines(o, map[string]any{
		"access_key": id, "secret_key": secretKey, "region": "us-east-1", "max_retries": 0,
		"sts_endpoint": stsServer.URL, "iam_endpoint": iamServer.URL,
	})
	s.logins(o, c)
	s.identities(o.OIDCRoles)
	s.policies(o)

	leader, err := c.real.Leader()
	must(t, err)
	v := c.common(t, leader.URL, c.real.Root, c.real.Authority, c.client)
	v.can["aws"] = func(faults string) error {
		return cmp.Or(setFaults(&sts.Control, faults), setFaults(&iam.Control, faults))
	}
	v.can["unreachable"] = func(string) error { stsServer.Close(); return nil }
	v.can["quota"] = s.quota
	v.can["seal"] = func(string) error { return leader.Seal() }
	v.can["unseal"] = func(string) error { return leader.Unseal() }
	return v, s
}

// quota lets the next request through and no other for a while: a fault in the words
// of the fake, with retry-after to be told so.
func (s *realSetup) quota(fault string) error {
	if fault == "" {
		return s.vault.Delete("sys/quotas/rate-limit/test")
	}
	tells := strings.Contains(fault, "retry-after")
	return errors.Join(
		s.vault.Write("sys/quotas/config", map[string]any{"enable_rate_limit_response_headers": tells}, nil),
		s.vault.Write("sys/quotas/rate-limit/test", map[string]any{"path": "aws/", "rate": 1, "interval": "9s"}, nil),
		s.vault.Write("aws/config/lease", map[string]string{"lease": "1h", "lease_max": "2h"}, nil)) // the one that goes through
}

func staticUsers(o mock.VaultOptions) []string {
	var users []string
	for _, role := range o.StaticRoles {
		users = append(users, cmp.Or(role.User, role.Name))
	}
	return users
}

// write writes to Vault what has to succeed.
func (s *realSetup) write(path string, body any) {
	s.t.Helper()
	must(s.t, s.vault.Write(path, body, nil))
}

// mount enables an engine or a method where it is not yet.
func (s *realSetup) mount(path, otherwise, kind string, options map[string]string) string {
	s.t.Helper()
	path = cmp.Or(strings.Trim(path, "/"), otherwise)
	if s.mounts[path] != "" {
		return path
	}
	s.mounts[path] = kind
	table := "sys/mounts/"
	if strings.HasPrefix(path, "auth/") {
		table = "sys/"
	}
	s.write(table+path, map[string]any{"type": kind, "options": options})
	return path
}

// dismantle disables what was enabled, with its tokens and leases.
func (s *realSetup) dismantle() {
	for path := range s.mounts {
		table := "sys/mounts/"
		if strings.HasPrefix(path, "auth/") {
			table = "sys/"
		}
		if err := s.vault.Delete(table + path); err != nil {
			s.t.Error(err)
		}
	}
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// engines enables what there is to read.
func (s *realSetup) engines(o mock.VaultOptions, aws map[string]any) {
	s.t.Helper()
	awsMount := func(path string) string {
		known := len(s.mounts)
		path = s.mount(path, "aws", "aws", nil)
		if len(s.mounts) > known {
			s.write(path+"/config/root", aws)
		}
		return path
	}
	for _, role := range o.AWSRoles {
		body := map[string]any{"credential_type": cmp.Or(role.Type, mock.AssumedRole)}
		switch body["credential_type"] {
		case mock.AssumedRole:
			body["role_arns"] = role.ARNs
			if len(role.ARNs) == 0 {
				body["role_arns"] = "arn:aws:iam::123456789012:role/" + role.Name
			}
		default:
			body["policy_arns"] = "arn:aws:iam::aws:policy/ReadOnlyAccess"
		}
		if role.TTL > 0 {
			body["default_sts_ttl"] = seconds(role.TTL)
		}
		if role.MaxTTL > 0 {
			body["max_sts_ttl"] = seconds(role.MaxTTL)
		}
		s.write(awsMount(role.Mount)+"/roles/"+role.Name, body)
	}
	for _, role := range o.StaticRoles {
		s.write(awsMount(role.Mount)+"/static-roles/"+role.Name, map[string]any{
			"username": cmp.Or(role.User, role.Name), "rotation_period": seconds(cmp.Or(role.Period, 24*time.Hour)),
		})
	}
	for _, kv := range o.KV {
		version := cmp.Or(kv.Version, 2)
		path := s.mount(kv.Mount, "secret", "kv", map[string]string{"version": fmt.Sprint(version)})
		for name, data := range kv.Secrets {
			if version == 2 {
				s.write(path+"/data/"+name, map[string]any{"data": data})
			} else {
				s.write(path+"/"+name, data)
			}
		}
	}
}

// identities makes the roles of identity tokens.
func (s *realSetup) identities(roles []mock.VaultOIDCRole) {
	s.t.Helper()
	for _, role := range roles {
		s.write("identity/oidc/key/purser", map[string]string{"allowed_client_ids": "*"})
		s.write("identity/oidc/role/"+role.Name, map[string]any{"key": "purser", "client_id": role.ClientID, "ttl": seconds(cmp.Or(role.TTL, 24*time.Hour))})
	}
}

// policies writes those of the options, and the one that the fake has by itself.
func (s *realSetup) policies(o mock.VaultOptions) {
	s.t.Helper()
	all := map[string][]mock.VaultRule{"purser": {{Path: "sys/leases/revoke", Capabilities: []string{"update"}}}}
	for path, kind := range s.mounts {
		switch kind {
		case "aws":
			for _, below := range []string{"/creds/*", "/sts/*", "/static-creds/*", "/roles/*"} {
				all["purser"] = append(all["purser"], mock.VaultRule{Path: path + below, Capabilities: []string{"read", "update", "list"}})
			}
		case "kv":
			all["purser"] = append(all["purser"], mock.VaultRule{Path: path + "/*", Capabilities: []string{"read", "list"}})
		}
	}
	if len(o.OIDCRoles) > 0 {
		all["purser"] = append(all["purser"], mock.VaultRule{Path: "identity/oidc/token/*", Capabilities: []string{"read"}})
	}
	maps.Copy(all, o.Policies)
	for name, rules := range all {
		var text strings.Builder
		for _, rule := range rules {
			fmt.Fprintf(&text, "path %q { capabilities = [\"%s\"]\n", rule.Path, strings.Join(rule.Capabilities, `", "`))
			if rule.MinWrap > 0 {
				fmt.Fprintf(&text, "min_wrapping_ttl = \"%v\"\n", rule.MinWrap)
			}
			if rule.MaxWrap > 0 {
				fmt.Fprintf(&text, "max_wrapping_ttl = \"%v\"\n", rule.MaxWrap)
			}
			text.WriteString("}\n")
		}
		s.write("sys/policies/acl/"+name, map[string]string{"policy": text.String()})
	}
}

// grant is what a login gives, in the words of every method.
func grant(g mock.VaultGrant, more map[string]any) map[string]any {
	body := map[string]any{
		"token_policies": g.Policies, "token_ttl": seconds(g.TTL), "token_max_ttl": seconds(g.MaxTTL), "token_period": seconds(g.Period),
		"token_num_uses": g.NumUses, "token_bound_cidrs": g.BoundCIDRs, "token_no_default_policy": g.NoDefault,
	}
	if len(g.Policies) == 0 {
		body["token_policies"] = "purser"
	}
	if g.Batch {
		body["token_type"] = "batch"
	}
	maps.Copy(body, more)
	return body
}

// logins enables the methods and makes their roles.
func (s *realSetup) logins(o mock.VaultOptions, c *vaultContract) {
	s.t.Helper()
	for _, role := range o.AppRoles {
		path := s.mount(role.Mount, "auth/approle", "approle", nil) + "/role/" + role.Name
		s.write(path, grant(role.VaultGrant, nil))
		s.write(path+"/role-id", map[string]string{"role_id": role.RoleID})
		for _, one := range role.SecretIDs {
			s.write(path+"/custom-secret-id", map[string]any{"secret_id": one.ID, "num_uses": one.Uses, "ttl": seconds(one.TTL), "cidr_list": one.CIDRs})
		}
	}
	for _, user := range o.Users {
		path := s.mount(user.Mount, "auth/userpass", "userpass", nil)
		s.write(path+"/users/"+user.Name, grant(user.VaultGrant, map[string]any{"password": user.Password}))
	}
	for _, role := range o.JWTRoles {
		path := s.mount(role.Mount, "auth/jwt", "jwt", nil)
		s.write(path+"/config", map[string]any{"jwt_validation_pubkeys": c.publicKey()})
		s.write(path+"/role/"+role.Name, grant(role.VaultGrant, map[string]any{
			"role_type": "jwt", "user_claim": "sub", "bound_audiences": role.Audiences, "bound_subject": role.Subject,
		}))
	}
	for _, role := range o.CertRoles {
		path := s.mount(role.Mount, "auth/cert", "cert", nil)
		s.write(path+"/certs/"+role.Name, grant(role.VaultGrant, map[string]any{
			"certificate": string(c.authority.PEM), "allowed_common_names": role.CommonNames,
		}))
	}
	for _, role := range o.TokenRoles {
		body := grant(role.VaultGrant, map[string]any{"allowed_policies": role.Allowed, "orphan": role.Orphan, "renewable": !role.Fixed, "token_explicit_max_ttl": seconds(role.MaxTTL)})
		for _, no := range []string{"token_policies", "token_ttl", "token_max_ttl"} {
			delete(body, no)
		}
		s.write("auth/token/roles/"+role.Name, body)
	}
}
