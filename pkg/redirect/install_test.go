package redirect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Called as iptables or one of its relatives, this test binary is that tool, as far as it
// is used here. The nat table of each address family is a file beside it, with a line
// for each chain and rule; a file fails-NAME has the exit code of a tool that fails.
func TestMain(m *testing.M) {
	if strings.HasPrefix(filepath.Base(os.Args[0]), "ip") {
		syscall.Exit(fakeTool(os.Args[0], os.Args[1:])) // not os.Exit, at which the race detector sleeps
	}
	os.Exit(m.Run())
}

func fakeTool(path string, args []string) int {
	folder, name := filepath.Split(path)
	if text, err := os.ReadFile(folder + "fails-" + name); err == nil {
		fmt.Println("Another app is currently holding the xtables lock")
		code, _ := strconv.Atoi(string(text))
		return code
	}
	family, _, _ := strings.Cut(name, "tables")
	file := folder + family + ".table"
	text, _ := os.ReadFile(file)
	f := &fakeTable{strings.Fields(strings.ReplaceAll(string(text), " ", "_"))}
	code := 0
	switch {
	case slices.Contains(args, "--version"):
		said, _ := os.ReadFile(folder + "version")
		fmt.Println(cmp.Or(string(said), "iptables v1.8.9 (nf_tables)"))
	case strings.HasSuffix(name, "-restore"):
		script, _ := io.ReadAll(os.Stdin)
		for line := range strings.Lines(string(script)) {
			words := strings.Fields(strings.ReplaceAll(line, `"`, ""))
			switch word := words[0]; {
			case strings.HasPrefix(word, ":"):
				f.flush(word[1:])
			case strings.HasPrefix(word, "-"):
				code = max(code, f.do(word, words[1], strings.Join(words[2:], "_")))
			}
		}
	default: // -w -t nat
		code = f.do(args[3], args[4], strings.ReplaceAll(strings.Join(args[5:], "_"), " ", "_"))
	}
	if code == 0 && slices.Contains(args, "-S") {
		f.list(args[4])
	}
	if code == 0 {
		_ = os.WriteFile(file, []byte(strings.Join(f.lines, "\n")), 0o600)
	}
	return code
}

// A fakeTable is chains as CHAIN and rules as CHAIN:WORDS, with _ for blanks.
type fakeTable struct{ lines []string }

func (f *fakeTable) flush(chain string) {
	f.lines = slices.DeleteFunc(f.lines, func(line string) bool { return strings.HasPrefix(line, chain+":") })
	if !slices.Contains(f.lines, chain) {
		f.lines = append(f.lines, chain)
	}
}

// list prints the rules of a chain.
func (f *fakeTable) list(chain string) {
	for _, line := range f.lines {
		if rule, ok := strings.CutPrefix(line, chain+":"); ok {
			fmt.Println("-A", chain, strings.Replace(strings.ReplaceAll(rule, "_", " "), " -p", "/32 -p", 1))
		}
	}
}

func (f *fakeTable) do(what, chain, rule string) int {
	line := chain + ":" + rule
	at := slices.Index(f.lines, line)
	if _, to, jumps := strings.Cut(rule, "-j_"); jumps && to == "PURSER" && !slices.Contains(f.lines, to) {
		return 2 // as the real one
	}
	switch {
	case what == "-S" && !slices.Contains(f.lines, chain), (what == "-C" || what == "-D") && at < 0:
		return 1
	case what == "-I":
		f.lines = slices.Insert(f.lines, 0, line)
	case what == "-A":
		f.lines = append(f.lines, line)
	case what == "-D":
		f.lines = slices.Delete(f.lines, at, at+1)
	case what == "-F":
		f.flush(chain)
	case what == "-X":
		f.lines = slices.DeleteFunc(f.lines, func(line string) bool { return line == chain })
	}
	return 0
}

