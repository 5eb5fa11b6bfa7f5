package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/purser-agent/purser/pkg/testkit"
)

// logFile is a file to log to. If journal is set, it is the one of JOURNAL_STREAM.
func logFile(t *testing.T, journal bool) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	level := zerolog.GlobalLevel()
	t.Cleanup(func() { zerolog.SetGlobalLevel(level) })
	stream := "8:1"
	if journal {
		var stat unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
			t.Fatal(err)
		}
		stream = fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
	}
	t.Setenv("JOURNAL_STREAM", stream)
	return f
}

func logged(t *testing.T, f *os.File) string {
	t.Helper()
	text, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestLinesForTheJournalBeginWithTheirPriority(t *testing.T) {
	for _, format := range []string{"json", "console"} {
		t.Run(format, func(t *testing.T) {
			f := logFile(t, true)
			log, flush, err := newLog(f, "trace", format)
			if err != nil {
				t.Fatal(err)
			}
			log.Trace().Msg("one")
			log.Debug().Msg("two")
			log.Info().Str("name", "web").Msg("three")
			log.Warn().Msg("four")
			log.Error().Err(errors.New("first\nsecond")).Msg("five")
			log.Log().Msg("six")
			flush()
			want := []string{`^<7>.*one`, `^<7>.*two`, `^<6>.*three.*web|^<6>.*web.*three`, `^<4>.*four`, `^<3>.*first\\nsecond`, `^<5>.*six`}
			lines := strings.Split(strings.TrimSuffix(logged(t, f), "\n"), "\n")
			if len(lines) != len(want) {
				t.Fatalf("got %d lines, want %d: %q", len(lines), len(want), lines)
			}
			for i, line := range lines {
				if !regexp.MustCompile(want[i]).MatchString(line) {
					t.Errorf("got %q, want %s", line, want[i])
				}
				if format == "json" && !json.Valid([]byte(line[len("<n>"):])) {
					t.Errorf("%q is not JSON behind its priority", line)
				}
			}
		})
	}
}

func TestLinesForOthersHaveNoPriority(t *testing.T) {
	for format, want := range map[string]string{
		"json":    `^\{"level":"info","name":"web","time":"[^"]+","message":"said"\}\n$`,
		"console": `^\d\d:\d\d:\d\d INF said name=web\n$`,
	} {
		f := logFile(t, false)
		log, flush, err := newLog(f, "info", format)
		if err != nil {
			t.Fatal(err)
		}
		log.Debug().Msg("below the level")
		log.Info().Str("name", "web").Msg("said")
		flush()
		if got := logged(t, f); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s: got %q, want %s", format, got, want)
		}
	}
}

func TestEveryLevelHasAPriority(t *testing.T) {
	for level, want := range map[zerolog.Level]int{
		zerolog.TraceLevel: 7, zerolog.DebugLevel: 7, zerolog.InfoLevel: 6, zerolog.WarnLevel: 4,
		zerolog.ErrorLevel: 3, zerolog.FatalLevel: 2, zerolog.PanicLevel: 2, zerolog.NoLevel: 5,
	} {
		if got := priority(level); got != want {
			t.Errorf("%v: got %d, want %d", level, got, want)
		}
	}
}

func TestAnUnknownLevelIsRefused(t *testing.T) {
	f := logFile(t, false)
	if _, _, err := newLog(f, "loud", "json"); err == nil {
		t.Error("got no error")
	}
	if got := logged(t, f); got != "" {
		t.Errorf("it was logged to: %q", got)
	}
}

func TestColoursAreForTerminalsOnly(t *testing.T) {
	pseudo, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		testkit.Lacks(t, "a pseudo terminal: "+err.Error())
	}
	defer pseudo.Close()
	file := logFile(t, false)
	for _, c := range []struct {
		name, noColor, term string
		to                  *os.File
		want                bool
	}{
		{"a terminal", "", "xterm", pseudo, true},
		{"a terminal of somebody who wants none", "1", "xterm", pseudo, false},
		{"a dumb terminal", "", "dumb", pseudo, false},
		{"a file", "", "xterm", file, false},
	} {
		t.Setenv("NO_COLOR", c.noColor)
		t.Setenv("TERM", c.term)
		if got := colours(c.to); got != c.want {
			t.Errorf("%s: got %v", c.name, got)
		}
	}
	log, flush, err := newLog(file, "info", "console")
	if err != nil {
		t.Fatal(err)
	}
	log.Error().Msg("bad")
	flush()
	if got := logged(t, file); strings.Contains(got, "\x1b") {
		t.Errorf("a file got colours: %q", got)
	}
}
