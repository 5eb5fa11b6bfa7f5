// Command bench measures the built binaries on this machine and prints the table of
// the README, or the parts of it that its arguments name. Serving is compared, round by round in turn, with a bare net/http
// server that writes the same bytes, so that the ratios mean something on any
// machine. It leaves judging to the reader: nothing here passes or fails.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
)

// A row is one line of the table.
type row struct{ what, bar, measured string }

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "purser-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := os.Chmod(work, 0o755); err != nil { // Purser is another user than root's
		return err
	}

	var rows []row
	for _, part := range []struct {
		name    string
		measure func(root, work string) ([]row, error)
	}{
		{"serving", serving},
		{"reading", reading},
		{"memory", memory},
		{"start", start},
		{"size", size},
		{"refreshing", refreshing},
		{"fleet", fleet},
		{"prefetch", prefetch},
	} {
		if len(os.Args) > 1 && !slices.Contains(os.Args[1:], part.name) {
			continue
		}
		fmt.Fprintln(os.Stderr, "measuring:", part.name)
		more, err := part.measure(root, work)
		if err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		rows = append(rows, more...)
	}
	return print(rows)
}

// print writes a Markdown table.
func print(rows []row) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 1, ' ', tabwriter.Debug)
	for _, r := range append([]row{{"what", "bar", "measured"}, {"---", "---", "---"}}, rows...) {
		fmt.Fprintf(w, "| %s\t %s\t %s\t\n", r.what, r.bar, r.measured)
	}
	return w.Flush()
}
