package mock

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
)

// A VaultAWSLogin logs in with a signed GetCallerIdentity call.
type VaultAWSLogin struct {
	Mount    string   // auth/aws if empty
	Name     string   // of the role
	By       []string // names of the roles or users whose keys may sign; empty for all
	ServerID string   // that the header X-Vault-AWS-IAM-Server-ID must have, and be signed; empty for none
	VaultGrant
}

const serverIDHeader = "X-Vault-Aws-Iam-Server-Id"

// awsLogin verifies the signature with the keys that the stand-ins made, as AWS would.
func (v *Vault) awsLogin(c *vaultCall) (*envelope, *vaultError) {
	if c.below != "login" {
		return nil, errPath
	}
	if refusal := c.only(canUpdate); refusal != nil {
		return nil, refusal
	}
	at := slices.IndexFunc(v.o.AWSLogins, func(l VaultAWSLogin) bool { return l.Mount == c.mount && l.Name == c.text("role") })
	if at < 0 {
		return nil, refuse(http.StatusBadRequest, "entry for role %q not found", c.text("role"))
	}
	role := v.o.AWSLogins[at]
	call, body, problem := carried(c)
	if problem != "" {
		return nil, refuse(http.StatusBadRequest, "%s", problem)
	}
	if form, err := url.ParseQuery(string(body)); err != nil || form.Get("Action") != "GetCallerIdentity" || form.Get("Version") != "2011-06-15" {
		return nil, refuse(http.StatusBadRequest, "invalid request")
	}
	if role.ServerID != "" {
		signed, ok := parseSignature(call.Header.Get("Authorization"))
		if call.Header.Get(serverIDHeader) != role.ServerID || !ok || !slices.Contains(signed.headers, "x-vault-aws-iam-server-id") {
			return nil, refuse(http.StatusBadRequest, "error validating X-Vault-AWS-IAM-Server-ID header: expected %q but got %q", role.ServerID, call.Header.Get(serverIDHeader))
		}
	}
	signer, refusal := verify(call, body, v.o.Keys, "sts", "", c.now)
	if refusal != nil {
		return nil, refuse(http.StatusBadRequest, "error making upstream request: received error code %d from STS: %s", refusal.status, refusal.reply().body)
	}
	if len(role.By) > 0 && !slices.Contains(role.By, signer.of) {
		return nil, refuse(http.StatusBadRequest, "IAM Principal %q does not belong to the role %q", "arn:aws:sts::123456789012:assumed-role/"+signer.of, role.Name)
	}
	return v.login(c, role.VaultGrant, path.Base(c.mount)+"-"+signer.of, map[string]string{"auth_type": "iam", "role_id": role.Name})
}

// carried unpacks the request that a login carries, or tells what is wrong with it.
func carried(c *vaultCall) (call *http.Request, body []byte, problem string) {
	if c.text("iam_http_request_method") == "" {
		return nil, nil, "missing iam_http_request_method"
	}
	if c.text("iam_http_request_method") != http.MethodPost {
		return nil, nil, "invalid iam_http_request_method; currently only 'POST' is supported"
	}
	address, err := base64.StdEncoding.DecodeString(c.text("iam_request_url"))
	if err != nil {
		return nil, nil, "failed to base64 decode iam_request_url"
	}
	if body, err = base64.StdEncoding.DecodeString(c.text("iam_request_body")); err != nil || len(body) == 0 {
		return nil, nil, "failed to base64 decode iam_request_body"
	}
	call, err = http.NewRequest(http.MethodPost, string(address), io.NopCloser(bytes.NewReader(body)))
	if err != nil || call.URL.Host == "" {
		return nil, nil, "error parsing iam_request_url"
	}
	call.ContentLength = int64(len(body))
	headers, ok := c.fields["iam_request_headers"].(map[string]any)
	if text, decodeErr := base64.StdEncoding.DecodeString(c.text("iam_request_headers")); !ok {
		if decodeErr != nil || json.Unmarshal(text, &headers) != nil {
			return nil, nil, "missing iam_request_headers"
		}
	}
	for name, value := range headers {
		values, ok := value.([]any)
		if !ok {
			values = []any{value}
		}
		for _, one := range values {
			if text, ok := one.(string); ok {
				call.Header.Add(name, text)
			}
		}
	}
	if host := call.Header.Get("Host"); host != "" {
		call.Host = host
	}
	return call, body, ""
}
