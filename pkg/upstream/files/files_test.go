package files

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

const confidential = "CONFIDENTIAL0123456789"

// kept is a file as tools write them.
const kept = "\ufeff# kept by another tool\r\n" +
	"[default]\r\n" +
	"aws_access_key_id = AKIADEFAULT\r\n" +
	"aws_secret_access_key=" + confidential + "/a=b=\r\n" +
	"s3 =\r\n" +
	"  max_concurrent_requests = 20\r\n" +
	"\r\n" +
	"[ session ] ; of a login\r\n" +
	"  AWS_ACCESS_KEY_ID = ASIASESSION\r\n" +
	"  aws_secret_access_key = " + confidential + "\r\n" +
	"  aws_security_token = " + confidential + "=\r\n" +
	"  x_security_token_expires = 2099-01-31T14:00:00+02:00\r\n" +
	"  aws_session_expiration = 2099-01-31T11:00:00+0000\r\n" +
	"  aws_account_id = 123456789012\r\n" +
	"  region = eu-central-1\r\n" +
	"[settings]\r\n" +
	"region = eu-central-1\r\n"

func place(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "credentials")
	write(t, path, text)
	return path
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, path string, profiles map[string]string) *Source {
	t.Helper()
	s, err := New("kept", &Options{Path: path, Profiles: profiles}, zerolog.New(t.Output()))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func fetch(t *testing.T, s *Source, name string) *credential.AWS {
	t.Helper()
	c, err := s.Fetch(t.Context(), credential.Key{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return c.(*credential.AWS)
}

func TestProfilesBecomeCredentials(t *testing.T) {
	path := place(t, kept)
	s := open(t, path, nil)
	list, err := s.List(t.Context())
	if err != nil || !slices.Equal(list, credential.Keys([]string{"default", "session"})) || s.Declared() != nil {
		t.Fatalf("got %v, %v, declared %v", list, err, s.Declared())
	}
	user := fetch(t, s, "default")
	if user.AccessKeyID != "AKIADEFAULT" || user.SecretAccessKey.Reveal() != confidential+"/a=b=" || !user.SessionToken.Empty() || !user.Expires.IsZero() {
		t.Errorf("got %+v", user)
	}
	session := fetch(t, s, "session")
	if session.AccessKeyID != "ASIASESSION" || session.SessionToken.Reveal() != confidential+"=" || session.AccountID != "123456789012" ||
		!session.Expires.Equal(time.Date(2099, 1, 31, 11, 0, 0, 0, time.UTC)) {
		t.Errorf("got %+v until %v, want the earlier of both ends", session, session.Expires)
	}
	info, err := os.Stat(path)
	if err != nil || !session.Issued.Equal(info.ModTime().UTC().Truncate(time.Second)) {
		t.Errorf("issued at %v, want the time of the file (%v)", session.Issued, err)
	}
	named := open(t, path, map[string]string{"web": "session"})
	if list, err := named.List(t.Context()); err != nil || !slices.Equal(list, credential.Keys([]string{"web"})) {
		t.Errorf("got %v, %v", list, err)
	}
	if got := fetch(t, named, "web"); got.AccessKeyID != "ASIASESSION" {
		t.Errorf("got %+v", got)
	}
	if _, err := named.Fetch(t.Context(), credential.Key{Name: "session"}); !errors.Is(err, credential.ErrNotFound) {
		t.Errorf("got %v for a profile that is not named", err)
	}
}

func TestEndsInTheFormsOfOtherTools(t *testing.T) {
	want := time.Date(2099, 1, 31, 12, 0, 0, 0, time.UTC)
	for _, text := range []string{"2099-01-31T12:00:00Z", "2099-01-31T12:00:00.123Z", "2099-01-31T14:00:00+02:00", "2099-01-31T12:00:00+0000", "2099-01-31 12:00:00", "2099-01-31 13:00:00+01:00"} {
		if got, err := parseEnd(text); err != nil || !got.Equal(want) {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "1793534400", "soon", "2099-01-31T12:00:00", "31.01.2099"} {
		if got, err := parseEnd(text); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}

func TestWhatIsWrongWithAFileIsOneSentence(t *testing.T) {
	const head = "[web]\naws_access_key_id = ASIAWEB\n"
	const whole = head + "aws_secret_access_key = " + confidential + "\naws_session_token = " + confidential + "\n"
	for _, test := range []struct{ name, text, want string }{
		{"empty", "", "there is no [profile] in it"},
		{"no such profile", "[other]\n", `there is no profile "web" in it`},
		{"key before", "aws_access_key_id = " + confidential + "\n" + head, "line 1: a key before the first [profile]"},
		{"twice", whole + "[web]\n", "line 5: the same [profile] as in line 1"},
		{"key twice", whole + "aws_session_token = " + confidential + "x\n", "line 5: the same key as in line 4"},
		{"key twice in another case", whole + "AWS_SESSION_TOKEN = x\n", "line 5: the same key as in line 4"},
		{"half a profile", whole + "[we", "line 5: not a [profile]"},
		{"no name", "[ ]\n", "line 1: not a [profile]"},
		{"text after it", "[web] " + confidential + "\n", "line 1: something follows the [profile]"},
		{"half a key", head + confidential, "line 3: neither a [profile] nor a key with a value"},
		{"no key", head + "= " + confidential, "line 3: neither a [profile] nor a key with a value"},
		{"zeros", head + strings.Repeat("\x00", 50), "line 3: neither a [profile] nor a key with a value"},
		{"goes on", whole + "  " + confidential + "\n", "line 5: the value of the line before goes on here, which no key or token does"},
		{"quotes", head + `aws_secret_access_key = "` + confidential + "\"\n", "line 3: the value is in quotes, which some SDKs take for a part of it"},
		{"long", head + "x = " + strings.Repeat("x", maxLine), "line 3: longer than any line of such a file"},
		{"end", whole + "expiration = " + confidential + "\n", "expiration in line 5 is not a time with a zone, such as 2026-01-31T12:00:00Z"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel() // each waits for its file to settle
			path := place(t, test.text)
			_, err := open(t, path, map[string]string{"web": "web"}).Fetch(t.Context(), credential.Key{Name: "web"})
			if err == nil || err.Error() != "file "+path+": "+test.want {
				t.Errorf("got %v\nwant %s", err, test.want)
			}
		})
	}
	for _, test := range []struct{ name, text, want string }{
		{"no secret", head, "aws_secret_access_key is missing"},
		{"no token", head + "aws_secret_access_key = x\n", "aws_session_token is missing, without which keys of a session (ASIA...) are of no use"},
		{"remark", head + "aws_secret_access_key = " + confidential + " ; remark\n", "aws_secret_access_key in line 3 has characters that do not belong in it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel() // each waits for its file to settle
			path := place(t, test.text)
			_, err := open(t, path, map[string]string{"web": "web"}).Fetch(t.Context(), credential.Key{Name: "web"})
			if err == nil || err.Error() != "file "+path+`, profile "web": `+test.want {
				t.Errorf("got %v\nwant %s", err, test.want)
			}
		})
	}
	path := place(t, whole+"expiration = 2019-01-31T12:00:00Z\n")
	_, err := open(t, path, map[string]string{"web": "web"}).Fetch(t.Context(), credential.Key{Name: "web"})
	if err == nil || !strings.HasPrefix(err.Error(), "file "+path+`, profile "web": the keys ended at 2019-01-31T12:00:00Z, `) {
		t.Errorf("got %v", err)
	}
	path += ".gone"
	s := open(t, path, nil)
	if _, err := s.List(t.Context()); err == nil || err.Error() != "file "+path+": no such file or directory" {
		t.Errorf("got %v", err)
	}
	if err := s.Check(); err != nil {
		t.Errorf("a file may come later: %v", err)
	}
}

func TestErrorsOfTheConfigurationBeginWithTheirKey(t *testing.T) {
	for _, test := range []struct {
		name string
		of   Options
		want string
	}{
		{"nothing", Options{}, "path: missing, such as /var/lib/amazon/ssm/credentials"},
		{"not absolute", Options{Path: "~/.aws/credentials"}, `path: "~/.aws/credentials" does not start with /`},
		{"no profile", Options{Path: "/a", Profiles: map[string]string{"web": ""}}, "profiles.web: missing, such as default"},
		{"no name", Options{Path: "/a", Profiles: map[string]string{"a/b": "x"}}, `profiles: the name "a/b" contains a slash`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := test.of.Validate(); err == nil || err.Error() != test.want {
				t.Errorf("got %v\nwant %s", err, test.want)
			}
		})
	}
}

func TestAChangeOfAnyKindIsNoticed(t *testing.T) {
	session := func(id string) string {
		return "[web]\naws_access_key_id = " + id + "\naws_secret_access_key = x\n"
	}
	for name, change := range map[string]func(t *testing.T, path string){
		"in place": func(t *testing.T, path string) { write(t, path, session("AKIANEW")) },
		"rename": func(t *testing.T, path string) {
			write(t, path+".new", session("AKIANEW"))
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
		},
		"another link": func(t *testing.T, path string) {
			write(t, path+".2", session("AKIANEW"))
			if err := errors.Join(os.Remove(path), os.Symlink(path+".2", path)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := place(t, session("AKIAOLD"))
			s := open(t, path, nil)
			if list, err := s.List(t.Context()); err != nil || len(list) != 1 {
				t.Fatalf("got %v, %v", list, err)
			}
			if got := fetch(t, s, "web"); got.AccessKeyID != "AKIAOLD" || s.Replaced() {
				t.Fatalf("got %+v, replaced: %v", got, s.Replaced())
			}
			change(t, path)
			if !s.Replaced() {
				t.Error("the change is not noticed")
			}
			if s.Replaced() {
				t.Error("the change is told of twice")
			}
			if got := fetch(t, s, "web"); got.AccessKeyID != "AKIANEW" {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestAFileThatIsBeingWrittenIsReadWhenItIsDone(t *testing.T) {
	const whole = "[web]\naws_access_key_id = AKIAWEB\naws_secret_access_key = 0123456789\n"
	path := place(t, whole[:len(whole)-5])
	time.AfterFunc(200*time.Millisecond, func() { _ = os.WriteFile(path, []byte(whole), 0o600) })
	if got := fetch(t, open(t, path, nil), "web"); got.SecretAccessKey.Reveal() != "0123456789" {
		t.Errorf("got %d bytes of a secret of ten", len(got.SecretAccessKey.Reveal()))
	}
}

func TestAFileThatIsWrittenWithoutEndIsAnError(t *testing.T) {
	path := place(t, kept)
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
				_ = os.WriteFile(path, []byte(kept), 0o600)
			}
		}
	})
	defer writer.Wait()
	defer close(stop)
	_, err := open(t, path, nil).Fetch(t.Context(), credential.Key{Name: "default"})
	if err == nil || !strings.Contains(err.Error(), "changes again and again") {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(kept)
	f.Add("[a]\nb=c\n d\n")
	f.Add("[a]\n[a]")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := parse(text)
		if err != nil {
			if _, ok := errors.AsType[*syntaxError](err); !ok {
				t.Errorf("an error without its line: %v", err)
			}
			return
		}
		s := &Source{options: Options{Path: "/kept"}}
		for _, name := range file.names {
			if _, err := s.credential(file, name); err != nil {
				if _, ok := errors.AsType[*upstream.Error](err); !ok || strings.ContainsAny(err.Error(), "\n\r") {
					t.Errorf("got %q", err)
				}
			}
		}
	})
}
