package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
)

// processTime bounds a credential-process call: the SDK that runs it waits.
const processTime = 2 * time.Second

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
	c, err := (frontEnd{base, tokenFile}).credential(ctx, name)
	if err != nil {
		return err
	}
	return writeProcess(out, c)
}

// writeProcess writes what the SDKs want of a process.
func writeProcess(out io.Writer, c *answeredCredential) error {
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
