package privilege

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/purser-agent/purser/pkg/testkit"
)

// The account to become, and another one. Neither needs an entry anywhere.
const (
	service = 54321
	other   = 54322
)

// wantUnprivileged checks each thread of a process from outside. It must be uid and
// gid in all their forms.
func wantUnprivileged(t *testing.T, p *testkit.Process, id int, groups, bounding string) {
	t.Helper()
	ids := strings.TrimSpace(strings.Repeat(strconv.Itoa(id)+" ", 4))
	const none = "0000000000000000"
	want := map[string]string{
		"Uid": ids, "Gid": ids, "Groups": groups, "NoNewPrivs": "1",
		"CapInh": none, "CapPrm": none, "CapEff": none, "CapAmb": none, "CapBnd": bounding,
	}
	all := threads(t, p)
	if len(all) < 17 {
		t.Fatalf("only %d threads", len(all))
	}
	for _, thread := range all {
		for name, value := range want {
			if thread[name] != value {
				t.Errorf("thread %s: %s is %s, want %s", thread["Pid"], name, thread[name], value)
			}
		}
	}
}

// ownBounding is the bounding set that processes inherit from this one.
func ownBounding(t *testing.T) string {
	t.Helper()
	own, err := ownState()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%016x", own.bounding)
}

func TestRootIsGivenUpOnAllThreads(t *testing.T) {
	testkit.NeedRoot(t)
	for _, c := range []struct {
		name   string
		groups []uint32
		want   string
	}{
		{"no further groups", nil, ""},
		{"further groups", []uint32{60002, 60001}, "60001 60002"},
	} {
		t.Run(c.name, func(t *testing.T) {
			attributes := syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Credential: &syscall.Credential{Groups: []uint32{0, 4, 27}}}
			p, got := startDrop(t, attributes, orders{To: IDs{service, service, c.groups}, Listen: ":80"})
			if got.Error != "" {
				t.Fatal(got.Error)
			}
			wantUnprivileged(t, p, service, c.want, "0000000000000000")
			if r := got.Report; !r.Dropped || !r.BoundingEmpty || !r.NoNewPrivileges || r.Threads < 9 {
				t.Errorf("report %+v", r)
			}
			if got.BindsAgain {
				t.Error("a low port can still be bound")
			}
			if got.OwnFiles != "" {
				t.Errorf("cannot read of itself: %s", got.OwnFiles)
			}
		})
	}
}

func TestCapabilitiesOfAnotherUserAreGivenUp(t *testing.T) {
	testkit.NeedRoot(t)
	for _, c := range []struct {
		name         string
		capabilities []uintptr
		bounding     string
	}{
		{"as from AmbientCapabilities=", []uintptr{unix.CAP_NET_BIND_SERVICE}, ownBounding(t)},
		{"enough to become root", []uintptr{unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_NET_BIND_SERVICE}, ownBounding(t)},
		{"enough to empty the bounding set", []uintptr{unix.CAP_SETPCAP}, "0000000000000000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			attributes := syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWNET,
				Credential:  &syscall.Credential{Uid: other, Gid: other, Groups: []uint32{60003}},
				AmbientCaps: c.capabilities,
			}
			p, got := startDrop(t, attributes, orders{To: IDs{UID: service, GID: service}})
			if got.Error != "" {
				t.Fatal(got.Error)
			}
			wantUnprivileged(t, p, other, "60003", c.bounding)
			if r := got.Report; !r.Dropped || !r.NoNewPrivileges || r.BoundingEmpty != (c.bounding == "0000000000000000") {
				t.Errorf("report %+v", r)
			}
			if got.BindsAgain {
				t.Error("a low port can still be bound")
			}
		})
	}
}

// asUser is a start as a user without privileges.
func asUser(t *testing.T, uid uint32) syscall.SysProcAttr {
	t.Helper()
	testkit.NeedRoot(t)
	return syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
}

func TestNormalUserHasNothingToGiveUp(t *testing.T) {
	p, got := startDrop(t, asUser(t, other), orders{To: IDs{UID: service, GID: service}})
	if got.Error != "" {
		t.Fatal(got.Error)
	}
	wantUnprivileged(t, p, other, "", ownBounding(t))
	if r := got.Report; r.Dropped || !r.NoNewPrivileges || r.Threads < 9 {
		t.Errorf("report %+v", r)
	}
}

