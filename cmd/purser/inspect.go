package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/purser-agent/purser/pkg/config"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/helper"
	"github.com/purser-agent/purser/pkg/redirect"
	"github.com/purser-agent/purser/pkg/refresh"
	"github.com/purser-agent/purser/pkg/store"
	"github.com/purser-agent/purser/pkg/upstream"
)

// The commands in this file need no running daemon.

func configCommand() *cobra.Command {
	var paths []string
	c := &cobra.Command{
		Use:   "config",
		Short: "Print the merged configuration, secrets redacted",
	}
	configFlag(c, &paths)
	origin := c.Flags().Bool("origin", false, "say for each value in which file and line it was set")
	const alppaca, usual = "from-alppaca", "/etc/alppaca"
	folder := c.Flags().String(alppaca, "", "print a configuration that does what alppaca's in this folder does")
	c.Flags().Lookup(alppaca).NoOptDefVal = usual
	c.MarkFlagsMutuallyExclusive(alppaca, "config")
	c.MarkFlagsMutuallyExclusive(alppaca, "origin")
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 1 && *folder == usual { // --from-alppaca FOLDER
			*folder, args = args[0], nil
		}
		if c.Flags().Changed(alppaca) && *folder == "" {
			return fmt.Errorf("--%s names no folder", alppaca)
		}
		return cobra.NoArgs(c, args)
	}
	c.RunE = func(*cobra.Command, []string) error {
		if *folder != "" {
			return migrate(*folder)
		}
		loaded, err := loadHidden(configOptions(paths, os.Environ()))
		if err != nil {
			return err
		}
		for _, notice := range loaded.Notices {
			fmt.Fprintln(os.Stderr, "purser: notice:", notice)
		}
		text, err := loaded.YAML(*origin)
		if err != nil {
			return err
		}
		_, err = os.Stdout.Write(text)
		return err
	}
	return c
}

// migrate prints the configuration of an alppaca folder in the new form, and what it does
// not honour.
func migrate(folder string) error {
	loaded, err := config.Load(configOptions([]string{folder}, nil))
	if err != nil {
		return usageError{err}
	}
	if loaded.Alppaca == "" {
		return usageError{fmt.Errorf("%s: there is no ims_host, so this is no configuration of alppaca", folder)}
	}
	for _, notice := range loaded.Notices {
		if notice != loaded.Alppaca { // which says what is printed below
			fmt.Fprintln(os.Stderr, "purser: notice:", notice)
		}
	}
	if _, set := loaded.Origin("user"); set {
		fmt.Fprintln(os.Stderr, "purser: notice: user and group are left out: Purser has an account of its own")
	}
	text, err := loaded.Own("user", "group")
	if err == nil {
		_, err = fmt.Printf("## What alppaca did by %s, in Purser's form.\n%s", folder, text)
	}
	return err
}

func checkCommand() *cobra.Command {
	var paths []string
	c := &cobra.Command{
		Use:   "check",
		Short: "Validate the configuration, reach every upstream and fetch once",
		Long: `Validate the configuration, look up the accounts that it names, try the files that
it names as the account that will serve, reach every upstream and fetch everything
once. Nothing that it fetches is kept or shown. Where purser redirect has installed its
rules and the daemon runs, the way through the metadata addresses is tried as well. A
running daemon is not disturbed: what a login would use up, such as a secret ID behind a
wrapping token, is left to it.`,
	}
	configFlag(c, &paths)
	offline := c.Flags().Bool("offline", false, "do not ask any upstream")
	c.RunE = func(*cobra.Command, []string) error {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		loaded, err := loadHidden(configOptions(paths, os.Environ()))
		if err != nil {
			return err
		}
		return check(ctx, loaded, *offline, os.Stdout)
	}
	return c
}

