package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// pipe is a file to log to, and its reader.
func pipe(t *testing.T) (from, to *os.File) {
	t.Helper()
	from, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { from.Close(); to.Close() })
	level := zerolog.GlobalLevel()
	t.Cleanup(func() { zerolog.SetGlobalLevel(level) })
	return from, to
}

// soon fails the test if what is done takes too long.
func soon(t *testing.T, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s waits for whoever reads the log", what)
	}
}

func TestALogThatNobodyReadsHoldsUpNobodyAndTellsWhatIsLost(t *testing.T) {
	from, to := pipe(t)
	log, flush, err := newLog(to, "info", "json")
	if err != nil {
		t.Fatal(err)
	}
	const lines = 3000
	padding := strings.Repeat("x", 1024)
	soon(t, "a line", func() {
		for i := range lines {
			log.Info().Int("i", i).Str("padding", padding).Msg("said")
		}
	})

	reader := bufio.NewScanner(from)
	next := func() (line struct {
		I       int
		Lines   int
		Level   string
		Message string
	}) {
		t.Helper()
		_ = from.SetReadDeadline(time.Now().Add(10 * time.Second))
		if !reader.Scan() {
			t.Fatalf("no further line: %v", reader.Err())
		}
		if err := json.Unmarshal(reader.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		return line
	}
	kept, lost := 0, 0
	for kept+lost < lines {
		switch line := next(); {
		case line.Level == "warn" && line.Lines > 0:
			lost += line.Lines
		case line.Message != "said" || line.I != kept+lost:
			t.Fatalf("after %d lines and a loss of %d came %+v, want the next or a warning that tells how many are lost", kept, lost, line)
		default:
			kept++
		}
	}
	if kept == 0 || lost == 0 {
		t.Errorf("%d of %d lines came and %d were lost", kept, lines, lost)
	}
	log.Info().Msg("after")
	if line := next(); line.Message != "after" {
		t.Errorf("got %+v, want the line that was logged when there was room again", line)
	}
	flush()
}

func TestAFullLogDelaysTheEndByLittleAndNobodyAfterIt(t *testing.T) {
	_, to := pipe(t)
	lines := newBacklog(to, func(int) []byte { return []byte("lost\n") })
	flush := writeAll(lines, to)
	for range 200 {
		io.WriteString(lines, strings.Repeat("x", 1024)+"\n")
	}
	soon(t, "the end", flush)
	soon(t, "an error that is printed after the end", func() {
		if _, err := io.WriteString(to, "purser: error\n"); err == nil {
			t.Error("it was written, want an error")
		}
	})
}

func TestLastLinesAreWrittenAndTheFileStaysOpen(t *testing.T) {
	f := logFile(t, false)
	log, flush, err := newLog(f, "info", "json")
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		log.Info().Msg("said")
	}
	flush()
	log.Info().Msg("too late")
	if got := strings.Count(logged(t, f), "\n"); got != 1000 {
		t.Errorf("got %d lines, want 1000", got)
	}
	if _, err := io.WriteString(f, "purser: error\n"); err != nil {
		t.Error(err)
	}
}

// A disk is full now and then.
type disk struct {
	full bool
	text strings.Builder
}

func (d *disk) Write(text []byte) (int, error) {
	if d.full {
		return 0, errors.New("no space left on device")
	}
	return d.text.Write(text)
}

func TestLinesThatCannotBeWrittenAreToldOfLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		b := newBacklog(d, func(lost int) []byte { return []byte(strings.Repeat("lost\n", lost)) })
		go b.run()
		for _, step := range []struct {
			full bool
			line string
		}{{false, "one\n"}, {true, "two\n"}, {true, "three\n"}, {false, "four\n"}} {
			d.full = step.full
			io.WriteString(b, step.line)
			synctest.Wait()
		}
		b.end()
		synctest.Wait()
		if got, want := d.text.String(), "one\nlost\nlost\nfour\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
