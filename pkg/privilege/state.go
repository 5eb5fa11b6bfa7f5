//go:build linux

package privilege

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A state is what the kernel says of one thread's privileges in
// /proc/PID/task/TID/status (proc_pid_status(5)).
type state struct {
	uids, gids      [4]uint32 // real, effective, saved, of the file system
	groups          []uint32  // sorted
	inheritable     uint64
	permitted       uint64
	effective       uint64
	bounding        uint64
	ambient         uint64
	noNewPrivileges bool
}

func (s state) isRoot() bool { return slices.Contains(s.uids[:], 0) }

// privileged reports whether there is anything to give up.
func (s state) privileged() bool {
	return s.isRoot() || s.inheritable|s.permitted|s.effective|s.ambient != 0
}

func (s state) has(capability uint) bool { return s.effective>>capability&1 == 1 }

// unprivileged is the state that is to be reached from s without becoming anyone.
func (s state) unprivileged() state {
	want := state{uids: all(s.uids[1]), gids: all(s.gids[1]), groups: s.groups, bounding: s.bounding, noNewPrivileges: true}
	if s.has(unix.CAP_SETPCAP) {
		want.bounding = 0
	}
	return want
}

func (s *state) become(to IDs) {
	s.uids, s.gids = all(to.UID), all(to.GID)
	s.groups = slices.Clone(to.Groups)
	slices.Sort(s.groups)
}

func all(id uint32) [4]uint32 { return [4]uint32{id, id, id, id} }

// differs says in which way s is not what was wanted.
func (s state) differs(want state) error {
	for _, c := range []struct {
		name      string
		got, want any
	}{
		{"uids", s.uids, want.uids},
		{"gids", s.gids, want.gids},
		{"groups", fmt.Sprint(s.groups), fmt.Sprint(want.groups)},
		{"inheritable capabilities", s.inheritable, want.inheritable},
		{"permitted capabilities", s.permitted, want.permitted},
		{"effective capabilities", s.effective, want.effective},
		{"bounding capabilities", s.bounding, want.bounding},
		{"ambient capabilities", s.ambient, want.ambient},
		{"no_new_privs", s.noNewPrivileges, want.noNewPrivileges},
	} {
		if c.got != c.want {
			return fmt.Errorf("%s are %v, not %v", c.name, c.got, c.want)
		}
	}
	return nil
}

// prove compares the state of every thread with what is wanted and returns how many
// there are. Threads inherit what their creator has, so one that starts meanwhile
// can be other than wanted only if one that is seen here is.
func prove(want state) (threads int, err error) {
	files, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		got, err := readState(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // the thread has ended
		}
		if err != nil {
			return 0, err
		}
		if err := got.differs(want); err != nil {
			return 0, fmt.Errorf("%s: %w; not all privileges were given up", file, err)
		}
		threads++
	}
	if threads == 0 {
		return 0, errors.New("/proc/self/task: shows no thread, so nothing proves that privileges were given up")
	}
	return threads, nil
}

func ownState() (state, error) { return readState("/proc/thread-self/status") }

func readState(file string) (state, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return state{}, err
	}
	s, err := parseState(string(text))
	if err != nil {
		return state{}, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

// parseState reads the lines that matter, all of which must be there. Kernels
// without the line for the ambient set have none.
func parseState(text string) (state, error) {
	lines := map[string][]string{"CapAmb": {"0"}}
	for line := range strings.Lines(text) {
		if name, value, found := strings.Cut(line, ":"); found {
			lines[name] = strings.Fields(value)
		}
	}
	var s state
	var noNewPrivileges uint64
	err := errors.Join(
		parseIDs(lines["Uid"], &s.uids),
		parseIDs(lines["Gid"], &s.gids),
		parseHex(lines["CapInh"], &s.inheritable),
		parseHex(lines["CapPrm"], &s.permitted),
		parseHex(lines["CapEff"], &s.effective),
		parseHex(lines["CapBnd"], &s.bounding),
		parseHex(lines["CapAmb"], &s.ambient),
		parseHex(lines["NoNewPrivs"], &noNewPrivileges),
	)
	s.noNewPrivileges = noNewPrivileges == 1
	groups, found := lines["Groups"]
	if !found {
		err = errors.Join(err, errNoLine)
	}
	for _, text := range groups {
		gid, invalid := strconv.ParseUint(text, 10, 32)
		s.groups, err = append(s.groups, uint32(gid)), errors.Join(err, invalid)
	}
	slices.Sort(s.groups)
	if err != nil {
		return state{}, err
	}
	return s, nil
}

var errNoLine = errors.New("a line about ids, groups, capabilities or no_new_privs is missing or cut off")

func parseIDs(fields []string, ids *[4]uint32) error {
	if len(fields) != len(ids) {
		return errNoLine
	}
	for i, field := range fields {
		id, err := strconv.ParseUint(field, 10, 32)
		if err != nil {
			return err
		}
		ids[i] = uint32(id)
	}
	return nil
}

func parseHex(fields []string, number *uint64) (err error) {
	if len(fields) != 1 {
		return errNoLine
	}
	*number, err = strconv.ParseUint(fields[0], 16, 64)
	return err
}
