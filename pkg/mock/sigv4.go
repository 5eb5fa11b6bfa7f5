package mock

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An awsError is an error as its services answer it.
type awsError struct {
	status  int
	code    string
	message string
}

const signedTime = "20060102T150405Z"

// maxClockDifference is how far a signature's time may be from ours.
const maxClockDifference = 15 * time.Minute

// hmacAlgorithm is that of signatures with keys.
const hmacAlgorithm = "AWS4-HMAC-SHA256"

// A signature is the Authorization header of Signature Version 4.
type signature struct {
	id      string   // of the keys, or the certificate's serial number
	scope   []string // date, region, service, aws4_request
	headers []string // names of those that are signed
	value   string
}

// parseSignature reads one that was made with keys.
func parseSignature(header string) (s signature, ok bool) {
	return parseSignatureBy(hmacAlgorithm, header)
}

func parseSignatureBy(algorithm, header string) (s signature, ok bool) {
	fields, ok := strings.CutPrefix(header, algorithm+" ")
	if !ok {
		return s, false
	}
	for field := range strings.SplitSeq(fields, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch name {
		case "Credential":
			parts := strings.Split(value, "/")
			s.id, s.scope = parts[0], parts[1:]
		case "SignedHeaders":
			s.headers = strings.Split(value, ";")
		case "Signature":
			s.value = value
		}
	}
	return s, len(s.scope) == 4 && s.value != "" && slices.IsSorted(s.headers)
}

// verify checks the signature of a request to a service by a clock, and returns the
// keys that it was signed with. It follows the description of Signature Version 4 in
// AWS's documentation and shares nothing with the client that it is to test.
func verify(r *http.Request, body []byte, known *Keys, service, region string, now time.Time) (key, *awsError) {
	s, ok := parseSignature(r.Header.Get("Authorization"))
	if !ok {
		return key{}, &awsError{http.StatusForbidden, "MissingAuthenticationToken", "Request is missing Authentication Token"}
	}
	signer, ok := known.find(s.id)
	token := r.Header.Get("X-Amz-Security-Token")
	deleted := ok && signer.token == "" && !now.Before(signer.ends)
	if !ok || token != signer.token || deleted {
		return key{}, &awsError{http.StatusForbidden, "InvalidClientTokenId", "The security token included in the request is invalid."}
	}
	signed, err := time.Parse(signedTime, r.Header.Get("X-Amz-Date"))
	wrong := &awsError{http.StatusForbidden, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided."}
	switch {
	case err != nil || s.scope[0] != signed.Format("20060102") || s.scope[2] != service || s.scope[3] != "aws4_request":
		return key{}, wrong
	case region != "" && s.scope[1] != region:
		wrong.message = "Credential should be scoped to a valid region."
		return key{}, wrong
	case now.Sub(signed).Abs() > maxClockDifference:
		wrong.message = "Signature expired or not yet current."
		return key{}, wrong
	}
	for _, needed := range []string{"host", "x-amz-date", "x-amz-security-token"} {
		if needed == "x-amz-security-token" && token == "" {
			continue
		}
		if !slices.Contains(s.headers, needed) {
			return key{}, wrong
		}
	}
	if !hmac.Equal([]byte(s.value), []byte(sign(r, body, s, signer.secret))) {
		return key{}, wrong
	}
	if !now.Before(signer.ends) {
		return key{}, &awsError{http.StatusForbidden, "ExpiredToken", "The security token included in the request is expired"}
	}
	return signer, nil
}

// sign computes the signature that a request should have.
func sign(r *http.Request, body []byte, s signature, secretKey string) string {
	derived := []byte("AWS4" + secretKey)
	for _, part := range append(slices.Clone(s.scope), toSign(r, body, s, hmacAlgorithm)) {
		mac := hmac.New(sha256.New, derived)
		mac.Write([]byte(part))
		derived = mac.Sum(nil)
	}
	return hex.EncodeToString(derived)
}

// toSign is what the signature of a request is made of.
func toSign(r *http.Request, body []byte, s signature, algorithm string) string {
	var canonical strings.Builder
	canonical.WriteString(r.Method + "\n" + canonicalPath(r.URL) + "\n" + canonicalQuery(r.URL) + "\n")
	for _, name := range s.headers {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = strconv.FormatInt(r.ContentLength, 10)
		}
		canonical.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	canonical.WriteString("\n" + strings.Join(s.headers, ";") + "\n" + sum(body))
	return strings.Join([]string{algorithm, r.Header.Get("X-Amz-Date"), strings.Join(s.scope, "/"), sum([]byte(canonical.String()))}, "\n")
}

func canonicalPath(u *url.URL) string {
	if path := u.EscapedPath(); path != "" {
		return path
	}
	return "/"
}

// canonicalQuery is sorted already, and differs from Encode in the blank.
func canonicalQuery(u *url.URL) string { return strings.ReplaceAll(u.Query().Encode(), "+", "%20") }

func sum(b []byte) string {
	digest := sha256.Sum256(b)
	return hex.EncodeToString(digest[:])
}
