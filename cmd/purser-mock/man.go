package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func manCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "man",
		Short: "Prints the manual page",
		Args:  usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			header := &doc.GenManHeader{Title: "PURSER-MOCK", Section: "1", Source: "Purser " + version, Manual: "Purser manual"}
			cmd.Root().DisableAutoGenTag = true // the same bytes for the same version
			return doc.GenMan(cmd.Root(), header, cmd.OutOrStdout())
		},
	}
}
