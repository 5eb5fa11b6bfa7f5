package helper

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAHelperThatDiesIsReplacedAndItsProgramsGoWithIt(t *testing.T) {
	h := start(t)
	file := filepath.Join(t.TempDir(), "pid")
	first := h.pid()
	ended := make(chan error, 1)
	go func() {
		_, err := h.Run(t.Context(), sh("echo $$ > "+file+"; exec sleep 300"), func(string) {})
		ended <- err
	}()
	pid := written(t, file)
	if err := unix.Kill(first, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || err.Error() != "program /bin/sh: the helper that runs programs ended meanwhile" {
		t.Errorf("got %v", err)
	}
	gone(t, pid)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		_, _, err := run(t, h, sh("true"))
		if err == nil {
			break
		}
		if !strings.Contains(err.Error(), "the helper that runs programs") || time.Now().After(end) {
			t.Fatal(err)
		}
	}
	if h.pid() == first {
		t.Error("it is the same helper")
	}
}

func TestNoHelperFollowsTheLast(t *testing.T) {
	h := start(t)
	gone := h.Last()
	if _, _, err := run(t, h, sh("true")); err != nil {
		t.Error(err)
	}
	select {
	case <-gone:
		t.Fatal("the helper is said to have ended")
	default:
	}
	if err := unix.Kill(h.pid(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-gone
	const want = "program /bin/sh: the helper that runs programs has ended, and the sandbox lets this process start no other: restart it"
	if _, _, err := run(t, h, sh("true")); err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}
