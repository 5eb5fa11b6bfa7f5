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

// A usageError is the fault of the configuration, or of what an argument says.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// A workError comes from a command at work. Any other error is about the command
// line, and no command has begun.
type workError struct{ error }

func (e workError) Unwrap() error { return e.error }

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	root := rootCommand()
	root.SetArgs(args)
	c, err := root.ExecuteC()
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "purser:", strings.TrimSpace(err.Error()))
	if _, atWork := errors.AsType[workError](err); !atWork {
		fmt.Fprintf(os.Stderr, "See %s --help.\n", c.CommandPath())
		return exitUsage
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
		Version:       version, // in cobra's words: a template of our own makes the binary a quarter larger
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(
		serveCommand(), checkCommand(), configCommand(),
		statusCommand(), refreshCommand(), waitCommand(), reloadCommand(),
		redirectCommand(), credentialProcessCommand(), credentialsFileCommand(), versionCommand(), manCommand(), helperCommand(),
	)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		prepare(c)
	}
	return root
}

// prepare makes c and the commands below it strict about their arguments, and marks
// the errors of their work.
func prepare(c *cobra.Command) {
	for _, below := range c.Commands() {
		prepare(below)
	}
	if c.Args == nil {
		c.Args = cobra.NoArgs
	}
	work := c.RunE
	switch c.Name() {
	case "help":
		c.Args, c.Run, c.RunE = cobra.ArbitraryArgs, nil, help
		return
	case "completion": // without a shell
		work = func(c *cobra.Command, _ []string) error { return c.Help() }
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := work(c, args); err != nil {
			return workError{err}
		}
		return nil
	}
}

// help is cobra's own, but for a command that does not exist, which it takes for no
// error.
func help(c *cobra.Command, names []string) error {
	about, _, err := c.Root().Find(names)
	if err != nil {
		return err
	}
	about.InitDefaultHelpFlag()
	return about.Help()
}
