package caller

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// newAccounts returns Accounts of the files in testdata and of a directory that
// has the users alice, bob and 5000, and the group remote.
func newAccounts(t *testing.T) Accounts {
	t.Setenv("PURSER_TEST_TOKEN", "the directory's helpers must not see this")
	return Accounts{dir: "testdata/etc", getent: newGetent(t, `
[ -z "$PURSER_TEST_TOKEN" ] || exit 1
database=$1; shift 2
status=0
for key; do
	case $database:$key in
	passwd:alice) echo 'alice@corp:*:20001:20000:Alice:/home/alice:/bin/bash' ;;
	passwd:bob) echo 'bob:*:20002:20000:Bob:/home/bob:/bin/bash' ;;
	passwd:5000) echo 'carol:*:5000:20000:Carol:/home/carol:/bin/bash' ;;
	passwd:6000) echo 'not-6000:*:6001:20000::/:/bin/bash' ;;
	passwd:empty) ;;
	group:remote) echo 'remote:*:20000:bob,backup' ;;
	*) status=2 ;;
	esac
done
exit $status`)}
}

// newGetent returns the path of a shell script in the place of getent.
func newGetent(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "getent")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAccountsFindUsersInFilesThenInTheDirectory(t *testing.T) {
	accounts := newAccounts(t)
	for _, c := range []struct {
		name string
		want uint32
		err  error
	}{
		{"root", 0, nil},
		{"backup", 1001, nil},
		{"alice", 20001, nil},
		{"1000", 1000, nil}, // without an account
		{"2000", 2000, nil}, // an account of that name has another number
		{"5000", 5000, nil},
		{"nosuch", 0, ErrUnknownAccount},
		{"twisted", 0, ErrUnknownAccount},
		{"+nisuser", 0, ErrUnknownAccount},
		{"none", 0, ErrUnknownAccount},
		{"empty", 0, ErrUnknownAccount},
		{"", 0, ErrUnknownAccount},
		{"4294967295", 0, ErrUnknownAccount},
		{"4294967296", 0, ErrUnknownAccount},
		{"-i", 0, ErrUnknownAccount},
		{"root:x", 0, ErrUnknownAccount},
		{"root\nbackup", 0, ErrUnknownAccount},
		{"root\x00", 0, ErrUnknownAccount},
	} {
		got, err := accounts.UID(t.Context(), c.name)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("UID(%q) = %d, %v; want %d, %v", c.name, got, err, c.want, c.err)
		}
	}
}

func TestAccountsResolveMembersOfGroups(t *testing.T) {
	accounts := newAccounts(t)
	for _, c := range []struct {
		name, group string
		want        []uint32
		err         error
	}{
		{"listed and primary", "users", []uint32{990, 1001, 1002, 1003}, nil},
		{"by number", "100", []uint32{990, 1001, 1002, 1003}, nil},
		{"listed twice and not there", "adm", []uint32{990}, nil},
		{"listed, but in the directory", "staff", []uint32{1001, 20001, 20002}, nil},
		{"nobody", "nobodyhere", nil, nil},
		{"a group of the directory", "remote", []uint32{1001, 20002}, nil},
		{"primary of a number without a group", "3000", []uint32{3000}, nil},
		{"a number of nothing", "7777", nil, nil},
		{"unknown", "nosuch", nil, ErrUnknownAccount},
		{"not a number", "twisted", nil, ErrUnknownAccount},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := accounts.Members(t.Context(), c.group)
			if !slices.Equal(got, c.want) || !errors.Is(err, c.err) {
				t.Errorf("Members(%q) = %v, %v; want %v, %v", c.group, got, err, c.want, c.err)
			}
		})
	}
}

func TestAccountsKnowAUsersGroups(t *testing.T) {
	accounts := newAccounts(t)
	for _, c := range []struct {
		user string
		want []uint32
		err  error
	}{
		{"purser", []uint32{4, 100, 107}, nil},
		{"990", []uint32{4, 100, 107}, nil},
		{"daemon", nil, nil},
		{"bob", []uint32{50}, nil},
		{"1000", nil, nil},
		{"6000", nil, nil},
		{"nosuch", nil, ErrUnknownAccount},
	} {
		got, err := accounts.Groups(t.Context(), c.user)
		if !slices.Equal(got, c.want) || !errors.Is(err, c.err) {
			t.Errorf("Groups(%q) = %v, %v; want %v, %v", c.user, got, err, c.want, c.err)
		}
	}
}