// check says of each part of the configuration whether it works, and tries all of
// them before it fails.
func check(ctx context.Context, c *config.Config, offline bool, out io.Writer) error {
	seen, wanted := sights{}, !offline && redirect.Wanted()
	if wanted {
		seen = lookAt(ctx, redirects(c)) // while this is root
	}
	who, err := serviceAccount(ctx, c, zerolog.Nop())
	if err != nil {
		return usageError{err}
	}
	if err := giveUpRoot(who, zerolog.Nop()); err != nil { // files count as readable if that account can read them
		return err
	}
	programs := helper.Start(zerolog.Nop())
	defer programs.Close()
	if err := upstream.CheckReadable(c.Files); err != nil { // a reload reads them again
		return usageError{err}
	}
	sources, err := openSources(c.Upstreams, &store.Store{}, surroundings{programs: programs, log: zerolog.New(zerolog.SyncWriter(told{out}))})
	if err != nil {
		return usageError{located(c, err)}
	}
	fmt.Fprintf(out, "configuration: ok (%s)\n", strings.Join(c.Files, ", "))
	for _, notice := range c.Notices {
		fmt.Fprintln(out, "notice:", notice)
	}
	defer discard(maps.Values(sources.byName))
	if len(sources.byName) == 0 {
		fmt.Fprintf(out, "warning: no upstream is configured, so there is nothing to give to anybody; add one to upstreams in %s\n", firstFile(c))
	}
	known := &store.Store{}
	failed := checkUpstreams(ctx, c, sources, known, offline, out)
	for _, warning := range append(grantWarnings(ctx, c, sources, known), adminWarnings(ctx, c)...) {
		fmt.Fprintln(out, "warning:", warning)
	}
	var misled error
	if wanted {
		misled = checkInstalledRedirect(ctx, c, seen, out)
	}
	if failed > 0 {
		return errors.Join(misled, fmt.Errorf("%d of %d upstreams failed", failed, len(sources.byName)))
	}
	return misled
}

// checkUpstreams tries each upstream after those that may give its base, and returns how
// many failed. The names that they give are known then.
func checkUpstreams(ctx context.Context, c *config.Config, sources *sources, known *store.Store, offline bool, out io.Writer) (failed int) {
	loops := map[string]*refresh.Loop{}
	for name, s := range sources.byName {
		loops[name] = refresh.New(refresh.Options{Upstream: name, Source: s, Store: &store.Store{}, Claims: &refresh.Claims{}, Log: zerolog.Nop()})
	}
	sources.connect(loops)
	spared := map[string]string{}
	for _, name := range sources.names() {
		err := checkFiles(c, name, sources.byName[name])
		if spared[name] = spare(sources, name, spared); offline {
			spared[name] = "--offline"
		}
		if err == nil && spared[name] == "" {
			err = checkUpstream(ctx, loops[name], out)
		}
		if err != nil {
			failed++
			fmt.Fprintf(out, "upstream %s: failed\n%s\n", name, indent(err.Error()))
			continue
		}
		if why := spared[name]; why != "" {
			fmt.Fprintf(out, "upstream %s: not asked (%s)\n", name, why)
		}
		for _, warning := range warnings(sources.byName[name]) {
			fmt.Fprintln(out, "  warning:", warning)
		}
	}
	learn(known, loops)
	for _, warning := range clashes(sources, loops) {
		fmt.Fprintln(out, "warning:", warning)
	}
	return failed
}

// clashes tell of names that more than one upstream lists.
func clashes(sources *sources, loops map[string]*refresh.Loop) (warnings []string) {
	holders := map[credential.Key]string{}
	for _, name := range slices.Sorted(maps.Keys(loops)) {
		if refresh.Declared(sources.byName[name]) != nil {
			continue
		}
		keys, _ := loops[name].Keys()
		for _, key := range slices.SortedFunc(slices.Values(keys), compareKeys) {
			holder, twice := holders[key]
			if !twice {
				holders[key] = name
				continue
			}
			warnings = append(warnings, fmt.Sprintf("upstreams %q and %q both list %q; after a start whoever answers first has it, so name it in the configuration of one of them", holder, name, key))
		}
	}
	return warnings
}

func compareKeys(a, b credential.Key) int { return strings.Compare(a.String(), b.String()) }

// learn fills a store with the names that upstreams have said they give.
func learn(known *store.Store, loops map[string]*refresh.Loop) {
	complete := true
	for name, loop := range loops {
		keys, answered := loop.Keys()
		known.For(name).Announce(keys...)
		complete = complete && answered
	}
	known.SetComplete(complete)
}

