package handover

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/purser-agent/purser/pkg/credential"
)

var moment = time.Date(2026, 11, 23, 5, 0, 0, 0, time.UTC)

func state(saved time.Time) *State {
	var web, user, token Credential
	web.Name, web.Identity, web.Fetched = "web", "i1", moment
	web.Set(&credential.AWS{AccessKeyID: "ASIAEXAMPLE", SecretAccessKey: credential.NewSecret("s3cret"), SessionToken: credential.NewSecret("t0ken"), AccountID: "123456789012", RoleARN: "arn", Issued: moment, Expires: moment.Add(time.Hour)})
	user.Name = "user"
	user.Set(&credential.AWS{AccessKeyID: "AKIAEXAMPLE", SecretAccessKey: credential.NewSecret("s3cret"), Issued: moment})
	token.Name, token.Variant, token.OnDemand = "ci", "audience", true
	token.Set(&credential.Token{Value: credential.NewSecret("jwt"), Type: "JWT", Issued: moment, Expires: moment.Add(time.Hour)})
	return &State{Saved: saved, SessionTokens: []byte("key"), Upstreams: map[string]Upstream{
		"dc": {Credentials: []Credential{web, user, {Name: "never"}}},
		"v":  {Credentials: []Credential{token}, Session: []byte(`{}`), SessionIdentity: "i2"},
	}}
}

func TestAStateComesBackAsItWas(t *testing.T) {
	got, err := decodeText(mustEncode(t, state(moment)))
	if err != nil || !reflect.DeepEqual(got, state(moment)) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, u := range got.Upstreams {
		for _, c := range u.Credentials {
			value := c.Value()
			var again Credential
			if value != nil {
				again.Set(value)
			}
			if !reflect.DeepEqual(again.AWS, c.AWS) || !reflect.DeepEqual(again.Token, c.Token) {
				t.Errorf("%s becomes %+v and then %+v", c.Name, value, again)
			}
		}
	}
	if never := got.Upstreams["dc"].Credentials[2]; never.Value() != nil {
		t.Errorf("what was never fetched is %v", never.Value())
	}
}

