package vault

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/awsapi"
	"github.com/purser-agent/purser/pkg/credential"
)

// An awsMethod logs in with a request to STS that it signs and Vault sends: what STS
// answers tells Vault who signed it.
type awsMethod struct {
	auth  *Auth
	stock *awsapi.Follower[*credential.AWS]
	skew  func() time.Duration // of Vault's clock
	log   zerolog.Logger
}

const (
	whoAmI = "Action=GetCallerIdentity&Version=2011-06-15"
	// guardHeader is signed along, so that a login for one Vault is none for another.
	guardHeader = "X-Vault-AWS-IAM-Server-ID"
)

func (m *awsMethod) login(ctx context.Context, s sender) (*token, error) {
	what, keys, err := m.stock.Read()
	if err != nil {
		m.stock.Failed(nil)
		return nil, err
	}
	body, err := m.sign(ctx, keys)
	if err != nil {
		return nil, material("base", fmt.Errorf("signing with %s: %w", what, err))
	}
	t, err := logIn(ctx, s, m.auth, request{method: http.MethodPost, path: m.auth.loginPath(), body: body}, m.log)
	if err != nil {
		m.stock.Failed(keys)
	}
	return t, err
}

// sign makes the request for STS and writes it down as Vault wants it.
func (m *awsMethod) sign(ctx context.Context, keys *credential.AWS) (map[string]any, error) {
	region, address := m.auth.stsAddress()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(whoAmI))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	if m.auth.Header != "" {
		req.Header.Set(guardHeader, m.auth.Header)
	}
	signed := aws.Credentials{
		AccessKeyID:     keys.AccessKeyID,
		SecretAccessKey: keys.SecretAccessKey.Reveal(),
		SessionToken:    keys.SessionToken.Reveal(),
	}
	digest := sha256.Sum256([]byte(whoAmI))
	if err := v4.NewSigner().SignHTTP(ctx, signed, req, hex.EncodeToString(digest[:]), "sts", region, time.Now().Add(m.skew())); err != nil {
		return nil, errors.New("the SDK cannot sign with these keys")
	}
	req.Header.Set("Host", req.URL.Host)
	headers, err := json.Marshal(req.Header)
	if err != nil {
		return nil, err
	}
	encode := base64.StdEncoding.EncodeToString
	body := map[string]any{
		"iam_http_request_method": http.MethodPost,
		"iam_request_url":         encode([]byte(address)),
		"iam_request_body":        encode([]byte(whoAmI)),
		"iam_request_headers":     encode(headers),
	}
	if m.auth.Role != "" {
		body["role"] = m.auth.Role
	}
	return body, nil
}

// stsAddress is whom Vault shall ask, and the region to sign for. Without a region it
// is the endpoint that Vault asks unless it is told another.
func (a *Auth) stsAddress() (region, address string) {
	if a.Region == "" {
		return "us-east-1", "https://sts.amazonaws.com/"
	}
	place := awsapi.Place{Region: a.Region}
	return a.Region, place.URL("sts")
}
