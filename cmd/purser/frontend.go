package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/status"
)

// A frontEnd is the daemon's, as a program on this host reaches it. What asks there is
// judged by the grants like any other.
type frontEnd struct {
	base      string // URL
	tokenFile string // with the authorization token of container credentials
}

// maxProcessAnswer bounds what is read from the front end, in bytes.
const maxProcessAnswer = 1 << 20

// An answeredCredential is what the front end answers, checked to be whole.
type answeredCredential struct {
	AccessKeyId, SecretAccessKey, Expiration, AccountId string
	Token                                               *string // empty for the keys of an IAM user
}

// A refusedAnswer is one other than a credential.
type refusedAnswer struct {
	code int
	text string
}

func (r refusedAnswer) Error() string { return r.text }

// credential asks for a credential by its name, or for the caller's first if that is
// empty.
func (f frontEnd) credential(ctx context.Context, name string) (*answeredCredential, error) {
	if u, err := url.Parse(f.base); err != nil || u.Scheme != "http" || u.Host == "" {
		return nil, usageError{fmt.Errorf("--url %q is not a URL such as http://127.0.0.1:25772", f.base)}
	}
	path, what := "/v1/credentials", "the first credential"
	if name != "" {
		path, what = "/v2/credentials/"+url.PathEscape(name), fmt.Sprintf("credential %q", name)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(f.base, "/")+path, nil)
	if err != nil {
		return nil, usageError{err}
	}
	token, err := (credential.SecretRef{File: f.tokenFile}).Read()
	switch {
	case err == nil:
		r.Header.Set("Authorization", token.Reveal())
	case !errors.Is(err, os.ErrNotExist): // then the front end may do without
		return nil, fmt.Errorf("--token-file: %w", err)
	}
	// Purser is on this host: no proxy, and never a redirect with the token in hand.
	client := &http.Client{
		Transport:     &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	answer, err := client.Do(r)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("asking for %s: %w: %w; start it, or name its listener with --url", what, status.ErrNotRunning, err)
	}
	if err != nil {
		return nil, fmt.Errorf("asking for %s: %w; is purser running, and does --url name its listener?", what, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxProcessAnswer))
	if err != nil {
		return nil, fmt.Errorf("asking for %s: %w", what, err)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, refusedAnswer{answer.StatusCode, fmt.Sprintf("asking for %s: status %d: %s", what, answer.StatusCode,
			advice(answer.StatusCode, f.base, f.tokenFile, !token.Empty()))}
	}
	c, ok := parseAnswered(body)
	if !ok {
		return nil, fmt.Errorf("asking for %s: the answer is not a credential; does --url name Purser's listener?", what)
	}
	return c, nil
}

// parseAnswered reads the answer of the front end. It says no more than that something
// is wrong, since an error could quote the answer.
func parseAnswered(body []byte) (*answeredCredential, bool) {
	c := &answeredCredential{}
	err := json.Unmarshal(body, c)
	if err == nil {
		_, err = time.Parse(time.RFC3339, c.Expiration)
	}
	return c, err == nil && c.AccessKeyId != "" && c.SecretAccessKey != "" && c.Token != nil
}

// advice says what to do about a refusedAnswer.
func advice(code int, base, tokenFile string, hadToken bool) string {
	switch {
	case code == http.StatusUnauthorized && !hadToken:
		return fmt.Sprintf("the front end wants its token, and there is no %s; see --token-file", tokenFile)
	case code == http.StatusUnauthorized:
		return fmt.Sprintf("the token in %s is not the front end's", tokenFile)
	case code == http.StatusForbidden:
		return "the front end refuses this way of asking; see its log"
	case code == http.StatusNotFound:
		return "there is no such credential, or no grant gives it to this user"
	case code == http.StatusServiceUnavailable:
		return "it is not in stock; see purser status"
	default:
		return fmt.Sprintf("%s is not Purser's container-credentials front end", base)
	}
}
