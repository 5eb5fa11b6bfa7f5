package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

const confidential = "CONFIDENTIAL0123456789"

func TestErrorsOfTheConfigurationBeginWithTheirKey(t *testing.T) {
	secret := credential.SecretRef{Value: credential.NewSecret("x\x00")}
	for _, test := range []struct {
		name string
		of   Credential
		want string
	}{
		{"nothing", Credential{}, "credentials.web.command: missing, such as [/usr/local/bin/get-keys]; or socket names one to ask"},
		{"both", Credential{Command: []string{"/a"}, Socket: "/b"}, "credentials.web.socket: there is a command, too; one of them gives the keys"},
		{"no path", Credential{Command: []string{"get-keys"}}, `credentials.web.command: "get-keys" does not start with /; a program needs its whole path`},
		{"no path of a socket", Credential{Socket: "x.sock"}, `credentials.web.socket: "x.sock" does not start with /`},
		{"zero byte", Credential{Command: []string{"/a", "\x00"}}, "credentials.web.command: an argument has a zero byte"},
		{"variable", Credential{Command: []string{"/a"}, Env: map[string]credential.SecretRef{"A=B": {}}}, `credentials.web.env: "A=B" cannot be the name of a variable`},
		{"value", Credential{Command: []string{"/a"}, Env: map[string]credential.SecretRef{"A": secret}}, "credentials.web.env.A: the value has a zero byte"},
		{"environment of a socket", Credential{Socket: "/a", Env: map[string]credential.SecretRef{"A": {}}}, "credentials.web.env: only a command has an environment; the unit behind the socket has Environment="},
		{"time", Credential{Command: []string{"/a"}, Timeout: time.Minute}, "credentials.web.timeout: 1m0s is not between 0s and 50s"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := &Options{Credentials: map[string]Credential{"web": test.of}}
			if err := o.Validate(); err == nil || err.Error() != test.want {
				t.Errorf("got %v\nwant %s", err, test.want)
			}
		})
	}
	if err := Defaults().Validate(); err == nil || err.Error() != "credentials: missing, such as NAME: {command: [/usr/local/bin/get-keys]}" {
		t.Errorf("got %v", err)
	}
	if err := (&Options{Credentials: map[string]Credential{"a/b": {Socket: "/s"}}}).Validate(); err == nil {
		t.Error("a name with a slash is accepted")
	}
}

// printer is upstream.Programs in which each program prints the same.
type printer struct {
	asked  upstream.Program
	stdout string
	err    error
}

func (p *printer) Run(_ context.Context, asked upstream.Program, diagnose func(string)) ([]byte, error) {
	p.asked = asked
	diagnose("printing")
	return []byte(p.stdout), p.err
}

