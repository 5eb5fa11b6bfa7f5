package caller

import (
	"strings"
	"testing"
)

func TestUnitIsTheFirstComponentThatIsNoSlice(t *testing.T) {
	for _, c := range []struct {
		path    string
		want    string
		settled bool
	}{
		{"/", "", false},
		{"/system.slice", "", false},
		{"/system.slice/nginx.service", "nginx.service", true},
		{"/system.slice/nginx.service/worker", "nginx.service", true},
		{"/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service", true},
		{"/user.slice/user-1000.slice/session-1.scope", "session-1.scope", true},
		{"/user.slice/user-1000.slice/user@1000.service", "user@1000.service", true},
		{"/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service", "user@1000.service", true},
		{"/machine.slice/machine-web.scope/system.slice/nginx.service", "machine-web.scope", true},
		{"/init.scope", "init.scope", true},
		{`/system.slice/dev-disk-by\x2dlabel-data.swap`, `dev-disk-by\x2dlabel-data.swap`, true},
		{"/system.slice/_cpu.service", "cpu.service", true},
		{"/system.slice/__cpu.service", "_cpu.service", true},
		{"/_x.slice/nginx.service", "nginx.service", true},
		{"system.slice//nginx.service/", "nginx.service", true},
		{"/-.slice/nginx.service", "nginx.service", true},

		{"/docker/0123456789ab/system.slice/nginx.service", "", true},
		{"/lxc.payload.web/system.slice/nginx.service", "", true},
		{"/../system.slice/nginx.service", "", true},
		{"/system.slice/nginx", "", true},
		{"/system.slice/nginx.servicee", "", true},
		{"/system.slice/.service", "", true},
		{"/system.slice/getty@.service", "", true},
		{"/system.slice/@tty1.service", "", true},
		{"/system.slice/_", "", true},
		{"/system.slice/ng inx.service", "", true},
		{"/system.slice/nginx.service (deleted)", "", true},
		{"/system.slice/ngïnx.service", "", true},
		{"/a@b.slice/nginx.service", "", true},
		{"/.slice/nginx.service", "", true},
		{"/" + strings.Repeat("x", 247) + ".service", strings.Repeat("x", 247) + ".service", true},
		{"/" + strings.Repeat("x", 248) + ".service", "", true},
	} {
		if got, settled := unitOf(c.path); got != c.want || settled != c.settled {
			t.Errorf("unitOf(%q) = %q, %t; want %q, %t", c.path, got, settled, c.want, c.settled)
		}
	}
}

func FuzzUnitOf(f *testing.F) {
	for _, path := range []string{
		"/", "/system.slice/nginx.service", "/user.slice/user-1000.slice/user@1000.service/app.slice/x.service",
		"/a.slice/_cpu.service/x", "/docker/0123/x.service", "/../..//getty@.service", "/-.slice/@.scope",
	} {
		f.Add(path, "x.service")
	}
	f.Fuzz(func(t *testing.T, path, below string) {
		unit, settled := unitOf(path)
		if unit == "" {
			return
		}
		if !settled || unitType(unit) == "" || unitType(unit) == "slice" || !strings.Contains(path, unit) {
			t.Errorf("unitOf(%q) = %q, %t", path, unit, settled)
		}
		if deeper, _ := unitOf(path + "/" + below); deeper != unit {
			t.Errorf("a folder %q in %q turned unit %q into %q", below, path, unit, deeper)
		}
	})
}
