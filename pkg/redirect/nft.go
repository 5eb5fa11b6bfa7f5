package redirect

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// families are the two of nftables, and those of their addresses.
var families = []struct {
	word string
	has  func(netip.Addr) bool
}{{"ip", netip.Addr.Is4}, {"ip6", netip.Addr.Is6}}

// nft has a table of its own for each family that has rules.
func nft(path string) Backend {
	return Backend{
		Name:  "nft",
		Print: func(rules []Rule) string { return "#!/usr/sbin/nft -f\n" + nftScript(rules) },
		install: func(ctx context.Context, rules []Rule) error {
			drop, err := nftTables(ctx, path) // of an earlier call, whose rules had another family
			if err == nil {
				_, err = run(ctx, drop+nftScript(rules), path, "-f", "-")
			}
			return err
		},
		leads: func(ctx context.Context, from netip.AddrPort) (netip.AddrPort, error) {
			return nftLeads(ctx, path, from)
		},
		remove: func(ctx context.Context) (bool, error) {
			drop, err := nftTables(ctx, path)
			if err == nil && drop != "" {
				_, err = run(ctx, drop, path, "-f", "-")
			}
			return drop != "", err
		},
	}
}

// nftLeads looks in our tables alone: nft also shows a chain of iptables to which nothing
// jumps any more.
func nftLeads(ctx context.Context, path string, from netip.AddrPort) (none netip.AddrPort, err error) {
	tables, err := nftTables(ctx, path)
	match := fmt.Sprintf("daddr %s tcp dport %d fib saddr type local ", from.Addr(), from.Port())
	for line := range strings.Lines(strings.ReplaceAll(tables, "delete ", "")) {
		rules, err := run(ctx, "", path, append([]string{"list"}, strings.Fields(line)...)...)
		if err != nil {
			return none, err
		}
		for rule := range strings.Lines(rules) {
			if _, target, ok := strings.Cut(rule, " dnat to "); ok && strings.Contains(rule, match) {
				return netip.ParseAddrPort(strings.TrimSpace(target))
			}
		}
	}
	return none, err
}

// nftTables is a script that deletes the tables of ours that are there.
func nftTables(ctx context.Context, path string) (script string, err error) {
	tables, err := run(ctx, "", path, "list", "tables")
	for _, family := range families {
		table := "table " + family.word + " " + name + "\n"
		if strings.Contains("\n"+tables, "\n"+table) {
			script += "delete " + table
		}
	}
	return script, err
}

// nftScript is applied as one transaction. To name a table and delete it makes the
// script right whether there is one or not. The chain comes just before those of
// others, so that their rules for the same address do not win.
func nftScript(rules []Rule) string {
	var b strings.Builder
	for _, family := range families {
		mine := slices.DeleteFunc(slices.Clone(rules), func(r Rule) bool { return !family.has(r.From.Addr()) })
		if len(mine) == 0 {
			continue
		}
		fmt.Fprintf(&b, "table %s %s\ndelete table %[1]s %[2]s\n", family.word, name)
		fmt.Fprintf(&b, "table %s %s {\n\tchain output {\n\t\ttype nat hook output priority -101; policy accept;\n", family.word, name)
		for _, r := range mine {
			fmt.Fprintf(&b, "\t\t%s daddr %s tcp dport %d fib saddr type local counter dnat to %s\n",
				family.word, r.From.Addr(), r.From.Port(), r.To)
		}
		b.WriteString("\t}\n}\n")
	}
	return b.String()
}