func TestDropThatIsNoneIsAnError(t *testing.T) {
	testkit.NeedRoot(t)
	for _, c := range []struct {
		name   string
		orders orders
		want   string
	}{
		{"to root", orders{To: IDs{UID: 0, GID: service}}, "still root"},
		{"to root's group", orders{To: IDs{UID: service, GID: 0}}, "still root"},
		{"with root's group", orders{To: IDs{service, service, []uint32{4, 0}}}, "still root"},
		{"to no user", orders{To: IDs{UID: math.MaxUint32, GID: service}}, "no id"},
		{"to no group", orders{To: IDs{UID: service, GID: math.MaxUint32}}, "no id"},
		{"without the right to change user", orders{To: IDs{UID: service, GID: service}, Lack: unix.CAP_SETUID}, "become uid"},
		{"without the right to change groups", orders{To: IDs{UID: service, GID: service}, Lack: unix.CAP_SETGID}, "set groups"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, got := startDrop(t, syscall.SysProcAttr{}, c.orders)
			if !strings.Contains(got.Error, c.want) {
				t.Errorf("error %q, want one about %q", got.Error, c.want)
			}
		})
	}
}

func TestBuildWithCgoCannotGiveUpRoot(t *testing.T) {
	testkit.NeedRoot(t)
	if !withCgo() {
		t.Skip("needs a build with cgo, such as that for the race detector")
	}
	if err := giveUp(state{effective: 1 << unix.CAP_SETPCAP}, IDs{}); err == nil || !strings.Contains(err.Error(), "CGO_ENABLED=0") {
		t.Errorf("got %v", err)
	}
}

func TestMemoryIsHiddenFromTheSameUser(t *testing.T) {
	pidOf := func(p *testkit.Process) string { return strconv.Itoa(p.PID()) }
	plain := testkit.Start(t, asUser(t, service), "wait")
	if got := testkit.Start(t, asUser(t, service), "peek", pidOf(plain)).Line(); !strings.Contains(got, "environ") {
		t.Fatalf("of a process that hides nothing another reads only %q; this test could not fail", got)
	}
	hidden, _ := startDrop(t, syscall.SysProcAttr{}, orders{To: IDs{UID: service, GID: service}})
	if got := testkit.Start(t, asUser(t, service), "peek", pidOf(hidden)).Line(); got != "" {
		t.Errorf("another process reads %s", got)
	}
	limits, err := os.ReadFile("/proc/" + pidOf(hidden) + "/limits")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		if limit, found := strings.CutPrefix(line, "Max core file size"); found && strings.Join(strings.Fields(limit), " ") != "0 0 bytes" {
			t.Errorf("core dumps: %s", line)
		}
	}
}

func wantLocked(t *testing.T, p *testkit.Process, got outcome) {
	t.Helper()
	if locked := threads(t, p)[0]["VmLck"]; got.LockWarning != "" || locked == "" || locked == "0 kB" {
		t.Errorf("%s locked; %s", locked, got.LockWarning)
	}
}

func TestMemoryIsLockedWhereThereIsNoLimit(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Max != unix.RLIM_INFINITY {
		t.Skipf("needs an unlimited RLIMIT_MEMLOCK, it is %d bytes", limit.Max)
	}
	p, got := startDrop(t, asUser(t, other), orders{Limit: unix.RLIM_INFINITY})
	wantLocked(t, p, got)
}

func TestRootLiftsTheLimitOfLockedMemory(t *testing.T) {
	testkit.NeedRoot(t)
	if own, err := ownState(); err != nil || !own.has(unix.CAP_SYS_RESOURCE) {
		t.Skipf("needs CAP_SYS_RESOURCE (%v)", err)
	}
	p, got := startDrop(t, syscall.SysProcAttr{}, orders{To: IDs{UID: service, GID: service}, Limit: 64 << 10})
	wantLocked(t, p, got)
}

func TestMemoryIsNotLockedUpToALimit(t *testing.T) {
	p, got := startDrop(t, asUser(t, other), orders{Limit: 64 << 10})
	if locked := threads(t, p)[0]["VmLck"]; locked != "0 kB" || !strings.Contains(got.LockWarning, "65536 bytes") {
		t.Errorf("%s locked; %s", locked, got.LockWarning)
	}
}

func TestProofFailsOnAThreadThatWasLeftOut(t *testing.T) {
	testkit.NeedRoot(t)
	if got := testkit.Start(t, syscall.SysProcAttr{}, "one thread").Line(); !strings.Contains(got, "uids are [0 0 0 0]") {
		t.Errorf("the proof says %q", got)
	}
}
