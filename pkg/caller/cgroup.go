package caller

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Bounds of one walk through the cgroups: in all, and below one unit, so that a
// user who fills the tree that is delegated to him hides only his own.
const (
	maxCgroups        = 1 << 16
	maxCgroupsPerUnit = 1 << 12
	entriesAtOnce     = 256 // of a folder
)

// errNoCgroups is a host without the one hierarchy of cgroups that sockets refer to.
var errNoCgroups = errors.New("no cgroup2 hierarchy is mounted")

// A hierarchy is the cgroup2 mount that this process sees.
type hierarchy struct {
	dir  string // where it is mounted
	root string // the path of the cgroup that is mounted there, from the root of our cgroup namespace
	init string // the same for the cgroup below which systemd, if it runs, keeps its units
}

// findHierarchy looks for the mount, which is /sys/fs/cgroup or, with the
// controllers still in version 1, /sys/fs/cgroup/unified.
func findHierarchy() (hierarchy, error) {
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return hierarchy{}, err
	}
	defer mounts.Close()
	h, err := parseMounts(mounts)
	if err != nil {
		return hierarchy{}, err
	}
	// Without systemd as the first process its cgroup is just where that process
	// is; where /proc hides other users' processes, it is taken for the root.
	first, err := cgroupOf("1")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return hierarchy{}, err
	}
	h.init = strings.TrimSuffix(strings.TrimSuffix(first, "/init.scope"), "/")
	below, inside := strings.CutPrefix(h.init+"/", h.root+"/")
	if !inside || strings.HasPrefix(below, "../") {
		return hierarchy{}, fmt.Errorf("%s shows only a part of the cgroups (is ProtectControlGroups= private or strict?)", h.dir)
	}
	return h, nil
}

// parseMounts reads proc_pid_mountinfo(5).
func parseMounts(mountinfo io.Reader) (hierarchy, error) {
	lines := bufio.NewScanner(mountinfo)
	for lines.Scan() {
		before, after, found := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if found && len(fields) >= 5 && strings.HasPrefix(after, "cgroup2 ") {
			return hierarchy{dir: unescape(fields[4]), root: strings.TrimSuffix(unescape(fields[3]), "/")}, nil
		}
	}
	if err := lines.Err(); err != nil {
		return hierarchy{}, fmt.Errorf("/proc/self/mountinfo: %w", err)
	}
	return hierarchy{}, errNoCgroups
}

// unescape undoes what the kernel does to blanks and backslashes in a path.
func unescape(field string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(field)
}

// cgroupOf returns the path of a process's cgroup from the root of our cgroup
// namespace.
func cgroupOf(pid string) (string, error) {
	name := "/proc/" + pid + "/cgroup"
	text, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if cgroup, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return cgroup, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, errNoCgroups)
}

// unit returns the unit of the cgroup at a path from the root of our cgroup
// namespace, and whether all that lies deeper belongs to the same. Outside of what
// this host's systemd manages there are no units.
func (h hierarchy) unit(cgroup string) (unit string, settled bool) {
	if rest, inside := strings.CutPrefix(cgroup+"/", h.init+"/"); inside {
		return unitOf(rest)
	}
	return "", !strings.HasPrefix(h.init, cgroup+"/")
}

// id returns the id of the cgroup at a path from the root of our cgroup namespace.
func (h hierarchy) id(cgroup string) (uint64, error) {
	below, inside := strings.CutPrefix(cgroup+"/", h.root+"/")
	if !inside {
		return 0, fmt.Errorf("cgroup %s is not below %s, which is mounted at %s", cgroup, h.root, h.dir)
	}
	return cgroupID(filepath.Join(h.dir, below))
}

// cgroupID returns the number by which the kernel knows the cgroup of a folder.
func cgroupID(dir string) (uint64, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return 0, err
	}
	return info.Sys().(*syscall.Stat_t).Ino, nil
}

// A census is what one walk through the hierarchy found.
type census struct {
	units map[uint64]string // by cgroup id; no unit is an empty name
	whole bool              // nothing was left out but what maxCgroupsPerUnit hides
}

// A cgroup is one folder that a walk came by.
type cgroup struct {
	below   string // its path below the mount
	id      uint64
	leaf    bool // has no folders in it
	unit    string
	settled bool // what lies deeper is the same unit's
	room    *int // how many more the walk takes from what is settled with this one
}

// count walks the hierarchy, what is near the root first. A folder that was there
// before the walk began and still is when it ends is in the result.
func (h hierarchy) count() (census, error) {
	id, err := cgroupID(h.dir)
	if err != nil {
		return census{}, err
	}
	top := cgroup{id: id, room: new(maxCgroups)}
	top.unit, top.settled = h.unit(h.root)
	c := census{units: map[uint64]string{id: top.unit}, whole: true}
	for queue := []cgroup{top}; len(queue) > 0; queue = queue[1:] {
		if queue[0].leaf {
			continue
		}
		children, err := h.children(queue[0])
		if err != nil {
			return census{}, err
		}
		for _, child := range children {
			c.units[child.id] = child.unit
		}
		queue = append(queue, children...)
		if len(c.units) >= maxCgroups {
			c.whole = false
			break
		}
	}
	return c, nil
}

// children lists the cgroups directly below one. One that went away meanwhile has
// none. Neither has one that may not be read or whose path is too long: such
// folders can only be made by a user inside of a unit that is his.
func (h hierarchy) children(parent cgroup) ([]cgroup, error) {
	dir, err := os.Open(filepath.Join(h.dir, parent.below))
	if unreachable(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	var found []cgroup
	for *parent.room > 0 {
		entries, err := dir.ReadDir(entriesAtOnce)
		for _, entry := range entries {
			if child, ok := h.child(parent, entry); ok && *parent.room > 0 {
				*parent.room--
				found = append(found, child)
			}
		}
		if err == io.EOF || unreachable(err) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

func unreachable(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENAMETOOLONG)
}

func (h hierarchy) child(parent cgroup, entry fs.DirEntry) (cgroup, bool) {
	if !entry.IsDir() {
		return cgroup{}, false
	}
	info, err := entry.Info()
	if err != nil {
		return cgroup{}, false // went away
	}
	stat := info.Sys().(*syscall.Stat_t)
	child := parent
	child.below = parent.below + "/" + entry.Name()
	child.id = stat.Ino
	child.leaf = stat.Nlink == 2 // its own name and its own dot, no dot-dot of another
	if !parent.settled {
		if child.unit, child.settled = h.unit(h.root + child.below); child.settled {
			child.room = new(maxCgroupsPerUnit)
		}
	}
	return child, true
}
