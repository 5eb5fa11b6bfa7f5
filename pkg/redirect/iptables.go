package redirect

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// chain is ours in the nat table of iptables.
var chain = strings.ToUpper(name)

// jump is the one rule of ours in another chain.
var jump = []string{"OUTPUT", "-m", "comment", "--comment", "purser redirect", "-j", chain}

// A tool is iptables or ip6tables in one of their variants.
type tool struct {
	tables, restore string // paths
	// loaded lists the tables of the legacy variant that are in the kernel.
	loaded string
	has    func(netip.Addr) bool
}

// tools are those of a variant such as iptables-legacy, IPv4's first.
func tools(variant string) (found []tool) {
	for _, family := range []struct {
		prefix, loaded string
		has            func(netip.Addr) bool
	}{
		{"iptables", "/proc/net/ip_tables_names", netip.Addr.Is4},
		{"ip6tables", "/proc/net/ip6_tables_names", netip.Addr.Is6},
	} {
		program := family.prefix + strings.TrimPrefix(variant, "iptables")
		tables, ok := find(program)
		restore, also := find(program + "-restore")
		if ok && also {
			found = append(found, tool{tables, restore, family.loaded, family.has})
		}
	}
	return found
}

// iptables has a chain of its own in each family, and a jump to it.
func iptables(variant string) Backend {
	return Backend{
		Name:  variant,
		Print: func(rules []Rule) string { return iptablesCommands(variant, rules) },
		install: func(ctx context.Context, rules []Rule) error {
			for _, t := range tools(variant) {
				if err := t.install(ctx, rules); err != nil {
					return err
				}
			}
			return nil
		},
		remove: func(ctx context.Context) (found bool, err error) {
			for _, t := range tools(variant) {
				had, err := t.remove(ctx)
				if found = found || had; err != nil {
					return found, err
				}
			}
			return found, nil
		},
	}
}

// install fills the chain in one transaction, and jumps to it before the rules of
// others.
func (t tool) install(ctx context.Context, rules []Rule) error {
	mine := slices.DeleteFunc(slices.Clone(rules), func(r Rule) bool { return !t.has(r.From.Addr()) })
	if len(mine) == 0 {
		_, err := t.remove(ctx)
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "*nat\n:%s - [0:0]\n", chain) // makes it, or flushes it
	for _, r := range mine {
		fmt.Fprintf(&b, "-A %s\n", strings.Join(match(r), " "))
	}
	b.WriteString("COMMIT\n")
	if _, err := run(ctx, b.String(), t.restore, "-w", "--noflush"); err != nil {
		return err
	}
	if t.jumps(ctx) {
		return nil
	}
	_, err := run(ctx, "", t.tables, append([]string{"-w", "-t", "nat", "-I"}, jump...)...)
	return err
}

// jumps reports whether the jump to our chain is there.
func (t tool) jumps(ctx context.Context) bool {
	_, err := run(ctx, "", t.tables, append([]string{"-w", "-t", "nat", "-C"}, jump...)...)
	return err == nil
}

// mostJumps bounds how often the jump is taken away, should others have repeated it.
const mostJumps = 10

func (t tool) remove(ctx context.Context) (found bool, err error) {
	if t.idle(ctx) {
		return false, nil
	}
	for range mostJumps {
		if !t.jumps(ctx) {
			break
		}
		found = true
		if _, err := run(ctx, "", t.tables, append([]string{"-w", "-t", "nat", "-D"}, jump...)...); err != nil {
			return found, err
		}
	}
	if _, err := run(ctx, "", t.tables, "-w", "-t", "nat", "-S", chain); err != nil {
		return found, nil // there is no such chain
	}
	if _, err := run(ctx, "", t.tables, "-w", "-t", "nat", "-F", chain); err != nil {
		return true, err
	}
	_, err = run(ctx, "", t.tables, "-w", "-t", "nat", "-X", chain)
	return true, err
}

// idle reports whether there can be nothing of ours, because this is the legacy variant
// and its table is not in the kernel. To ask for a rule would load it.
func (t tool) idle(ctx context.Context) bool {
	version, err := run(ctx, "", t.tables, "--version")
	if err != nil || strings.Contains(version, "nf_tables") {
		return err != nil
	}
	names, err := os.ReadFile(t.loaded)
	return err != nil || !slices.Contains(strings.Fields(string(names)), "nat")
}

// match is a rule in our chain.
func match(r Rule) []string {
	return []string{chain, "-d", r.From.Addr().String(), "-p", "tcp", "--dport", fmt.Sprint(r.From.Port()),
		"-m", "addrtype", "--src-type", "LOCAL", "-j", "DNAT", "--to-destination", r.To.String()}
}

// iptablesCommands are what a person would type on a host without any of it.
func iptablesCommands(variant string, rules []Rule) string {
	var b strings.Builder
	for _, family := range []struct {
		prefix string
		has    func(netip.Addr) bool
	}{{"iptables", netip.Addr.Is4}, {"ip6tables", netip.Addr.Is6}} {
		program := family.prefix + strings.TrimPrefix(variant, "iptables")
		mine := slices.DeleteFunc(slices.Clone(rules), func(r Rule) bool { return !family.has(r.From.Addr()) })
		if len(mine) == 0 {
			continue
		}
		fmt.Fprintf(&b, "%s -t nat -N %s\n", program, chain)
		for _, r := range mine {
			fmt.Fprintf(&b, "%s -t nat -A %s\n", program, strings.Join(match(r), " "))
		}
		quoted := strings.Replace(strings.Join(jump, " "), "purser redirect", `"purser redirect"`, 1)
		fmt.Fprintf(&b, "%s -t nat -I %s\n", program, quoted)
	}
	return b.String()
}