func open(t *testing.T, c Credential, programs upstream.Programs, log io.Writer) *Source {
	t.Helper()
	s, err := New("login", &Options{Credentials: map[string]Credential{"web": c}}, programs, zerolog.New(log))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var web = credential.Key{Name: "web"}

// printed is a complete answer, which ends in 2099.
const printed = `{"Version": 1, "AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "` + confidential + `", "SessionToken": "` + confidential + `=", "Expiration": "2099-01-31T14:00:00.5+02:00", "AccountId": "123456789012", "CredentialScope": null}` + "\n"

func TestWhatAProgramPrintsBecomesACredential(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	p := &printer{stdout: printed}
	s := open(t, Credential{
		Command: []string{"/bin/login", "-x"},
		Env:     map[string]credential.SecretRef{"B": {File: file}, "A": {Value: credential.NewSecret("in place")}, "C": {Value: credential.NewSecret("no")}},
	}, p, &log)
	c, err := s.Fetch(t.Context(), web)
	if err != nil {
		t.Fatal(err)
	}
	keys := c.(*credential.AWS)
	if keys.AccessKeyID != "ASIAEXAMPLE" || keys.SecretAccessKey.Reveal() != confidential || keys.SessionToken.Reveal() != confidential+"=" ||
		keys.AccountID != "123456789012" || !keys.Expires.Equal(time.Date(2099, 1, 31, 12, 0, 0, 0, time.UTC)) || time.Since(keys.Issued) > time.Minute {
		t.Errorf("got %+v until %v", keys, keys.Expires)
	}
	if got, want := fmt.Sprintf("%q %q %v", p.asked.Args, p.asked.Env, p.asked.Timeout), `["/bin/login" "-x"] ["A=in place" "B=from a file" "C=no"] 10s`; got != want {
		t.Errorf("asked for %s, want %s", got, want)
	}
	if got, want := log.String(), `{"level":"info","upstream":"login","credential":"web","program":"/bin/login","line":"printing","message":"the program says on its standard error"}`+"\n"; got != want {
		t.Errorf("logged %s", got)
	}
	p.stdout = `{"Version":1,"AccessKeyId":"AKIAEXAMPLE","SecretAccessKey":"secret","Expiration":null}`
	c, err = s.Fetch(t.Context(), web)
	if err != nil {
		t.Fatal(err)
	}
	if keys := c.(*credential.AWS); !keys.Expires.IsZero() || !keys.SessionToken.Empty() {
		t.Errorf("got %+v, want keys without an end", keys)
	}
}

func TestWhatIsWrongWithWhatAProgramPrintsIsOneSentence(t *testing.T) {
	with := func(old, new string) string {
		if !strings.Contains(printed, old) {
			t.Fatalf("no %s in the answer", old)
		}
		return strings.Replace(printed, old, new, 1)
	}
	for _, test := range []struct {
		name, stdout string
		class        upstream.Class
		want         string
	}{
		{"nothing", " \n", upstream.ClassIncomplete, "it printed nothing; it must print keys in the form of credential_process"},
		{"words", confidential, upstream.ClassMalformed, "the answer is not a JSON document with credentials, or not all of one"},
		{"half", printed[:90], upstream.ClassMalformed, "the answer is not a JSON document with credentials, or not all of one"},
		{"more", printed + confidential, upstream.ClassMalformed, "something follows the JSON document"},
		{"twice", with(`"SecretAccessKey"`, `"SecretAccessKey": "x", "SecretAccessKey"`), upstream.ClassMalformed, "SecretAccessKey is there twice"},
		{"no version", with(`"Version": 1, `, ""), upstream.ClassIncomplete, "the answer has no Version; it must print keys in the form of credential_process"},
		{"version 2", with(`1,`, "2,"), upstream.ClassMalformed, "the Version of the answer is not the number 1, the only form of credential_process that there is"},
		{"version as a text", with(`1,`, `"1",`), upstream.ClassMalformed, "the Version of the answer is not the number 1, the only form of credential_process that there is"},
		{"no key ID", with("AccessKeyId", "accessKeyId"), upstream.ClassIncomplete, "AccessKeyId is missing"},
		{"no secret", with(`"SecretAccessKey": "`+confidential+`"`, `"SecretAccessKey": ""`), upstream.ClassIncomplete, "SecretAccessKey is missing"},
		{"secret as a number", with(`"`+confidential+`"`, "7"), upstream.ClassMalformed, "SecretAccessKey is not a string"},
		{"line end", with(confidential, confidential+`\n`), upstream.ClassMalformed, "SecretAccessKey has characters that do not belong in it"},
		{"no token", with("SessionToken", "Token"), upstream.ClassIncomplete, "SessionToken is missing, without which keys of a session (ASIA...) are of no use"},
		{"account", with("123456789012", confidential), upstream.ClassMalformed, "AccountId is not an account's twelve digits"},
		{"no zone", with("+02:00", ""), upstream.ClassMalformed, "the Expiration is not a time with a zone, such as 2026-01-31T12:00:00Z"},
		{"empty time", with("2099-01-31T14:00:00.5+02:00", ""), upstream.ClassMalformed, "the Expiration is not a time with a zone, such as 2026-01-31T12:00:00Z"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := open(t, Credential{Command: []string{"/bin/login"}}, &printer{stdout: test.stdout}, io.Discard).Fetch(t.Context(), web)
			fault, _ := errors.AsType[*upstream.Error](err)
			if fault == nil || fault.Error() != "program /bin/login: "+test.want || fault.Kind != test.class {
				t.Errorf("got %v\nwant %s: %s", err, test.class, test.want)
			}
		})
	}
	_, err := open(t, Credential{Command: []string{"/bin/login"}}, &printer{stdout: with("2099", "2019")}, io.Discard).Fetch(t.Context(), web)
	if err == nil || !strings.HasPrefix(err.Error(), "program /bin/login: the keys ended at 2019-01-31T12:00:00Z, ") {
		t.Errorf("got %v", err)
	}
}

func TestNobodyElseIsAskedFor(t *testing.T) {
	s := open(t, Credential{Command: []string{"/bin/login"}}, &printer{}, io.Discard)
	for _, key := range []credential.Key{{Name: "other"}, {Name: "web", Variant: "x"}} {
		if _, err := s.Fetch(t.Context(), key); !errors.Is(err, credential.ErrNotFound) {
			t.Errorf("%s: got %v", key, err)
		}
	}
}

