package redirect

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// chain is ours in the nat table of iptables.
var chain = strings.ToUpper(name)

// jump is the one rule of ours in another chain, as an argument list; in a script the
// comment is in quotes.
var jump = []string{"OUTPUT", "-m", "comment", "--comment", "purser redirect", "-j", chain}

func quotedJump() string {
	return strings.Replace(strings.Join(jump, " "), "purser redirect", `"purser redirect"`, 1)
}

// A tool is iptables or ip6tables in one of their variants.
type tool struct {
	name            string
	tables, restore string // paths, empty for what this host does not have
	// loaded lists the tables of the legacy variant that are in the kernel.
	loaded string
	has    func(netip.Addr) bool
}

// tools are those of a variant such as iptables-legacy, IPv4's first.
func tools(variant string) []tool {
	suffix := strings.TrimPrefix(variant, "iptables")
	both := []tool{
		{name: "iptables" + suffix, loaded: "/proc/net/ip_tables_names", has: netip.Addr.Is4},
		{name: "ip6tables" + suffix, loaded: "/proc/net/ip6_tables_names", has: netip.Addr.Is6},
	}
	for i, t := range both {
		both[i].tables, _ = find(t.name)
		both[i].restore, _ = find(t.name + "-restore")
	}
	return both
}

// of are the rules of the tool's address family.
func (t tool) of(rules []Rule) []Rule {
	return slices.DeleteFunc(slices.Clone(rules), func(r Rule) bool { return !t.has(r.From.Addr()) })
}

// iptables has a chain of its own in each family, and a jump to it.
func iptables(variant string) Backend {
	return Backend{
		Name:  variant,
		Print: func(rules []Rule) string { return iptablesCommands(variant, rules) },
		install: func(ctx context.Context, rules []Rule) error {
			all := tools(variant)
			for _, t := range all {
				if mine := t.of(rules); len(mine) > 0 && (t.tables == "" || t.restore == "") {
					return fmt.Errorf("for %s this host needs %s and %[2]s-restore; install iptables as a whole, or use --with nft", mine[0], t.name)
				}
			}
			for _, t := range all {
				if err := t.install(ctx, t.of(rules)); err != nil {
					return err
				}
			}
			return nil
		},
		leads: func(ctx context.Context, from netip.AddrPort) (to netip.AddrPort, err error) {
			for _, t := range tools(variant) {
				if t.has(from.Addr()) {
					to, err = t.leads(ctx, from)
				}
			}
			return to, err
		},
		remove: func(ctx context.Context) (found bool, err error) {
			for _, t := range tools(variant) {
				had, failed := t.remove(ctx)
				found, err = found || had, errors.Join(err, failed)
			}
			return found, err
		},
	}
}

// install fills the chain and jumps to it before the rules of others, in one
// transaction.
func (t tool) install(ctx context.Context, rules []Rule) error {
	if len(rules) == 0 {
		_, err := t.remove(ctx)
		return err
	}
	jumps, err := t.jumps(ctx)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "*nat\n:%s - [0:0]\n", chain) // makes it, or flushes it
	for _, r := range rules {
		fmt.Fprintf(&b, "-A %s\n", strings.Join(match(r), " "))
	}
	if jumps { // perhaps not to the first place any more
		fmt.Fprintf(&b, "-D %s\n", quotedJump())
	}
	fmt.Fprintf(&b, "-I %s\nCOMMIT\n", quotedJump())
	_, err = run(ctx, b.String(), t.restore, "-w", "--noflush")
	return err
}

// nat asks for something of the table. What is not there is no error.
func (t tool) nat(ctx context.Context, args ...string) (there bool, err error) {
	_, err = run(ctx, "", t.tables, append([]string{"-w", "-t", "nat"}, args...)...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 1 {
		return false, nil
	}
	return err == nil, err
}

// jumps reports whether our chain and the jump to it are there. To ask for a jump to a
// chain that is not there is an error.
func (t tool) jumps(ctx context.Context) (bool, error) {
	there, err := t.nat(ctx, "-S", chain)
	if !there || err != nil {
		return false, err
	}
	return t.nat(ctx, append([]string{"-C"}, jump...)...)
}

// leads is where our chain leads an address, while the chain is jumped to.
func (t tool) leads(ctx context.Context, from netip.AddrPort) (none netip.AddrPort, err error) {
	if idle, err := t.idle(ctx); idle || err != nil {
		return none, err
	}
	if jumps, err := t.jumps(ctx); !jumps || err != nil {
		return none, err
	}
	rules, err := run(ctx, "", t.tables, "-w", "-t", "nat", "-S", chain)
	for rule := range strings.Lines(rules) {
		words := strings.Fields(rule)
		address, _, _ := strings.Cut(after(words, "-d"), "/")
		if address == from.Addr().String() && after(words, "--dport") == fmt.Sprint(from.Port()) {
			return netip.ParseAddrPort(after(words, "--to-destination"))
		}
	}
	return none, err
}

// after is the word that follows another.
func after(words []string, flag string) string {
	if at := slices.Index(words, flag); at >= 0 && at+1 < len(words) {
		return words[at+1]
	}
	return ""
}

// mostJumps bounds how often the jump is taken away, should others have repeated it.
const mostJumps = 10

func (t tool) remove(ctx context.Context) (found bool, err error) {
	if idle, err := t.idle(ctx); idle || err != nil {
		return false, err
	}
	if found, err = t.nat(ctx, "-S", chain); !found || err != nil {
		return false, err
	}
	for range mostJumps {
		jumps, err := t.jumps(ctx)
		if err != nil {
			return true, err
		}
		if !jumps {
			break
		}
		if _, err := t.nat(ctx, append([]string{"-D"}, jump...)...); err != nil {
			return true, err
		}
	}
	for _, step := range [][]string{{"-F", chain}, {"-X", chain}} {
		if _, err := run(ctx, "", t.tables, append([]string{"-w", "-t", "nat"}, step...)...); err != nil {
			return true, err
		}
	}
	return true, nil
}

// idle reports whether there can be nothing of ours, because this host does not have the
// tool, or it is the legacy variant and its table is not in the kernel. To ask for a rule
// would load it.
func (t tool) idle(ctx context.Context) (bool, error) {
	if t.tables == "" {
		return true, nil
	}
	version, err := run(ctx, "", t.tables, "--version")
	if err != nil || strings.Contains(version, "nf_tables") {
		return false, err
	}
	names, err := os.ReadFile(t.loaded)
	return err != nil || !slices.Contains(strings.Fields(string(names)), "nat"), nil
}

// match is a rule in our chain.
func match(r Rule) []string {
	return []string{chain, "-d", r.From.Addr().String(), "-p", "tcp", "--dport", fmt.Sprint(r.From.Port()),
		"-m", "addrtype", "--src-type", "LOCAL", "-j", "DNAT", "--to-destination", r.To.String()}
}

// iptablesCommands are what a person would type on a host without any of it.
func iptablesCommands(variant string, rules []Rule) string {
	var b strings.Builder
	for _, t := range tools(variant) {
		mine := t.of(rules)
		if len(mine) == 0 {
			continue
		}
		fmt.Fprintf(&b, "%s -t nat -N %s\n", t.name, chain)
		for _, r := range mine {
			fmt.Fprintf(&b, "%s -t nat -A %s\n", t.name, strings.Join(match(r), " "))
		}
		fmt.Fprintf(&b, "%s -t nat -I %s\n", t.name, quotedJump())
	}
	return b.String()
}
