package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A fakeFrontEnd gives credentials by name, or errors.
type fakeFrontEnd struct {
	mu     sync.Mutex // guards all below
	ends   time.Time
	serial string
	fails  map[string]error
}

func (f *fakeFrontEnd) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeFrontEnd) ask(_ context.Context, name string) (*answeredCredential, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fails[name]; err != nil {
		return nil, err
	}
	return &answeredCredential{AccessKeyId: "ASIA" + name + f.serial, SecretAccessKey: "s3cret", Expiration: f.ends.UTC().Format(time.RFC3339), Token: new("t0ken")}, nil
}

func newKeptFile(t *testing.T, f *fakeFrontEnd, names ...string) (*keptFile, *strings.Builder) {
	t.Helper()
	var said strings.Builder
	return &keptFile{path: filepath.Join(t.TempDir(), ".aws", "credentials"), names: names, held: map[string]*answeredCredential{}, ask: f.ask, say: &said}, &said
}

func contents(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheCredentialsFileFollowsTheFrontEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeFrontEnd{ends: time.Now().Add(time.Hour), serial: "1", fails: map[string]error{"": errors.New("not yet")}}
		k, said := newKeptFile(t, f, "")
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- k.keep(ctx) }()
		synctest.Wait()
		if _, err := os.Stat(k.path); !os.IsNotExist(err) {
			t.Errorf("there is a file before there is a credential: %v", err)
		}
		f.set(func() { delete(f.fails, "") })
		time.Sleep(fileRetry + time.Second)
		if got := contents(t, k.path); !strings.HasPrefix(got, fileMark) || !strings.Contains(got, "[default]\naws_access_key_id = ASIA1\naws_secret_access_key = s3cret\naws_session_token = t0ken\n") {
			t.Errorf("the file is\n%s", got)
		}
		f.set(func() { f.serial = "2" })
		time.Sleep(fileEvery + time.Second)
		if got := contents(t, k.path); !strings.Contains(got, "ASIA2") {
			t.Errorf("half a minute later the file is\n%s", got)
		}
		info, err := os.Stat(k.path)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("the file has mode %v, %v", info.Mode(), err)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if got := said.String(); got != "purser: not yet\npurser: works again\n" {
			t.Errorf("it said %q", got)
		}
	})
}

// TestPromise4TheCredentialsFileOutlivesAnOutage, and nothing in it outlives its end or
// a grant that was taken away.
func TestPromise4TheCredentialsFileOutlivesAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeFrontEnd{ends: time.Now().Add(time.Hour), fails: map[string]error{}}
		k, _ := newKeptFile(t, f, "", "db")
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- k.keep(ctx) }()
		synctest.Wait()
		both := contents(t, k.path)
		f.set(func() { f.fails[""], f.fails["db"] = errors.New("down"), errors.New("down") })
		time.Sleep(50 * time.Minute)
		if got := contents(t, k.path); got != both {
			t.Errorf("after an outage of 50 minutes the file is\n%s", got)
		}
		f.set(func() { f.fails["db"] = refusedAnswer{http.StatusNotFound, "no grant"} })
		time.Sleep(fileEvery + time.Second)
		if got := contents(t, k.path); strings.Contains(got, "[db]") || !strings.Contains(got, "[default]") {
			t.Errorf("after a grant was taken away the file is\n%s", got)
		}
		time.Sleep(15 * time.Minute)
		if got := contents(t, k.path); got != fileMark {
			t.Errorf("after the end of what was in it the file is\n%s", got)
		}
		stop()
		<-ended
	})
}

// TestPromise4TheCredentialsFileOutlivesARestartOfItsKeeper, while the front end is
// down, and no longer than what is in it.
func TestPromise4TheCredentialsFileOutlivesARestartOfItsKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeFrontEnd{ends: time.Now().Add(time.Hour), fails: map[string]error{}}
		k, _ := newKeptFile(t, f, "", "db", "web")
		run := func(while func(), names ...string) {
			next, _ := newKeptFile(t, f, names...)
			next.path = k.path
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- next.keep(ctx) }()
			synctest.Wait()
			while()
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		run(func() {}, "", "db", "web")
		all := contents(t, k.path)
		f.set(func() {
			f.fails[""], f.fails["db"], f.fails["web"] = errors.New("down"), errors.New("down"), errors.New("down")
		})
		run(func() {
			if got := contents(t, k.path); got != all {
				t.Errorf("after a restart the file is\n%s, want\n%s", got, all)
			}
			f.set(func() { f.fails["db"] = refusedAnswer{http.StatusNotFound, "no grant"} })
			time.Sleep(fileEvery + time.Second)
			if got := contents(t, k.path); strings.Contains(got, "[db]") || !strings.Contains(got, "[web]") {
				t.Errorf("after a grant was taken away the file is\n%s", got)
			}
		}, "", "db", "web")
		run(func() {
			if got := contents(t, k.path); strings.Contains(got, "[web]") || !strings.Contains(got, "[default]") {
				t.Errorf("without the profile web the file is\n%s", got)
			}
			time.Sleep(time.Hour + time.Minute)
			if got := contents(t, k.path); got != fileMark {
				t.Errorf("after the end of what was in it the file is\n%s", got)
			}
		}, "")
	})
}

func TestADeletedCredentialsFileComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeFrontEnd{ends: time.Now().Add(time.Hour)}
		k, _ := newKeptFile(t, f, "")
		leftover := filepath.Join(filepath.Dir(k.path), ".credentials.purser")
		if err := errors.Join(os.MkdirAll(filepath.Dir(k.path), 0o700), os.WriteFile(leftover, []byte("of a crash"), 0o644)); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- k.keep(ctx) }()
		synctest.Wait()
		before := contents(t, k.path)
		if err := os.Remove(k.path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(fileEvery + time.Second)
		if got := contents(t, k.path); got != before {
			t.Errorf("half a minute later the file is\n%s", got)
		}
		if info, err := os.Stat(k.path); err != nil || info.Mode() != 0o600 || exists(leftover) {
			t.Errorf("the file has mode %v, %v, and what a crash left is there: %v", info.Mode(), err, exists(leftover))
		}
		if err := os.WriteFile(k.path, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "is not a file of purser's") || contents(t, k.path) != "mine" {
			t.Errorf("somebody else's in its place: got error %v, and the file is\n%s", err, contents(t, k.path))
		}
		stop()
	})
}

func TestAProfileIsWrittenOnce(t *testing.T) {
	for _, c := range [][]string{{"default"}, {"web", "db", "web"}} {
		command := credentialsFileCommand()
		command.SetArgs(c)
		command.SilenceErrors, command.SilenceUsage = true, true
		err := command.Execute()
		if _, wrong := errors.AsType[usageError](err); !wrong || err.Error() != "there can be only one profile "+c[0] {
			t.Errorf("%v: got error %v", c, err)
		}
	}
}

func TestAFileOfSomebodyElseIsNotOverwritten(t *testing.T) {
	f := &fakeFrontEnd{ends: time.Now().Add(time.Hour)}
	k, _ := newKeptFile(t, f, "")
	if err := os.MkdirAll(filepath.Dir(k.path), 0o700); err != nil {
		t.Fatal(err)
	}
	const mine = "[default]\naws_access_key_id = AKIAMINE\n"
	if err := os.WriteFile(k.path, []byte(mine), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := k.keep(t.Context()); err == nil || err.Error() != k.path+" is not a file of purser's: move it away, or name another one with --path" {
		t.Errorf("got error %v", err)
	}
	if got := contents(t, k.path); got != mine {
		t.Errorf("the file is now\n%s", got)
	}
}