func TestCheckTriesProgramsAndFiles(t *testing.T) {
	folder := t.TempDir()
	s := open(t, Credential{Command: []string{folder + "/none"}, Env: map[string]credential.SecretRef{"A": {File: folder + "/secret"}}}, nil, io.Discard)
	want := "DIR/secret does not exist\ncredentials.web.command: DIR/none: there is no such program"
	if err := s.Check(); err == nil || strings.ReplaceAll(err.Error(), folder, "DIR") != want {
		t.Errorf("got %v", err)
	}
	if s.Changed() {
		t.Error("nothing has changed")
	}
	if err := os.WriteFile(folder+"/none", []byte("#!/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if !s.Changed() || s.Changed() {
		t.Error("a program that comes is no change, or one twice")
	}
	if err := s.Check(); err == nil || !strings.Contains(err.Error(), "may not run it: the file "+folder+"/none belongs to") || !strings.Contains(err.Error(), "with mode 0644") {
		t.Errorf("got %v", err)
	}
	if err := open(t, Credential{Socket: folder + "/none.sock"}, nil, io.Discard).Check(); err != nil {
		t.Errorf("a socket may come later: %v", err)
	}
}

func TestAProgramThatEverybodyCanChangeIsWarnedAbout(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "login")
	if err := os.WriteFile(path, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	s := open(t, Credential{Command: []string{path}}, nil, io.Discard)
	for _, test := range []struct {
		name         string
		file, folder os.FileMode
		want         string
	}{
		{"neither", 0o755, 0o755, ""},
		{"the file", 0o757, 0o755, path},
		{"its folder", 0o755, 0o777, folder},
		{"its folder, but for files of others", 0o755, 0o777 | os.ModeSticky, ""},
	} {
		for at, mode := range map[string]os.FileMode{path: test.file, folder: test.folder} {
			if err := os.Chmod(at, mode); err != nil {
				t.Fatal(err)
			}
		}
		want := ""
		if test.want != "" {
			want = "everybody on this host can change what credentials.web.command runs as Purser's account: " + test.want + " is writable for all"
		}
		if got := strings.Join(s.Warnings(), "\n"); got != want {
			t.Errorf("%s: got %q, want %q", test.name, got, want)
		}
	}
	if got := open(t, Credential{Socket: path}, nil, io.Discard).Warnings(); got != nil {
		t.Errorf("got %q for a socket", got)
	}
}

// listen has a socket that treats each connection so.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return path
}

func TestASocketIsReadToItsEnd(t *testing.T) {
	var asked atomic.Int32
	path := listen(t, func(c net.Conn) {
		if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("got %d bytes, %v; nothing should be sent", n, err)
		}
		asked.Add(1)
		for _, part := range []string{printed[:20], printed[20:]} {
			_, _ = io.WriteString(c, part)
			time.Sleep(20 * time.Millisecond)
		}
	})
	c, err := open(t, Credential{Socket: path}, nil, io.Discard).Fetch(t.Context(), web)
	if err != nil || c.(*credential.AWS).AccessKeyID != "ASIAEXAMPLE" || asked.Load() != 1 {
		t.Errorf("got %v, %v after %d questions", c, err, asked.Load())
	}
}

func TestWhatIsWrongWithASocketIsOneSentence(t *testing.T) {
	folder := t.TempDir()
	left := filepath.Join(folder, "left.sock") // nobody listens any more
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: left, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, path, want string }{
		{"not there", folder + "/none.sock", "nobody listens there; start the .socket unit that does"},
		{"nobody", left, "nobody listens there; start the .socket unit that does"},
		{"silent", listen(t, func(c net.Conn) { time.Sleep(5 * time.Second) }), "it did not end its answer within 300ms; what it waits for, or timeout, needs a change"},
		{"endless", listen(t, func(c net.Conn) {
			for {
				if _, err := io.WriteString(c, confidential); err != nil {
					return
				}
			}
		}), "it gave more than 65536 bytes"},
		{"empty", listen(t, func(net.Conn) {}), "it printed nothing; it must print keys in the form of credential_process"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := Credential{Socket: test.path}
			if test.name == "silent" {
				c.Timeout = 300 * time.Millisecond
			}
			_, err := open(t, c, nil, io.Discard).Fetch(t.Context(), web)
			if err == nil || err.Error() != "socket "+test.path+": "+test.want {
				t.Errorf("got %v\nwant %s", err, test.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(printed))
	f.Add([]byte(`{"Version":1,"AccessKeyId":"AKIA","SecretAccessKey":"x"}`))
	f.Add([]byte(`{"Version":1.0}`))
	f.Fuzz(func(t *testing.T, output []byte) {
		keys, err := parse("program", output)
		if err != nil {
			if text := err.Error(); strings.Contains(text, confidential) || strings.ContainsAny(text, "\n\r") {
				t.Errorf("the error quotes what was printed: %s", text)
			}
			return
		}
		if keys.AccessKeyID == "" || keys.SecretAccessKey.Empty() || !keys.Expires.IsZero() && !keys.Expires.After(keys.Issued) {
			t.Errorf("accepted %+v", keys)
		}
	})
}
