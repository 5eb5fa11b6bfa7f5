package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/purser-agent/purser/pkg/config"
	"github.com/purser-agent/purser/pkg/redirect"
)

func redirectCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "redirect",
		Short: "The firewall rules that lead unmodified SDKs here",
		Long: `Rules in the host's firewall lead what local programs send to the metadata addresses,
such as 169.254.169.254, to the listeners of the configuration. Nothing but rules of
Purser's own is touched.`,
	}
	c.AddCommand(
		redirectAction("install", "Install the rules; again is no harm", installRedirect),
		redirectAction("remove", "Remove them", removeRedirect),
		redirectAction("check", "Prove the way by asking Purser through the metadata addresses", checkRedirect),
		redirectAction("print", "Print what install would do", printRedirect),
	)
	return c
}

// A redirection is what one of the commands is told.
type redirection struct {
	rules []redirect.Rule
	with  string
	force bool
}

// redirectAction is one of the commands, with the flags that it has a use for.
func redirectAction(name, short string, act func(ctx context.Context, r redirection, out io.Writer) error) *cobra.Command {
	var (
		paths []string
		r     redirection
	)
	c := &cobra.Command{Use: name, Short: short}
	if name != "remove" {
		configFlag(c, &paths)
	}
	if name == "install" || name == "print" {
		c.Flags().StringVar(&r.with, "with", "", "nft, iptables, iptables-nft or iptables-legacy (default nft where the host has it)")
	}
	if name == "install" {
		c.Flags().BoolVar(&r.force, "force", false, "also on a machine of a cloud, whose own metadata service is out of reach then")
	}
	c.RunE = func(*cobra.Command, []string) error {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if name != "remove" {
			loaded, err := loadListeners(paths)
			if err != nil {
				return err
			}
			if r.rules = redirects(loaded); len(r.rules) == 0 {
				return errNoRule
			}
		}
		return act(ctx, r, os.Stdout)
	}
	return c
}

// loadListeners loads what rules are made of. Nothing of upstreams keeps a host from its
// redirect: systemd gives their files to purser.service alone.
func loadListeners(paths []string) (*config.Config, error) {
	o := configOptions(paths, os.Environ())
	o.WithoutUpstreams = true
	return loadHidden(o)
}

var errNoRule = errors.New("no rule can be made: it takes a listener on a loopback address, such as 127.0.0.1:25772, that speaks the dialect aws")

// redirects are the rules for every listener on loopback that speaks the AWS dialect:
// from the metadata addresses of its dialects, in its own address family. Of two
// listeners that want the same address the first one by name has it. (Clients of
// container credentials alone are told where to ask.)
func redirects(c *config.Config) (rules []redirect.Rule) {
	taken := map[netip.AddrPort]bool{}
	for _, name := range slices.Sorted(maps.Keys(c.Listen)) {
		l := c.Listen[name]
		if !slices.Contains(l.Dialects, "aws") || !l.Address.Addr().IsLoopback() {
			continue
		}
		for _, d := range dialects {
			if !slices.Contains(l.Dialects, d.name) {
				continue
			}
			for _, from := range d.destinations() {
				if from.Addr().Is4() == l.Address.Addr().Is4() && !taken[from] {
					taken[from] = true
					rules = append(rules, redirect.Rule{From: from, To: l.Address})
				}
			}
		}
	}
	redirect.Sort(rules)
	return rules
}

func installRedirect(ctx context.Context, r redirection, out io.Writer) error {
	if err := redirect.NeedRoot(); err != nil {
		return err
	}
	if cloud := redirect.Cloud(); cloud != "" && !r.force {
		return fmt.Errorf("this host is a machine of %s: its own metadata service would be out of reach; --force if that is meant", cloud)
	}
	backend, err := redirect.Choose(ctx, r.with)
	switch {
	case err != nil && r.with != "":
		return usageError{err}
	case err != nil:
		return err
	}
	if err := redirect.Install(ctx, backend, r.rules); err != nil {
		return err
	}
	for _, rule := range r.rules {
		fmt.Fprintf(out, "%s: %s\n", backend.Name, rule)
	}
	if warning := backend.Warning(); warning != "" {
		fmt.Fprintln(os.Stderr, "purser: "+warning)
	}
	return nil
}

func removeRedirect(ctx context.Context, _ redirection, out io.Writer) error {
	if err := redirect.NeedRoot(); err != nil {
		return err
	}
	found, err := redirect.Remove(ctx)
	if err == nil && !found {
		fmt.Fprintln(out, "there was nothing to remove")
	}
	if err == nil && exec.CommandContext(ctx, "systemctl", "is-active", "--quiet", redirectUnit).Run() == nil { // which it is not at its own stop
		fmt.Fprintf(os.Stderr, "purser: %s is still active, and will put the rules back; to have none: systemctl disable --now %[1]s\n", redirectUnit)
	}
	return err
}

// redirectUnit keeps the rules where it is enabled.
const redirectUnit = "purser-redirect.service"

func printRedirect(_ context.Context, r redirection, out io.Writer) error {
	backend, err := redirect.Form(r.with)
	if err != nil {
		return usageError{err}
	}
	_, err = io.WriteString(out, backend.Print(r.rules))
	return err
}

func checkRedirect(ctx context.Context, r redirection, out io.Writer) error {
	_, err := tryRules(ctx, r.rules, lookAt(ctx, r.rules), out)
	return err
}

// sights are what is seen of rules, by metadata address.
type sights map[netip.AddrPort]redirect.Sight

// lookAt looks for rules in the firewall, which takes root.
func lookAt(ctx context.Context, rules []redirect.Rule) sights {
	seen := sights{}
	for _, rule := range rules {
		seen[rule.From] = redirect.Look(ctx, rule.From)
	}
	return seen
}

// tryRules tries every rule, and tells of all before it fails. Tried is false if none of
// the listeners answers, and nothing is wrong that can be known without.
func tryRules(ctx context.Context, rules []redirect.Rule, seen sights, out io.Writer) (tried bool, err error) {
	if len(rules) == 0 {
		return true, errNoRule
	}
	var all []error
	listeners := map[netip.AddrPort]error{} // what is wrong with them
	for _, rule := range rules {
		if err := seen[rule.From].Contradicts(rule); err != nil {
			tried = true
			all = append(all, err)
			continue
		}
		failed, known := listeners[rule.To]
		if !known {
			failed = redirect.CheckListener(ctx, rule.To)
			listeners[rule.To] = failed
			tried = tried || !errors.Is(failed, redirect.ErrNotServing)
			if failed != nil {
				all = append(all, failed)
			}
		}
		if failed != nil {
			continue
		}
		if err := redirect.Check(ctx, rule, seen[rule.From]); err != nil {
			all = append(all, err)
			continue
		}
		fmt.Fprintf(out, "redirect: ok, %s\n", rule)
	}
	return tried, errors.Join(all...)
}
