package privilege

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

const status = `Name:	purser
Uid:	990	990	990	990
Gid:	991	991	991	991
Groups:	107 4 
NStgid:	42
CapInh:	0000000000000000
CapPrm:	0000000000000400
CapEff:	0000000000000400
CapBnd:	000001ffffffffff
CapAmb:	0000000000000400
NoNewPrivs:	1
`

func TestStatusIsRead(t *testing.T) {
	want := state{
		uids: all(990), gids: all(991), groups: []uint32{4, 107},
		permitted: 0x400, effective: 0x400, bounding: 0x1ffffffffff, ambient: 0x400, noNewPrivileges: true,
	}
	if got, err := parseState(status); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, c := range []struct{ name, line, instead string }{
		{"no uid", "Uid:", "uid:"},
		{"three gids", "991	991	991	991", "991	991	991"},
		{"no groups", "Groups:", "Grps:"},
		{"groups of words", "107 4", "adm"},
		{"uid of words", "990	990", "990	root"},
		{"no bounding set", "CapBnd:", "Bnd:"},
		{"two effective sets", "CapEff:", "CapEff: 0"},
		{"capabilities of words", "000001ffffffffff", "all"},
		{"no no_new_privs", "NoNewPrivs", "Privs"},
	} {
		if got, err := parseState(strings.Replace(status, c.line, c.instead, 1)); err == nil {
			t.Errorf("%s: got %+v", c.name, got)
		}
	}
}

func TestProofNamesWhatIsLeft(t *testing.T) {
	want := state{uids: all(990), gids: all(991), groups: []uint32{4}, noNewPrivileges: true}
	if err := want.differs(want); err != nil {
		t.Errorf("no difference: %v", err)
	}
	for _, c := range []struct {
		change func(*state)
		names  string
	}{
		{func(s *state) { s.uids[2] = 0 }, "uids"},
		{func(s *state) { s.gids[3] = 0 }, "gids"},
		{func(s *state) { s.groups = []uint32{0, 4} }, "groups"},
		{func(s *state) { s.inheritable = 1 }, "inheritable"},
		{func(s *state) { s.permitted = 1 }, "permitted"},
		{func(s *state) { s.effective = 1 }, "effective"},
		{func(s *state) { s.bounding = 1 }, "bounding"},
		{func(s *state) { s.ambient = 1 }, "ambient"},
		{func(s *state) { s.noNewPrivileges = false }, "no_new_privs"},
	} {
		got := want
		c.change(&got)
		if err := got.differs(want); err == nil || !strings.Contains(err.Error(), c.names) {
			t.Errorf("%s: %v", c.names, err)
		}
	}
}

func TestEveryThreadIsLookedAt(t *testing.T) {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	own, err := ownState()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := prove(own); err != nil || got < len(tasks) {
		t.Errorf("%d threads, %v; want %d at least", got, err, len(tasks))
	}
}

func FuzzParseState(f *testing.F) {
	own, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(own))
	f.Add(status)
	f.Add("Groups:\n")
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := parseState(text); err != nil && !reflect.DeepEqual(got, state{}) {
			t.Errorf("an error and %+v", got)
		}
	})
}
