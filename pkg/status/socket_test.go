package status

import (
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSocketIsOpenToAllWhateverTheUmask(t *testing.T) {
	defer unix.Umask(unix.Umask(0o077))
	path := filepath.Join(folder(t), "missing", "purser.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, want := range map[string]os.FileMode{
		path:               os.ModeSocket | 0o666,
		filepath.Dir(path): os.ModeDir | 0o755,
	} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode(); got != want {
			t.Errorf("%s: mode %v, want %v", name, got, want)
		}
	}
}

func TestFolderThatExistsKeepsItsMode(t *testing.T) {
	parent := folder(t)
	if err := os.Chmod(parent, 0o750); err != nil {
		t.Fatal(err)
	}
	l, err := Listen(filepath.Join(parent, "purser.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	info, err := os.Stat(parent)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := info.Mode().Perm(), os.FileMode(0o750); got != want {
		t.Errorf("mode %v, want %v", got, want)
	}
}

// abandon leaves a socket behind as a crash does.
func abandon(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestSocketThatNobodyAnswersOnIsReplaced(t *testing.T) {
	path := filepath.Join(folder(t), "purser.sock")
	abandon(t, path)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestSocketOfARunningPurserIsLeftAlone(t *testing.T) {
	path := filepath.Join(folder(t), "purser.sock")
	first, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := Listen(path); !errors.Is(err, errRunning) {
		t.Errorf("got %v, want %v", err, errRunning)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("the first one no longer answers: %v", err)
	}
	conn.Close()
}

func TestWhatIsNoSocketIsLeftAlone(t *testing.T) {
	path := filepath.Join(folder(t), "purser.sock")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("got %v, want an error that says it is not a socket", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "precious" {
		t.Errorf("the file now holds %q", got)
	}
}

func TestPathThatIsTooLongIsAnErrorThatSaysSo(t *testing.T) {
	path := filepath.Join(folder(t), strings.Repeat("x", 120))
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "a Unix socket allows 107") {
		t.Errorf("got %v, want an error about the length", err)
	}
}

func TestClientSaysWhatIsWrong(t *testing.T) {
	parent := folder(t)
	stale := filepath.Join(parent, "stale")
	abandon(t, stale)
	stranger := func(t *testing.T, socket string) *Client { return clientAs(t, socket, stranger, stranger) }
	anyone := func(_ *testing.T, socket string) *Client { return NewClient(socket) }
	closed := filepath.Join(parent, "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		client func(t *testing.T, socket string) *Client
		socket string
		is     error
		want   string
	}{
		{"no socket", anyone, filepath.Join(parent, "none"), ErrNotRunning, "nobody answers on " + parent},
		{"no folder", anyone, filepath.Join(parent, "no", "ne"), ErrNotRunning, "nobody answers on " + parent},
		{"nobody behind the socket", anyone, stale, ErrNotRunning, "nobody answers on " + parent},
		{"a folder that is not for everyone", stranger, filepath.Join(closed, "s"), ErrDenied, "every folder above it must be open"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := test.client(t, test.socket).Status(t.Context())
			if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %v and %q", err, test.is, test.want)
			}
		})
	}
}

func TestClientDoesNotTrustTheAnswer(t *testing.T) {
	for _, test := range []struct {
		name, body string
		code       int
		want       string
	}{
		{"no JSON", "<html>", 200, "is not Purser's"},
		{"error without JSON", "\x1b[31moops", 500, "status: Purser answered 500 Internal Server Error"},
		{"error with escape sequences", `{"error":"a\u001b[31m"}`, 500, `a\x1b[31m`},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(folder(t), "s")
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.code)
				_, _ = w.Write([]byte(test.body))
			})}
			go server.Serve(l)
			defer server.Close()
			if _, err := NewClient(path).Status(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestOpenConnectionsAreBoundedForAllTogether(t *testing.T) {
	for _, test := range []struct {
		name  string
		admin bool
		want  int
	}{
		{"administrators", true, maxAdmins},
		{"others, each with an account of their own", false, maxOthers},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := &gate{perUser: map[uint32]int{}}
			entered := 0
			for uid := range uint32(1000) {
				if g.enter(uid, test.admin) {
					entered++
				}
			}
			if entered != test.want {
				t.Errorf("%d were let in, want %d", entered, test.want)
			}
			if !g.enter(0, !test.admin) {
				t.Error("they take the places of the others")
			}
			for uid := range uint32(entered) {
				g.leave(uid, test.admin)
			}
			g.leave(0, !test.admin)
			if g.admins != 0 || g.others != 0 || len(g.perUser) != 0 {
				t.Errorf("after all have left: %d administrators, %d others, %d accounts, want none", g.admins, g.others, len(g.perUser))
			}
		})
	}
}
