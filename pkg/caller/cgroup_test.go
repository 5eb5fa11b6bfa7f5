package caller

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const mountsBefore = `23 1 0:21 / /sys rw,relatime - sysfs sysfs rw
24 1 0:22 / /srv/cgroup2\040- rw - ext4 /dev/sda1 rw
`

func TestHierarchyIsFoundAmongTheMounts(t *testing.T) {
	for _, c := range []struct {
		name, line string
		want       hierarchy
		err        error
	}{
		{"unified", "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate", hierarchy{dir: "/sys/fs/cgroup"}, nil},
		{"hybrid", "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw", hierarchy{dir: "/sys/fs/cgroup/unified"}, nil},
		{"part of it", "31 23 0:28 /machine.slice/web.scope /sys/fs/cgroup rw - cgroup2 cgroup2 rw", hierarchy{dir: "/sys/fs/cgroup", root: "/machine.slice/web.scope"}, nil},
		{"odd names", `31 23 0:28 /a\134x2db /mnt/my\040groups rw - cgroup2 none rw`, hierarchy{dir: "/mnt/my groups", root: `/a\x2db`}, nil},
		{"version 1 only", "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu", hierarchy{}, errNoCgroups},
		{"cut off", "31 23 - cgroup2 cgroup2", hierarchy{}, errNoCgroups},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseMounts(strings.NewReader(mountsBefore + c.line + "\n"))
			if got != c.want || !errors.Is(err, c.err) {
				t.Errorf("got %+v, %v; want %+v, %v", got, err, c.want, c.err)
			}
		})
	}
}

func TestUnitsLieBelowTheCgroupOfSystemd(t *testing.T) {
	host := hierarchy{}
	container := hierarchy{root: "", init: "/machine.slice/web.scope"} // sees all of the host's
	namespace := hierarchy{root: "/../..", init: "/../.."}             // left the namespace of its mount
	bound := hierarchy{root: "/machine.slice/web.scope", init: "/machine.slice/web.scope"}
	for _, c := range []struct {
		name      string
		hierarchy hierarchy
		below     string
		want      string
		settled   bool
	}{
		{"host", host, "/system.slice/nginx.service", "nginx.service", true},
		{"root of the host", host, "", "", false},
		{"container", container, "/machine.slice/web.scope/system.slice/nginx.service", "nginx.service", true},
		{"root of a container", container, "/machine.slice/web.scope", "", false},
		{"above a container", container, "/machine.slice", "", false},
		{"outside of a container", container, "/system.slice/nginx.service", "", true},
		{"beside a container", container, "/machine.slice/web.scope2/nginx.service", "", true},
		{"above the namespace", namespace, "/system.slice/nginx.service", "nginx.service", true},
		{"bound below", bound, "/system.slice/nginx.service", "nginx.service", true},
	} {
		if unit, settled := c.hierarchy.unit(c.hierarchy.root + c.below); unit != c.want || settled != c.settled {
			t.Errorf("%s: unit = %q, %t; want %q, %t", c.name, unit, settled, c.want, c.settled)
		}
	}
}

// newTree makes folders that stand for cgroups and returns where.
func newTree(t *testing.T, folders ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, folder := range folders {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, folder, "cgroup.procs"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestWalkGivesEachCgroupItsUnit(t *testing.T) {
	want := map[string]string{
		"/":                                "",
		"/init.scope":                      "init.scope",
		"/system.slice":                    "",
		"/system.slice/nginx.service":      "nginx.service",
		"/system.slice/nginx.service/a/b":  "nginx.service",
		"/user.slice/user-7.slice":         "",
		"/user.slice/user-7.slice/s.scope": "s.scope",
		"/user.slice/user-7.slice/user@7.service/app.slice/nginx.service": "user@7.service",
		"/docker/0123/system.slice/nginx.service":                         "",
	}
	var folders []string
	for folder := range want {
		folders = append(folders, folder)
	}
	dir := newTree(t, folders...)
	if err := os.Symlink(dir, filepath.Join(dir, "loop.slice")); err != nil {
		t.Fatal(err)
	}
	got, err := hierarchy{dir: dir}.count()
	if err != nil || !got.whole {
		t.Fatalf("walk: whole %t, %v", got.whole, err)
	}
	for folder, unit := range want {
		id, err := cgroupID(filepath.Join(dir, folder))
		if err != nil {
			t.Fatal(err)
		}
		if found, known := got.units[id]; found != unit || !known {
			t.Errorf("%s: unit %q, known %t; want %q", folder, found, known, unit)
		}
	}
}

func TestUserWhoFillsHisTreeHidesOnlyHisOwn(t *testing.T) {
	const crowded = "/user.slice/user-7.slice/user@7.service/app.slice"
	const deep = "/user.slice/user-8.slice/user@8.service/x.slice/y.slice/nginx.service"
	folders := []string{deep}
	for i := range maxCgroupsPerUnit + 100 {
		folders = append(folders, fmt.Sprintf("%s/%d", crowded, i))
	}
	dir := newTree(t, folders...)
	got, err := hierarchy{dir: dir}.count()
	if err != nil || !got.whole {
		t.Fatalf("walk: whole %t, %v", got.whole, err)
	}
	id, err := cgroupID(filepath.Join(dir, deep))
	if err != nil {
		t.Fatal(err)
	}
	if got.units[id] != "user@8.service" {
		t.Errorf("another user's cgroup: unit %q", got.units[id])
	}
	hidden := 0
	for _, folder := range folders[1:] {
		id, err := cgroupID(filepath.Join(dir, folder))
		if err != nil {
			t.Fatal(err)
		}
		switch unit, known := got.units[id]; {
		case !known:
			hidden++
		case unit != "user@7.service":
			t.Fatalf("%s: unit %q", folder, unit)
		}
	}
	if hidden < 100 || hidden > 110 {
		t.Errorf("%d of his cgroups are hidden, want those above %d", hidden, maxCgroupsPerUnit)
	}
}

func TestWalkThatCannotBeginIsAnError(t *testing.T) {
	if _, err := (hierarchy{dir: filepath.Join(t.TempDir(), "gone")}).count(); err == nil {
		t.Error("no error for a mount that is gone")
	}
}
