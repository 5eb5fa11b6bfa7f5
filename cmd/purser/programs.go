package main

import (
	"github.com/spf13/cobra"

	"github.com/purser-agent/purser/pkg/helper"
	"github.com/purser-agent/purser/pkg/privilege"
)

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
