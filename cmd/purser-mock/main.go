// Command purser-mock stands in for an upstream: for a first try of Purser without
// any infrastructure, and for tests that need an upstream to fail in a certain way.
// It makes keys that open nothing.
//
// The handlers are in pkg/mock; this package has the flags, the socket and the
// signals. A kind of upstream is one file here and one there.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/purser-agent/purser/pkg/mock"
)

// version is set when the binary is built.
var version = "dev"

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

// A usageError is the fault of the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := rootCommand(zerolog.New(stderr).With().Timestamp().Logger())
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "purser-mock:", err)
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}

const long = `purser-mock answers like the identity service (IMS) that alppaca and Purser ask:
the list of roles and a role's keys below /latest/meta-data/iam/security-credentials/.
The keys open nothing and carry the text ` + mock.Marker + `. Nobody is asked for a password:
it listens on loopback unless told otherwise.

A fault is KIND[=VALUE][,on=list|credentials][,role=NAME][,count=N][,for=TIME]. The kinds:
  latency=TIME hang slow=TIME reset garbage truncated  about the connection
  status=CODE[,retry-after=TIME][,retry-at=TIME] redirect   about the status
  empty malformed html huge gzip                       about the body
  incomplete failed expired short=TIME skew=TIME       about the document
  vanished                                             not in the list, and 404
  code=NAME                                            but for the IMS: AWS's error AccessDenied and so on
A script is a YAML list of faults that begin later, such as
  - {at: 30s, for: 1m, fault: "status=503,retry-after=10s"}

While it runs it takes orders below /_mock/ of the same address:
  curl 127.0.0.1:8080/_mock/faults                 what is and will be wrong
  curl -X PUT -d '["hang,count=3"]' .../faults     replaces that; POST adds, DELETE ends it
  curl 127.0.0.1:8080/_mock/requests               what was asked; DELETE begins anew
  curl -X PUT -d '["web", "batch:15m"]' .../roles  other roles

With --sts there is an STS beside it: it lets AssumeRole calls assume the roles of
--sts-role, or any, if they are signed with keys that this process made, and answers
with more of them. AssumeRoleWithWebIdentity calls take a token of --sts-provider, which
is verified by the keys that its issuer publishes. It takes the same orders below /_mock/
of its own address, and tells by GET /_mock/assumptions who assumed what.

With --vault there is a Vault beside it, with AWS keys below aws/sts/ and aws/creds/ that
the STS knows; the AppRole and the token that may read them stand behind its URL. It takes
the same orders, tells by GET /_mock/vault what was asked, and takes orders below that:
POST .../seal, unseal, standby?leader=URL and active; DELETE .../tokens and leases; PUT
.../policies/NAME and secrets/MOUNT/PATH; POST .../secret-ids/NAME. Its faults may be for
on=login|token|system too, and are of these kinds more:
  sealed uninitialized no-leader forbidden mfa lease-quota quota[,retry-after=TIME]
  lease=TIME ttl=TIME ttl-text no-expiry age=TIME      about the end of keys

With --roles-anywhere there is an IAM Roles Anywhere beside it, whose trust anchor is in
--roles-anywhere-ca: it gives sessions of any role for a certificate of that authority, if
the request is signed with its key. It takes the same orders, and tells by GET
/_mock/sessions who asked for what.

The URL for Purser's configuration is the only line on stdout, with those of the others
below it; each request is one on stderr. Exit codes: 0 good, 1 failed, 2 wrong usage.`

const examples = `  purser-mock
  purser-mock --role web --role batch:15m --fault latency=200ms
  purser-mock --roles 50 --script outage.yaml
  purser-mock --sts 127.0.0.1:8081 --sts-role arn:aws:iam::123456789012:role/demoRole
  purser-mock --vault 127.0.0.1:8200 --vault-role web --vault-role batch:iam_user
  purser-mock --roles-anywhere 127.0.0.1:8082 --roles-anywhere-ca ca.pem`

func rootCommand(log zerolog.Logger) *cobra.Command {
	var listen listenFlags
	var ims imsFlags
	var sts stsFlags
	var vault vaultFlags
	var anywhere anywhereFlags
	root := &cobra.Command{
		Use:           "purser-mock",
		Short:         "Stands in for the identity service that Purser asks, and fails on demand",
		Long:          long,
		Example:       examples,
		Args:          usage(cobra.NoArgs),
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			services, err := services(listen, ims, sts, vault, anywhere, log)
			if err != nil {
				return usageError{err}
			}
			return serveAll(cmd.Context(), listen, services, log, cmd.OutOrStdout())
		},
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.Flags().SortFlags = false
	listen.register(root.Flags())
	ims.register(root.Flags())
	sts.register(root.Flags())
	vault.register(root.Flags())
	anywhere.register(root.Flags())
	root.AddCommand(&cobra.Command{
		Use:   "version",
		Short: "Prints the version",
		Args:  usage(cobra.NoArgs),
		Run:   func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), "purser-mock", version) },
	}, manCommand())
	return root
}

// services are those that the flags ask for.
func services(listen listenFlags, ims imsFlags, sts stsFlags, vault vaultFlags, anywhere anywhereFlags, log zerolog.Logger) ([]service, error) {
	keys := &mock.Keys{}
	first, err := ims.handler(keys, log)
	if err != nil {
		return nil, err
	}
	all := []service{{"ims", listen.address, first, first.URL}}
	switch {
	case sts.address == "" && len(sts.roles)+len(sts.providers)+len(sts.faults) > 0:
		return nil, errors.New("--sts-role, --sts-provider and --sts-fault need --sts")
	case sts.address != "":
		handler, err := sts.handler(keys, log)
		if err != nil {
			return nil, err
		}
		all = append(all, service{"sts", sts.address, handler, func(server string) string { return server }})
	}
	switch {
	case vault.address == "" && vault.used():
		return nil, errors.New("--vault-role, --vault-approle, --vault-token and --vault-fault need --vault")
	case vault.address != "":
		handler, err := vault.handler(keys, log)
		if err != nil {
			return nil, err
		}
		all = append(all, service{"vault", vault.address, handler, vault.line})
	}
	switch {
	case anywhere.address == "" && anywhere.used():
		return nil, errors.New("--roles-anywhere-ca, --roles-anywhere-distrusting and --roles-anywhere-fault need --roles-anywhere")
	case anywhere.address != "":
		handler, err := anywhere.handler(keys, log)
		if err != nil {
			return nil, err
		}
		all = append(all, service{"roles-anywhere", anywhere.address, handler, func(server string) string { return server }})
	}
	return all, nil
}

// usage makes a wrong number of arguments an error of usage.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}
