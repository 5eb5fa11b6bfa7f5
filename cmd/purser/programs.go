package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/purser-agent/purser/pkg/caller"
	"github.com/purser-agent/purser/pkg/helper"
	"github.com/purser-agent/purser/pkg/privilege"
	"github.com/purser-agent/purser/pkg/upstream"
)

// directoryTime is more than any question to the user database may take.
const directoryTime = 10 * time.Second

// accountsBy is the user database with getent run by others, as the sandbox forbids the
// daemon to run anything.
func accountsBy(programs upstream.Programs) *caller.Accounts {
	return &caller.Accounts{Run: func(ctx context.Context, args []string, most int) ([]byte, int, error) {
		if _, err := os.Stat(args[0]); err != nil { // many systems have no directory
			return nil, 0, err
		}
		p := upstream.Program{Args: args, Env: []string{"LC_ALL=C"}, Timeout: directoryTime, Most: most}
		printed, err := programs.Run(ctx, p, func(string) {})
		if exit, ok := errors.AsType[upstream.ExitError](err); ok {
			return printed, exit.Code, nil
		}
		return printed, 0, err
	}}
}

// helperCommand is what serve and check start, right after root was given up, to run
// programs for them.
func helperCommand() *cobra.Command {
	return &cobra.Command{
		Use:    helper.Command,
		Short:  "Run programs for the daemon, which starts this itself",
		Hidden: true,
		RunE: func(*cobra.Command, []string) error {
			if err := privilege.Harden(); err != nil {
				return err
			}
			return helper.Serve()
		},
	}
}