func TestAccountsNameUsersAndNumberGroups(t *testing.T) {
	accounts := newAccounts(t)
	for uid, want := range map[uint32]string{0: "root", 990: "purser", 5000: "carol", 3000: "2000"} {
		if got, err := accounts.Name(t.Context(), uid); got != want || err != nil {
			t.Errorf("Name(%d) = %q, %v; want %q", uid, got, err, want)
		}
	}
	if got, err := accounts.Name(t.Context(), 2000); !errors.Is(err, ErrUnknownAccount) {
		t.Errorf("Name(2000) = %q, %v; want ErrUnknownAccount", got, err)
	}
	for name, want := range map[string]uint32{"adm": 4, "remote": 20000, "4": 4, "12345": 12345} {
		if got, err := accounts.GID(t.Context(), name); got != want || err != nil {
			t.Errorf("GID(%q) = %d, %v; want %d", name, got, err, want)
		}
	}
}

func TestDirectoryThatDoesNotAnswerIsNotAnUnknownAccount(t *testing.T) {
	for _, c := range []struct{ name, script string }{
		{"hangs", "exec sleep 60"},
		{"hangs in a child that keeps the pipe", "sleep 60"},
		{"fails", "exit 1"},
		{"dies", "kill -9 $$"},
		{"answers without end", "exec yes alice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			accounts := Accounts{dir: "testdata/etc", getent: newGetent(t, c.script), wait: 100 * time.Millisecond}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			got, err := accounts.UID(ctx, "alice")
			if err == nil || errors.Is(err, ErrUnknownAccount) {
				t.Errorf("UID = %d, %v; want another error", got, err)
			}
			members, err := accounts.Members(ctx, "staff")
			if err == nil || errors.Is(err, ErrUnknownAccount) {
				t.Errorf("Members = %v, %v; want another error", members, err)
			}
			if ctx.Err() != nil {
				t.Error("the directory was waited for longer than it was to be")
			}
		})
	}
}

func TestHostWithoutDirectoryOrFilesKnowsNobody(t *testing.T) {
	accounts := Accounts{dir: t.TempDir(), getent: filepath.Join(t.TempDir(), "getent")}
	if got, err := accounts.UID(t.Context(), "root"); !errors.Is(err, ErrUnknownAccount) {
		t.Errorf("UID(root) = %d, %v; want ErrUnknownAccount", got, err)
	}
	if got, err := accounts.UID(t.Context(), "1000"); got != 1000 || err != nil {
		t.Errorf("UID(1000) = %d, %v; want 1000", got, err)
	}
}

func TestAccountsOfThisHost(t *testing.T) {
	var accounts Accounts
	if uid, err := accounts.UID(t.Context(), "root"); uid != 0 || err != nil {
		t.Errorf("UID(root) = %d, %v; want 0", uid, err)
	}
	if uid, err := accounts.UID(t.Context(), "no-such-user-of-purser"); !errors.Is(err, ErrUnknownAccount) {
		t.Errorf("UID of nobody = %d, %v; want ErrUnknownAccount", uid, err)
	}
}

func FuzzAccountFiles(f *testing.F) {
	for _, name := range []string{"passwd", "group"} {
		text, err := os.ReadFile(filepath.Join("testdata/etc", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("a:b:1:2"))
	f.Add([]byte(":::\n::::::,,,"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, user := range parsePasswd(text) {
			if !isAccountName(user.name) || user.uid == 1<<32-1 || user.gid == 1<<32-1 {
				t.Errorf("no account: %+v", user)
			}
		}
		for _, group := range parseGroup(text) {
			if !isAccountName(group.name) || group.gid == 1<<32-1 || slices.ContainsFunc(group.members, func(m string) bool { return !isAccountName(m) }) {
				t.Errorf("no group: %+v", group)
			}
		}
	})
}
