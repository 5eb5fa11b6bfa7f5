// Package redirect keeps the rules in the host's firewall that lead what local programs
// send to the metadata addresses to Purser's listeners, and proves that they do.
//
// It touches its own table (nftables) or its own chain and the jump to it (iptables)
// and nothing else, with the host's own tools, so that what it does can be printed
// and typed. Which addresses there are is left to the dialects, and asking root for
// them to cmd/purser.
package redirect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A Rule leads what is sent to one address to another: both IPv4 or both IPv6, TCP.
type Rule struct {
	From netip.AddrPort // where programs believe the metadata service to be
	To   netip.AddrPort // the listener
}

// String is the form for messages.
func (r Rule) String() string { return r.From.String() + " to " + r.To.String() }

// Sort puts rules into the order in which they are shown and installed.
func Sort(rules []Rule) {
	slices.SortFunc(rules, func(a, b Rule) int { return cmp.Or(a.From.Compare(b.From), a.To.Compare(b.To)) })
}

// name is what is ours in a firewall: a table of nftables, a chain of iptables.
const name = "purser"

// A Backend is one way to have rules. Each call of its tools takes toolTime at most.
type Backend struct {
	// Name is nft, iptables-nft, iptables-legacy or iptables.
	Name string
	// Print is how a person would install the rules.
	Print func(rules []Rule) string
	// install replaces all that is ours by these rules, at once for each family.
	install func(ctx context.Context, rules []Rule) error
	// leads is where a rule in force leads a metadata address; not valid if none does.
	leads func(ctx context.Context, from netip.AddrPort) (netip.AddrPort, error)
	// remove takes away all that is ours and reports whether there was anything.
	remove func(ctx context.Context) (bool, error)
}

// Backends are those whose programs this host has, the one to prefer first: a table of
// nftables is our own, and only who flushes the whole ruleset takes it away; a chain of
// iptables loses its jump with every flush of OUTPUT.
func Backends() []Backend {
	var all []Backend
	if path, ok := find("nft"); ok {
		all = append(all, nft(path))
	}
	plain := true
	for _, variant := range []string{"iptables-nft", "iptables-legacy"} {
		if _, ok := find(variant); ok {
			plain = false // the plain name is one of these
			all = append(all, iptables(variant))
		}
	}
	if _, ok := find("iptables"); ok && plain {
		all = append(all, iptables("iptables"))
	}
	return all
}

// Warning says what on this host removes the rules of the backend; empty if nothing does
// that is known.
func (b Backend) Warning() string {
	if _, there := find("firewalld"); there && b.Name != "nft" {
		return "each reload of firewalld may remove rules of iptables, which nobody is told; install nftables, or use --with nft"
	}
	return ""
}

// Choose returns the backend of that name, the preferred one if it is empty. The plain
// name iptables stands for the variant that it is on this host.
func Choose(ctx context.Context, wanted string) (Backend, error) {
	all := Backends()
	if len(all) == 0 {
		return Backend{}, errors.New("this host has neither nft nor iptables; install nftables or iptables")
	}
	if wanted == "" {
		return all[0], nil
	}
	variant := wanted
	if path, ok := find("iptables"); ok && wanted == "iptables" {
		version, err := run(ctx, "", path, "--version")
		if err != nil {
			return Backend{}, err
		}
		variant = "iptables-legacy"
		if strings.Contains(version, "nf_tables") {
			variant = "iptables-nft"
		}
	}
	var names []string
	for _, b := range all {
		if b.Name == wanted || b.Name == variant {
			return b, nil
		}
		names = append(names, b.Name)
	}
	return Backend{}, fmt.Errorf("there is no %s here, only %s", wanted, strings.Join(names, ", "))
}

// Form is Choose for printing alone: the host need not have the tools.
func Form(wanted string) (Backend, error) {
	switch wanted {
	case "iptables", "iptables-nft", "iptables-legacy":
		return iptables(wanted), nil
	case "nft":
		return nft(wanted), nil
	case "":
		if all := Backends(); len(all) > 0 {
			return all[0], nil
		}
		return nft("nft"), nil
	}
	return Backend{}, fmt.Errorf("%q is none of nft, iptables, iptables-nft and iptables-legacy", wanted)
}

// Install puts the rules in force with one backend, in place of what another one or an
// earlier call left. Called again, it changes nothing.
func Install(ctx context.Context, with Backend, rules []Rule) error {
	if err := with.install(ctx, rules); err != nil {
		return err
	}
	_, err := removeAll(ctx, with.Name) // only now: at no moment is there no rule
	return errors.Join(err, remember())
}

// Remove takes away what Install left, whichever backend did it, and reports whether
// there was anything.
func Remove(ctx context.Context) (bool, error) {
	found, err := removeAll(ctx, "")
	if err == nil {
		err = forget()
	}
	return found, err
}

// A Sight is what is known of where Purser's rules lead a metadata address. The zero Sight
// is that of who cannot look: only root can see rules.
type Sight struct {
	Known bool
	To    netip.AddrPort // not valid if they lead it nowhere
}

// Look looks for a rule that Install has made, with any backend.
func Look(ctx context.Context, from netip.AddrPort) Sight {
	if NeedRoot() != nil {
		return Sight{}
	}
	seen := Sight{Known: true}
	for _, b := range Backends() {
		switch to, err := b.leads(ctx, from); {
		case to.IsValid():
			return Sight{true, to}
		case err != nil:
			seen.Known = false
		}
	}
	return seen
}

// Contradicts is an error if the firewall has another rule than this one.
func (s Sight) Contradicts(r Rule) error {
	if !s.To.IsValid() || s.To == r.To {
		return nil
	}
	return fmt.Errorf("%s: the rule leads to %s, the configuration says %s; run purser redirect install", r.From, s.To, r.To)
}

func removeAll(ctx context.Context, but string) (found bool, err error) {
	for _, b := range Backends() {
		if b.Name == but {
			continue
		}
		had, failed := b.remove(ctx)
		found, err = found || had, errors.Join(err, failed)
	}
	return found, err
}

// programFolders are searched besides PATH, which often lacks them for a normal user.
var programFolders = []string{"/usr/sbin", "/sbin", "/usr/local/sbin"}

func find(program string) (path string, ok bool) {
	if path, err := exec.LookPath(program); err == nil {
		return path, true
	}
	for _, folder := range programFolders {
		if path, err := exec.LookPath(filepath.Join(folder, program)); err == nil {
			return path, true
		}
	}
	return "", false
}

// toolTime is how long one call of a tool may take; iptables waits for its lock.
const toolTime = 10 * time.Second

// run calls a tool. The error has what it said.
func run(ctx context.Context, input, path string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, toolTime)
	defer cancel()
	c := exec.CommandContext(ctx, path, args...)
	c.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	c.Stdin = strings.NewReader(input)
	c.WaitDelay = time.Second
	out, err := c.CombinedOutput()
	if err != nil {
		said, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return string(out), fmt.Errorf("%s %s: %w: %s", filepath.Base(path), strings.Join(args, " "), err, said)
	}
	return string(out), nil
}

// NeedRoot says whether this process may change the firewall.
func NeedRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("only root can change the firewall; use sudo")
	}
	return nil
}
