package vault

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// Whatever a server answers, keys are whole and live no longer than any can, or there
// is an error that quotes nothing.
func FuzzKeysAreWholeWhateverVaultAnswers(f *testing.F) {
	for _, body := range []string{
		`{"lease_duration":3600,"data":{"access_key":"ASIA1","secret_key":"CONFIDENTIAL","security_token":"CONFIDENTIAL","ttl":3599}}`,
		`{"lease_duration":2764800,"data":{"access_key":"ASIA1","secret_key":"CONFIDENTIAL","session_token":"x","ttl":18446744073709551316,"arn":"arn:aws:sts::1:x"}}`,
		`{"lease_id":"x","renewable":true,"lease_duration":2764800,"data":{"access_key":"AKIA1","secret_key":"CONFIDENTIAL","security_token":null}}`,
		`{"data":{"data":{"access_key":"AKIA1","secret_key":"CONFIDENTIAL"},"metadata":{"version":1}}}`,
		`{"data":{"access_key":["CONFIDENTIAL"],"secret_key":"CONFIDENTIAL\n"}}`, `{"data":null}`, `[]`, ``,
	} {
		f.Add([]byte(body), true)
		f.Add([]byte(body), false)
	}
	f.Fuzz(func(t *testing.T, body []byte, user bool) {
		s, err := decode(&upstream.Answer{Status: 200, Body: body})
		if err != nil {
			return
		}
		end := time.Now().Add(time.Hour)
		for _, e := range []engine{
			&awsRole{options: Role{AllowIAMUser: user}, mount: "aws", path: "creds/web", session: &script{secrets: []*secret{s, {}}, end: end}, leases: newLeases(&script{secrets: []*secret{{}}}, quiet), unknown: new(atomic.Int64), log: quiet},
			&kvKeys{options: KVKeys{Path: "web", Version: 2}, mount: "secret", session: &script{secrets: []*secret{s}}},
			&staticKeys{session: &script{secrets: []*secret{s}}, path: "aws/static-creds/web"},
			&identityToken{session: &script{secrets: []*secret{s}}, role: "web"},
		} {
			c, err := e.fetch(t.Context())
			if err != nil {
				if c != nil || strings.Contains(err.Error(), "CONFIDENTIAL") {
					t.Errorf("%T: %v, %v", e, c, err)
				}
				continue
			}
			_, expires := c.Lifetime()
			_, isToken := c.(*credential.Token)
			if keys, ok := c.(*credential.AWS); ok && (keys.AccessKeyID == "" || keys.SecretAccessKey.Empty()) {
				t.Errorf("%T: keys that are not whole", e)
			}
			if !isToken && time.Until(expires) > longestSession {
				t.Errorf("%T: until %v", e, expires)
			}
			if e.reread() < 0 {
				t.Errorf("%T: read again after %v", e, e.reread())
			}
		}
	})
}
