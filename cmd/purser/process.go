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

	"github.com/spf13/cobra"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/status"
)

// processTime bounds a credential-process call: the SDK that runs it waits.
const processTime = 2 * time.Second

// maxProcessAnswer bounds what is read from the front end, in bytes.
const maxProcessAnswer = 1 << 20

func credentialProcessCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "credential-process NAME",
		Short: "Print a credential for credential_process in ~/.aws/config",
		Long: `Print a credential in the form of credential_process, as the AWS SDKs want it:

    [profile backup]
    credential_process = purser credential-process backup

It asks the front end like any other program, so the grants decide.`,
		Args: cobra.ExactArgs(1),
	}
	base := c.Flags().String("url", "http://127.0.0.1:25772", "where the front end listens")
	tokenFile := c.Flags().String("token-file", besideSocket(authorizationFile), "the front end's authorization token")
	c.RunE = func(_ *cobra.Command, args []string) error {
		ctx, cancel := context.WithTimeoutCause(context.Background(), processTime, fmt.Errorf("no answer within %v", processTime))
		defer cancel()
		return credentialProcess(ctx, *base, *tokenFile, args[0], os.Stdout)
	}
	return c
}

// credentialProcess prints one line on success and nothing otherwise.
func credentialProcess(ctx context.Context, base, tokenFile, name string, out io.Writer) error {
	if u, err := url.Parse(base); err != nil || u.Scheme != "http" || u.Host == "" {
		return usageError{fmt.Errorf("--url %q is not a URL such as http://127.0.0.1:25772", base)}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(base, "/")+"/v2/credentials/"+url.PathEscape(name), nil)
	if err != nil {
		return usageError{err}
	}
	token, err := (credential.SecretRef{File: tokenFile}).Read()
	switch {
	case err == nil:
		r.Header.Set("Authorization", token.Reveal())
	case !errors.Is(err, os.ErrNotExist): // then the front end may do without
		return fmt.Errorf("--token-file: %w", err)
	}
	// Purser is on this host: no proxy, and never a redirect with the token in hand.
	client := &http.Client{
		Transport:     &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	answer, err := client.Do(r)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("asking for credential %q: %w: %w; start it, or name its listener with --url", name, status.ErrNotRunning, err)
	}
	if err != nil {
		return fmt.Errorf("asking for credential %q: %w; is purser running, and does --url name its listener?", name, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxProcessAnswer))
	if err != nil {
		return fmt.Errorf("asking for credential %q: %w", name, err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("asking for credential %q: status %d: %s", name, answer.StatusCode,
			advice(answer.StatusCode, base, tokenFile, !token.Empty()))
	}
	return writeProcess(out, name, body)
}

// advice says what to do about a refusal.
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

// writeProcess turns the answer of the front end into that of a process.
func writeProcess(out io.Writer, name string, body []byte) error {
	var c struct {
		AccessKeyId, SecretAccessKey, Expiration, AccountId string
		Token                                               *string // empty for the keys of an IAM user
	}
	err := json.Unmarshal(body, &c)
	if err == nil {
		_, err = time.Parse(time.RFC3339, c.Expiration)
	}
	if err != nil || c.AccessKeyId == "" || c.SecretAccessKey == "" || c.Token == nil { // err may quote the answer
		return fmt.Errorf("asking for credential %q: the answer is not a credential; does --url name Purser's listener?", name)
	}
	line, err := json.Marshal(struct {
		Version         int
		AccessKeyId     string
		SecretAccessKey string
		SessionToken    string `json:",omitempty"`
		Expiration      string
		AccountId       string `json:",omitempty"`
	}{1, c.AccessKeyId, c.SecretAccessKey, *c.Token, c.Expiration, c.AccountId})
	if err != nil {
		return err
	}
	_, err = out.Write(append(line, '\n'))
	return err
}
