package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// An api is the one part of AWS that the clients call, GetCallerIdentity of STS. It
// refuses what AWS refuses: keys that no upstream issued, expired keys, a wrong
// session token, and a signature that was not made with the secret key. The ARN in
// its answer ends in the access key ID.
type api struct {
	URL    string
	issued func(accessKeyID string) (keys, bool)
}

// keys is one credential document, as the upstream issued it.
type keys struct {
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string
	Token           string
	Expiration      time.Time
}

// newAPI serves on the listener until the test ends.
func newAPI(t *testing.T, l net.Listener, issued func(string) (keys, bool)) *api {
	a := &api{URL: "http://" + l.Addr().String(), issued: issued}
	serve(t, l, a)
	return a
}

// serve answers on the listener until the test ends.
func serve(t *testing.T, l net.Listener, h http.Handler) {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/xml")
	used, err := a.authenticate(r)
	if err != nil {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>`+
			`<Code>AccessDenied</Code><Message>%v</Message></Error><RequestId>1</RequestId></ErrorResponse>`, err)
		return
	}
	fmt.Fprintf(w, `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>`+
		`<Arn>arn:aws:sts::123456789012:assumed-role/e2e/%s</Arn><UserId>AROAEXAMPLE:e2e</UserId><Account>123456789012</Account>`+
		`</GetCallerIdentityResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></GetCallerIdentityResponse>`, used)
}

var authorization = regexp.MustCompile(
	`^AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8}/[^/]+/sts/aws4_request), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$`)

func (a *api) authenticate(r *http.Request) (accessKeyID string, err error) {
	parts := authorization.FindStringSubmatch(r.Header.Get("Authorization"))
	if parts == nil {
		return "", errors.New("the request is not signed")
	}
	id, scope, signed, signature := parts[1], parts[2], parts[3], parts[4]
	k, found := a.issued(id)
	switch {
	case !found:
		return "", fmt.Errorf("nobody issued the key %s", id)
	case time.Now().After(k.Expiration):
		return "", fmt.Errorf("the key %s has expired", id)
	case r.Header.Get("X-Amz-Security-Token") != k.Token:
		return "", errors.New("wrong session token")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return "", err
	}
	toSign := strings.Join([]string{"AWS4-HMAC-SHA256", r.Header.Get("X-Amz-Date"), scope,
		hash([]byte(canonical(r, signed, body)))}, "\n")
	key := []byte("AWS4" + k.SecretAccessKey)
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(key, part)
	}
	if hex.EncodeToString(mac(key, toSign)) != signature {
		return "", errors.New("the signature does not match")
	}
	return id, nil
}

// canonical is the canonical request of Signature Version 4, for a path and a query
// that need no escaping.
func canonical(r *http.Request, signed string, body []byte) string {
	lines := []string{r.Method, r.URL.Path, r.URL.RawQuery}
	for name := range strings.SplitSeq(signed, ";") {
		value := r.Header.Get(name)
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = strconv.FormatInt(r.ContentLength, 10)
		}
		lines = append(lines, name+":"+strings.TrimSpace(value))
	}
	return strings.Join(append(lines, "", signed, hash(body)), "\n")
}

func hash(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func mac(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}