// checkInstalledRedirect tries the redirect that was installed, unless Purser does not
// run at all.
func checkInstalledRedirect(ctx context.Context, c *config.Config, seen sights, out io.Writer) error {
	tried, err := tryRules(ctx, redirects(c), seen, out)
	if !tried {
		fmt.Fprintln(out, "redirect: not tried, since purser is not running")
		return nil
	}
	if err != nil {
		err = fmt.Errorf("redirect: %w", err)
	}
	return err
}

// A spender is a source that cannot be asked without using up what the daemon needs to
// ask it. Spends names that, or nothing.
type spender interface{ Spends() string }

// spare says why an upstream is not to be asked, if it is not: it, or what may give its
// base, is a spender.
func spare(all *sources, name string, spared map[string]string) string {
	if s, ok := all.byName[name].(spender); ok && s.Spends() != "" {
		return "it would use up " + s.Spends()
	}
	for _, giver := range all.givers[name] {
		if spared[giver] != "" {
			return fmt.Sprintf("its base is from upstream %s, which is not asked", giver)
		}
	}
	return ""
}

// told is a log of which check shows what programs say on their standard error.
type told struct{ out io.Writer }

// Write implements io.Writer, for whole lines.
func (t told) Write(line []byte) (int, error) {
	var said struct{ Upstream, Line string }
	if err := json.Unmarshal(line, &said); err == nil && said.Line != "" {
		fmt.Fprintf(t.out, "upstream %s: its program says: %s\n", said.Upstream, said.Line)
	}
	return len(line), nil
}

// A warner is a source that knows what will go wrong unless somebody sees to it, such as
// the end of a certificate.
type warner interface{ Warnings() []string }

func warnings(s source) []string {
	if w, ok := s.(warner); ok {
		return w.Warnings()
	}
	return nil
}

// checkUpstream asks an upstream for everything, once.
func checkUpstream(ctx context.Context, loop *refresh.Loop, out io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, trialTime, fmt.Errorf("no answer within %v", trialTime))
	defer cancel()
	begin := time.Now()
	err := loop.Trial(ctx)
	fetched := loop.Fetched()
	if err != nil {
		return err
	}
	if len(fetched) == 0 {
		fmt.Fprintf(out, "upstream %s: not asked, it has nothing but credentials on demand\n", loop.Upstream)
		return nil
	}
	noun := "credentials"
	if len(fetched) == 1 {
		noun = "credential"
	}
	fmt.Fprintf(out, "upstream %s: ok, %d %s in %v\n", loop.Upstream, len(fetched), noun, time.Since(begin).Round(time.Millisecond))
	for _, line := range describeFetched(fetched) {
		fmt.Fprintln(out, "  "+line)
	}
	if ahead := skew(loop.Source); ahead != 0 {
		fmt.Fprintf(out, "  warning: the upstream's clock is %v ahead of this host's; one of them is wrong\n", ahead.Round(time.Second))
	}
	return nil
}

// mostShown bounds how many credentials check lists of one upstream.
const mostShown = 20

func describeFetched(fetched map[credential.Key]credential.Credential) (lines []string) {
	keys := slices.SortedFunc(maps.Keys(fetched), compareKeys)
	for i, key := range keys {
		if i == mostShown {
			return append(lines, fmt.Sprintf("and %d more", len(keys)-mostShown))
		}
		issued, expires := fetched[key].Lifetime()
		if expires.IsZero() {
			lines = append(lines, fmt.Sprintf("%s: without an end", key))
			continue
		}
		lifetime := expires.Sub(issued)
		line := fmt.Sprintf("%s: until %s, lifetime %v", key, expires.UTC().Format(time.RFC3339), lifetime.Round(time.Second))
		if least := refresh.Margin(lifetime, 0, 0); least < refresh.Enough {
			line += fmt.Sprintf("; warning: too short to keep 15 minutes in stock (at least %v will be left), some SDKs will ask at every call", least.Round(time.Second))
		}
		lines = append(lines, line)
	}
	return lines
}

func indent(text string) string { return "  " + strings.ReplaceAll(text, "\n", "\n  ") }