// withTools gives the host these tools alone, and a state folder. It returns the folder
// of the tools.
func withTools(t *testing.T, names ...string) string {
	t.Helper()
	folder := t.TempDir()
	t.Setenv("PATH", folder)
	folders, state := programFolders, stateFolder
	programFolders, stateFolder = nil, t.TempDir()
	t.Cleanup(func() { programFolders, stateFolder = folders, state })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := os.Symlink(self, filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func table(t *testing.T, folder string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, "ip.table"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

func mustInstall(t *testing.T, with string, rules []Rule) {
	t.Helper()
	b, err := Choose(t.Context(), with)
	if err == nil {
		err = Install(t.Context(), b, rules)
	}
	if err != nil {
		t.Fatal(err)
	}
}

const jumping = "OUTPUT:-m_comment_--comment_purser_redirect_-j_PURSER"

func TestTheRulesComeBeforeThoseOfOthersAndStayInForce(t *testing.T) {
	for with, tools := range map[string][]string{
		"iptables":     {"iptables", "iptables-restore"},
		"iptables-nft": {"iptables", "iptables-restore", "iptables-nft", "iptables-nft-restore"}, // both are one
	} {
		folder := withTools(t, tools...)
		mustInstall(t, with, rules()[:2])
		once := table(t, folder)
		if !strings.HasPrefix(once, jumping+"\n") || strings.Count(once, "DNAT") != 2 {
			t.Errorf("%s: after install there is\n%s", with, once)
		}
		if err := os.WriteFile(filepath.Join(folder, "ip.table"), []byte("OUTPUT:-j_SOMEBODY\n"+once), 0o600); err != nil {
			t.Fatal(err)
		}
		mustInstall(t, "", rules()[:2])
		if again := table(t, folder); !strings.HasPrefix(again, jumping+"\n") || strings.Count(again, jumping) != 1 || strings.Count(again, "DNAT") != 2 {
			t.Errorf("%s: with a rule of somebody else's before it, after install there is\n%s", with, again)
		}
		if !Wanted() {
			t.Errorf("%s: what was installed is not remembered", with)
		}
		if found, err := Remove(t.Context()); !found || err != nil || table(t, folder) != "OUTPUT:-j_SOMEBODY" || Wanted() {
			t.Errorf("%s: after remove, %v, %v, there is\n%s", with, found, err, table(t, folder))
		}
		if found, err := Remove(t.Context()); found || err != nil {
			t.Errorf("%s: a second remove finds something: %v, %v", with, found, err)
		}
	}
}

func TestARuleIsInForceOnlyWhileItsChainIsJumpedTo(t *testing.T) {
	folder := withTools(t, "iptables", "iptables-restore")
	mustInstall(t, "iptables", rules()[:1])
	leads := func(r Rule) netip.AddrPort {
		t.Helper()
		to, err := iptables("iptables").leads(t.Context(), r.From)
		if err != nil {
			t.Fatal(err)
		}
		return to
	}
	first, second := rules()[0], rules()[1]
	if leads(first) != first.To || leads(second).IsValid() {
		t.Errorf("the first rule leads to %v, and the second to %v", leads(first), leads(second))
	}
	if err := os.WriteFile(filepath.Join(folder, "ip.table"), []byte(strings.ReplaceAll(table(t, folder), jumping, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	if leads(first).IsValid() {
		t.Error("a rule counts as in force after somebody flushed OUTPUT")
	}
}

func TestFirewalldIsAWarningForRulesOfIptablesAlone(t *testing.T) {
	withTools(t, "iptables")
	if got := iptables("iptables").Warning(); got != "" {
		t.Errorf("without firewalld: %q", got)
	}
	withTools(t, "iptables", "firewalld")
	if got := iptables("iptables").Warning(); !strings.HasPrefix(got, "each reload of firewalld may remove rules of iptables") {
		t.Errorf("for rules of iptables: %q", got)
	}
	if got := nft("nft").Warning(); got != "" {
		t.Errorf("for a table of nftables: %q", got)
	}
}

func TestARuleWithoutItsToolIsAnErrorBeforeAnythingIsInstalled(t *testing.T) {
	const want = "for [fd00:ec2::254]:80 to [::1]:25772 this host needs ip6tables and ip6tables-restore; install iptables as a whole, or use --with nft"
	for _, ipv6 := range []string{"", "ip6tables", "ip6tables-restore"} {
		tools := slices.DeleteFunc([]string{"iptables", "iptables-restore", ipv6}, func(name string) bool { return name == "" })
		folder := withTools(t, tools...)
		b, err := Choose(t.Context(), "iptables")
		if err != nil {
			t.Fatal(err)
		}
		if err := Install(t.Context(), b, rules()); err == nil || err.Error() != want || table(t, folder) != "" {
			t.Errorf("%v: got error %v, and there is\n%s", tools, err, table(t, folder))
		}
		mustInstall(t, "iptables", rules()[:2])
	}
}

func TestAToolThatFailsDoesNotCountAsNothingThere(t *testing.T) {
	folder := withTools(t, "iptables", "iptables-restore")
	mustInstall(t, "iptables", rules()[:2])
	before := table(t, folder)
	fails := filepath.Join(folder, "fails-iptables")
	if err := os.WriteFile(fails, []byte("4"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, act := range map[string]func(context.Context) error{
		"remove": func(ctx context.Context) error { _, err := Remove(ctx); return err },
		"install": func(ctx context.Context) error {
			return Install(ctx, iptables("iptables"), rules()[:2])
		},
	} {
		if err := act(t.Context()); err == nil || !strings.Contains(err.Error(), "exit status 4: Another app is currently holding the xtables lock") {
			t.Errorf("%s: got error %v", what, err)
		}
		if !Wanted() || table(t, folder) != before {
			t.Errorf("%s: it is forgotten, or there is\n%s", what, table(t, folder))
		}
	}
	if err := os.Remove(fails); err != nil {
		t.Fatal(err)
	}
	if found, err := Remove(t.Context()); !found || err != nil || Wanted() {
		t.Errorf("remove: %v, %v", found, err)
	}
}