// TestWhatAReleaseHasLeftIsRead has a file of each version of the form, as an upgrade finds
// it. A change of the form keeps reading those, or an upgrade in an outage is one.
func TestWhatAReleaseHasLeftIsRead(t *testing.T) {
	text, err := os.ReadFile("testdata/version-2")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodeText(text); err != nil || !reflect.DeepEqual(got, state(moment)) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// damaged are states that must not be used, and what is said about them.
func damaged(t testing.TB) map[string][]byte {
	good := mustEncode(t, state(moment))
	change := func(at int) []byte {
		bad := bytes.Clone(good)
		bad[at] ^= 1
		return bad
	}
	return map[string][]byte{
		"it was made by another version of Purser": []byte("purser handover 1\n" + string(good[len(heading):])),
		"it is cut off":                          good[:len(heading)+10],
		"it is damaged: its checksum is another": change(len(good) - 3),
	}
}

func decodeText(text []byte) (*State, error) {
	return decode(bytes.NewReader(text), int64(len(text)))
}

func TestADamagedStateIsNotUsed(t *testing.T) {
	for want, text := range damaged(t) {
		if s, err := decodeText(text); err == nil || err.Error() != want || s != nil {
			t.Errorf("got %v, %v, want %s", s, err, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	good := mustEncode(f, state(moment))
	f.Add(good)
	for _, text := range damaged(f) {
		f.Add(text)
	}
	f.Add(good[body:])
	f.Fuzz(func(t *testing.T, text []byte) {
		sum := sha256.Sum256(text)
		for _, text := range [][]byte{text, slices.Concat([]byte(heading), sum[:], text)} {
			s, err := decodeText(text)
			if err != nil && (s != nil || strings.Contains(err.Error(), "s3cret")) {
				t.Errorf("got %v beside %v", s, err)
			}
			if err != nil {
				continue
			}
			for _, u := range s.Upstreams {
				for _, c := range u.Credentials {
					c.Value()
				}
			}
		}
	})
}

// systemd is the other end of sd_notify: the descriptors that it keeps, by name.
type systemd struct {
	t     *testing.T
	conn  *net.UnixConn
	files map[string][]*os.File
	log   []string
}

func newSystemd(t *testing.T) *systemd {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	s := &systemd{t: t, conn: conn, files: map[string][]*os.File{}}
	t.Cleanup(func() {
		conn.Close()
		for _, files := range s.files {
			for _, f := range files {
				f.Close()
			}
		}
	})
	return s
}

// take handles the messages that have arrived, as systemd does.
func (s *systemd) take() {
	s.t.Helper()
	for {
		message, rights := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
		_ = s.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		n, oobn, _, _, err := s.conn.ReadMsgUnix(message, rights)
		if err != nil {
			return
		}
		fields := map[string]string{}
		for line := range strings.Lines(string(message[:n])) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			fields[key] = value
		}
		s.log = append(s.log, string(message[:n]))
		var passed *os.File
		if oobn > 0 {
			parsed, err := unix.ParseSocketControlMessage(rights[:oobn])
			if err != nil {
				s.t.Fatal(err)
			}
			fds, err := unix.ParseUnixRights(&parsed[0])
			if err != nil {
				s.t.Fatal(err)
			}
			passed = os.NewFile(uintptr(fds[0]), fields["FDNAME"])
		}
		switch name := fields["FDNAME"]; {
		case fields["FDSTORE"] == "1":
			s.files[name] = append(s.files[name], passed)
		case fields["FDSTOREREMOVE"] == "1":
			for _, f := range s.files[name] {
				f.Close()
			}
			delete(s.files, name)
		case fields["BARRIER"] == "1":
			passed.Close()
		}
	}
}

// passed are copies of the stored descriptors, for the next process.
func (s *systemd) passed() (files []*os.File) {
	for name, stored := range s.files {
		for _, f := range stored {
			fd, err := unix.Dup(int(f.Fd()))
			if err != nil {
				s.t.Fatal(err)
			}
			files = append(files, os.NewFile(uintptr(fd), name))
		}
	}
	return files
}

func TestTheNextProcessFindsTheLatestState(t *testing.T) {
	manager := newSystemd(t)
	for process := range 4 {
		d, s, rest, err := Open(append(manager.passed(), os.NewFile(uintptr(openNull(t)), "main")))
		if err != nil || len(rest) != 1 || rest[0].Name() != "main" {
			t.Fatalf("process %d: got %v, %v", process, rest, err)
		}
		rest[0].Close()
		if want := moment.Add(time.Duration(process*10-8) * time.Second); process > 0 && (s == nil || !s.Saved.Equal(want)) {
			t.Errorf("process %d finds %v, want what was saved at %v", process, s, want)
		}
		for i := range 3 {
			if err := d.Store(state(moment.Add(time.Duration(process*10+i) * time.Second))); err != nil {
				t.Fatal(err)
			}
		}
		manager.take()
		if len(manager.files) != 1 {
			t.Errorf("process %d leaves %v", process, manager.files)
		}
	}
}

func openNull(t *testing.T) int {
	t.Helper()
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// TestACrashBetweenTwoMessagesLosesNothing: the new file is there before the old one
// goes, and the newer of two counts.
func TestACrashBetweenTwoMessagesLosesNothing(t *testing.T) {
	manager := newSystemd(t)
	d, _, _, err := Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	// The clock is set back between the two.
	if err := errors.Join(d.Store(state(moment.Add(time.Hour))), d.Store(state(moment.Add(time.Second)))); err != nil {
		t.Fatal(err)
	}
	manager.take()
	for i, message := range manager.log {
		if store := i%2 == 0; strings.HasPrefix(message, "FDSTORE=1\n") != store {
			t.Errorf("message %d is %q", i, message)
		}
	}
	before := state(moment.Add(time.Hour))
	before.Serial = 1
	old, err := seal(before)
	if err != nil {
		t.Fatal(err)
	}
	manager.files["purser-stock-a"] = append(manager.files["purser-stock-a"], old)
	_, s, _, err := Open(manager.passed())
	if err != nil || s == nil || !s.Saved.Equal(moment.Add(time.Second)) {
		t.Errorf("got %v, %v, want the later one", s, err)
	}
}

func mustEncode(t testing.TB, s *State) []byte {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	text, err := []byte(nil), encode(s, file)
	if err == nil {
		text, err = os.ReadFile(file.Name())
	}
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestAStoredFileCannotBeChangedOrReplacedByAnother(t *testing.T) {
	manager := newSystemd(t)
	d, _, _, _ := Open(nil)
	if err := d.Store(state(moment)); err != nil {
		t.Fatal(err)
	}
	manager.take()
	stored := manager.files["purser-stock-a"][0]
	if _, err := stored.WriteAt([]byte("x"), 0); err == nil {
		t.Error("the file can be written to")
	}
	if err := stored.Truncate(0); err == nil {
		t.Error("the file can be cut off")
	}
	loose, err := os.CreateTemp(t.TempDir(), "loose")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := loose.Write(mustEncode(t, state(moment))); err != nil {
		t.Fatal(err)
	}
	_, s, _, err := Open([]*os.File{os.NewFile(uintptr(dup(t, loose)), "purser-stock-a")})
	if s != nil || err == nil || err.Error() != "what the former process left (purser-stock-a) cannot be used: it is not sealed" {
		t.Errorf("got %v, %v", s, err)
	}
	_ = loose.Close()
}

func dup(t *testing.T, f *os.File) int {
	t.Helper()
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestABarrierReturnsWhenSystemdHasSeenIt(t *testing.T) {
	manager := newSystemd(t)
	d, _, _, _ := Open(nil)
	if err := d.Barrier(20 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "systemd did not answer") {
		t.Errorf("nobody looked, and the barrier says %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- d.Barrier(10 * time.Second) }()
	for len(done) == 0 {
		manager.take()
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWithoutSystemdNothingIsStored(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	d, s, rest, err := Open(nil)
	if d != nil || s != nil || rest != nil || err != nil {
		t.Errorf("got %v, %v, %v, %v", d, s, rest, err)
	}
	if err := errors.Join(d.Store(state(moment)), d.Barrier(time.Second)); err != nil {
		t.Error(err)
	}
}
