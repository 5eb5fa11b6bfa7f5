package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/purser-agent/purser/pkg/status"
)

// The commands in this file ask the running daemon on its admin socket.

// socketFlag adds --socket and returns how to get a client and a context that ends
// with Ctrl-C.
func socketFlag(c *cobra.Command) func() (*status.Client, context.Context, context.CancelFunc) {
	socket := c.Flags().String("socket", defaultSocket(), "admin socket of the running daemon")
	return func() (*status.Client, context.Context, context.CancelFunc) {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		return status.NewClient(*socket), ctx, stop
	}
}

func statusCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Show credentials, states, expiry, next refresh, last error and callers",
		Long: `Show credentials, their states, expiry, next refresh and last error, and who asks
most. Administrators see everything, others what they may have themselves.`,
	}
	connect := socketFlag(c)
	asJSON := c.Flags().Bool("json", false, "print JSON for scripts")
	watch := c.Flags().Bool("watch", false, "show again every two seconds until interrupted")
	c.MarkFlagsMutuallyExclusive("json", "watch")
	c.RunE = func(*cobra.Command, []string) error {
		client, ctx, stop := connect()
		defer stop()
		for {
			report, err := client.Status(ctx)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
			if *asJSON {
				encoder := json.NewEncoder(os.Stdout)
				encoder.SetIndent("", "  ")
				return encoder.Encode(report)
			}
			if *watch && isTerminal(os.Stdout) {
				fmt.Print("\x1b[H\x1b[2J") // cursor home, clear
			}
			table := status.Table{Color: colours(os.Stdout), Now: time.Now(), Width: width(os.Stdout)}
			if err := table.Write(os.Stdout, report); err != nil || !*watch {
				return err
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(2 * time.Second):
			}
		}
	}
	return c
}

func refreshCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "refresh [NAME...]",
		Short: "Fetch now: the named credentials, or the lists and everything",
		Args:  cobra.ArbitraryArgs,
	}
	connect := socketFlag(c)
	c.RunE = func(_ *cobra.Command, names []string) error {
		client, ctx, stop := connect()
		defer stop()
		return client.Refresh(ctx, names...)
	}
	return c
}

func waitCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "wait [NAME...]",
		Short: "Return when the named credentials, or all required ones, are in stock",
		Long: `Return when the named credentials, or all required ones, are in stock. A daemon that
is not running yet is waited for as well.`,
		Args: cobra.ArbitraryArgs,
	}
	connect := socketFlag(c)
	timeout := c.Flags().Duration("timeout", 0, "give up after this time, e.g. 30s; 0 waits without end")
	c.RunE = func(_ *cobra.Command, names []string) error {
		client, ctx, stop := connect()
		defer stop()
		if *timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeoutCause(ctx, *timeout, fmt.Errorf("not in stock after %v", *timeout))
			defer cancel()
		}
		return waitFor(ctx, client, names, os.Stderr)
	}
	return c
}

func waitFor(ctx context.Context, client *status.Client, names []string, progress io.Writer) error {
	var last string
	tell := func(missing []string) {
		line := strings.Join(missing, ", ")
		if line != last && isTerminal(os.Stderr) {
			fmt.Fprintln(progress, "purser: waiting for", line)
		}
		last = line
	}
	for {
		err := client.Wait(ctx, tell, names...)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w%s", context.Cause(ctx), missingText(last))
		}
		if !errors.Is(err, status.ErrNotRunning) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func missingText(missing string) string {
	if missing == "" {
		return ""
	}
	return ", still missing: " + missing
}

func reloadCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "reload",
		Short: "Take over a changed configuration, or say why not",
		Long: `Take over a changed configuration: all of it, or nothing. New and changed upstreams
must fetch once before anything changes; otherwise everything stays as it was.`,
	}
	connect := socketFlag(c)
	c.RunE = func(*cobra.Command, []string) error {
		client, ctx, stop := connect()
		defer stop()
		return client.Reload(ctx)
	}
	return c
}

// width is that of a terminal in characters, or 0.
func width(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}
