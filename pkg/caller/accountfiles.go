package caller

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// maxAccountFile bounds what is read of passwd or group, in bytes.
const maxAccountFile = 64 << 20

// A passwdEntry is a line of passwd(5).
type passwdEntry struct {
	name     string
	uid, gid uint32
}

// A groupEntry is a line of group(5).
type groupEntry struct {
	name    string
	gid     uint32
	members []string
}

func (a Accounts) users() ([]passwdEntry, error) {
	text, err := a.read("passwd")
	return parsePasswd(text), err
}

func (a Accounts) groups() ([]groupEntry, error) {
	text, err := a.read("group")
	return parseGroup(text), err
}

func (a Accounts) read(name string) ([]byte, error) {
	f, err := os.Open(filepath.Join(cmp.Or(a.dir, "/etc"), name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // as in a container with nothing but one program
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxAccountFile+1))
	if err == nil && len(text) > maxAccountFile {
		err = fmt.Errorf("%s: longer than %d bytes", f.Name(), maxAccountFile)
	}
	return text, err
}

// parsePasswd reads lines of passwd(5): name, password, uid, gid, comment, home,
// shell. What is no account, such as the lines with + and - of NIS, is left out.
func parsePasswd(text []byte) []passwdEntry {
	var entries []passwdEntry
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(fields) < 4 || !isAccountName(fields[0]) {
			continue
		}
		uid, validUID := parseID(fields[2])
		gid, validGID := parseID(fields[3])
		if validUID && validGID {
			entries = append(entries, passwdEntry{fields[0], uid, gid})
		}
	}
	return entries
}

// parseGroup reads lines of group(5): name, password, gid, members.
func parseGroup(text []byte) []groupEntry {
	var entries []groupEntry
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(fields) < 4 || !isAccountName(fields[0]) {
			continue
		}
		gid, valid := parseID(fields[2])
		if !valid {
			continue
		}
		entry := groupEntry{name: fields[0], gid: gid}
		for member := range strings.SplitSeq(fields[3], ",") {
			if isAccountName(member) {
				entry.members = append(entry.members, member)
			}
		}
		entries = append(entries, entry)
	}
	return entries
}

// isAccountName reports whether a field names an account. The files also hold
// comments and references to NIS.
func isAccountName(field string) bool {
	return field != "" && !strings.ContainsRune("+-#", rune(field[0]))
}

// parseID reads a uid or gid. The highest number stands for none (chown(2)).
func parseID(text string) (uint32, bool) {
	id, err := strconv.ParseUint(text, 10, 32)
	return uint32(id), err == nil && id != math.MaxUint32
}
