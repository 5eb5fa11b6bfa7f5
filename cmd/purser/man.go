package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Println("purser", version)
			return err
		},
	}
}

func manCommand() *cobra.Command {
	var folder string
	c := &cobra.Command{
		Use:   "man",
		Short: "Print the manual page, or write one page per command to a folder",
	}
	c.Flags().StringVar(&folder, "folder", "", "write purser.1 and one page for each command there")
	_ = c.MarkFlagDirname("folder")
	c.RunE = func(c *cobra.Command, _ []string) error {
		c.Root().DisableAutoGenTag = true // the same bytes for the same version
		if folder == "" {
			page, err := manualPage(c.Root())
			if err == nil {
				_, err = os.Stdout.Write(page)
			}
			return err
		}
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		return writePages(c.Root(), folder)
	}
	return c
}

// writePages writes the pages of c and of the commands below it.
func writePages(c *cobra.Command, folder string) error {
	for _, below := range c.Commands() {
		if below.IsAvailableCommand() {
			if err := writePages(below, folder); err != nil {
				return err
			}
		}
	}
	page, err := manualPage(c)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, pageName(c)+".1"), page, 0o644)
}

func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// manualPage is the page of cobra with sections that it does not have.
func manualPage(c *cobra.Command) ([]byte, error) {
	header := &doc.GenManHeader{Title: strings.ToUpper(pageName(c)), Section: "1", Source: "Purser " + version, Manual: "Purser manual"}
	var page bytes.Buffer
	if err := doc.GenMan(c, header, &page); err != nil {
		return nil, err
	}
	more := exitStatus + usualFiles
	if !c.HasParent() {
		more = commandsOf(c) + more
	}
	before, seeAlso, found := strings.Cut(page.String(), ".SH SEE ALSO")
	if found {
		seeAlso = ".SH SEE ALSO" + seeAlso
	}
	return []byte(strings.TrimRight(before, "\n") + "\n" + more + seeAlso), nil
}

// commandsOf is a section with what each command is for.
func commandsOf(c *cobra.Command) string {
	var section strings.Builder
	section.WriteString(".SH COMMANDS\n")
	for _, below := range c.Commands() {
		if below.IsAvailableCommand() {
			section.WriteString(entry(pageName(below)+"(1)", below.Short))
		}
	}
	return section.String()
}

func entry(tag, text string) string {
	escape := strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace
	return ".TP\n\\fB" + escape(tag) + "\\fP\n" + escape(text) + "\n"
}

// What every page has.
var (
	exitStatus = ".SH EXIT STATUS\n" +
		entry("0", "good") +
		entry("1", "failed") +
		entry("2", "wrong usage or configuration") +
		entry("3", "Purser is not running")
	usualFiles = ".SH FILES\n" +
		entry("/etc/purser/purser.yaml", "the configuration, with every key explained") +
		entry("/etc/purser/conf.d/*.yaml", "read after it, in alphabetical order") +
		entry("/run/purser/purser.sock", "the admin socket") +
		entry("/run/purser/authorization", "the token that container credentials need") +
		entry("/usr/share/doc/purser/", "README and examples")
)
