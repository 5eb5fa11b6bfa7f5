// Command purser keeps cloud credentials in stock on a server outside the cloud,
// and hands each local program what it may have, in the words of the metadata
// services that its SDK knows. `purser serve` is the daemon; the other commands
// are for its operators.
//
// This package only puts the parts together: wire.go is the table of contents, and
// agent.go builds the line from upstream to front end in reading order.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/purser-agent/purser/pkg/status"
)

// version is set when the binary is built.
var version = "dev"

// Exit codes. Anything else that goes wrong is 1.
const (
	exitFailed     = 1
	exitUsage      = 2 // wrong usage or configuration
	exitNotRunning = 3
)

// A usageError is the fault of the command line or the configuration.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// A reportedError has been told to the user already.
type reportedError struct{ error }

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	root := rootCommand()
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return 0
	}
	if _, told := errors.AsType[reportedError](err); !told {
		fmt.Fprintln(os.Stderr, "purser:", strings.TrimSpace(err.Error()))
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	if errors.Is(err, status.ErrNotRunning) {
		return exitNotRunning
	}
	return exitFailed
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "purser",
		Short: "Keeps cloud credentials in stock and hands each local program its own",
		Long: `Purser fetches cloud credentials ahead of time, keeps them in memory and answers
unmodified SDKs in the words of the cloud's metadata service.

Exit codes: 0 good, 1 failed, 2 wrong usage or configuration, 3 not running.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see %s --help", err, c.CommandPath())}
	})
	root.CompletionOptions.HiddenDefaultCmd = false
	root.AddCommand(
		serveCommand(), checkCommand(), configCommand(),
		statusCommand(), refreshCommand(), waitCommand(), reloadCommand(),
		credentialProcessCommand(), versionCommand(), manCommand(),
	)
	for _, c := range root.Commands() {
		strict(c)
	}
	return root
}

// strict makes a wrong number of arguments an error of usage.
func strict(c *cobra.Command) {
	check := c.Args
	if check == nil {
		check = cobra.NoArgs
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return usageError{fmt.Errorf("%w; see %s --help", err, c.CommandPath())}
		}
		return nil
	}
}
