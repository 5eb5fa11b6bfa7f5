package main

import (
	"bytes"
	"fmt"
	"io"
	stdlog "log"
	"os"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// newLog returns the logger of the daemon, which writes to a file. If that leads to
// the journal, each line begins with its priority, as sd-daemon(3) has it, so that
// journalctl -p works.
func newLog(to *os.File, level, format string) (zerolog.Logger, error) {
	if err := setLevel(level); err != nil {
		return zerolog.Nop(), err
	}
	zerolog.TimeFieldFormat = time.RFC3339Nano
	stdlog.SetOutput(io.Discard) // net/http logs there what a server says unasked
	layout := func(to io.Writer) io.Writer { return to }
	if format == "console" {
		plain := !colours(to)
		layout = func(to io.Writer) io.Writer {
			return zerolog.ConsoleWriter{Out: to, NoColor: plain, TimeFormat: time.TimeOnly}
		}
	}
	out := layout(to)
	if isJournal(to) {
		out = journal{to, layout}
	}
	return zerolog.New(out).With().Timestamp().Logger(), nil
}

func setLevel(level string) error {
	parsed, err := zerolog.ParseLevel(level)
	if err != nil {
		return err
	}
	zerolog.SetGlobalLevel(parsed)
	return nil
}

// isJournal reports whether f leads to the journal, as systemd.exec(5) has it for
// JOURNAL_STREAM. The variable alone says nothing: a desktop's terminals inherit it.
func isJournal(f *os.File) bool {
	var stat unix.Stat_t
	return unix.Fstat(int(f.Fd()), &stat) == nil &&
		os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}

// A journal prefixes lines with their priority.
type journal struct {
	to     *os.File
	layout func(to io.Writer) io.Writer // how a line is written
}

// Write implements io.Writer, for lines without a level.
func (j journal) Write(line []byte) (int, error) { return j.WriteLevel(zerolog.NoLevel, line) }

// WriteLevel implements zerolog.LevelWriter. A line is written at once, as others
// are written at the same time.
func (j journal) WriteLevel(level zerolog.Level, line []byte) (int, error) {
	var text bytes.Buffer
	fmt.Fprintf(&text, "<%d>", priority(level))
	if _, err := j.layout(&text).Write(line); err != nil {
		return 0, err
	}
	if _, err := j.to.Write(text.Bytes()); err != nil {
		return 0, err
	}
	return len(line), nil
}

// priority is the syslog priority of a level.
func priority(level zerolog.Level) int {
	switch level {
	case zerolog.TraceLevel, zerolog.DebugLevel:
		return 7
	case zerolog.InfoLevel:
		return 6
	case zerolog.WarnLevel:
		return 4
	case zerolog.ErrorLevel:
		return 3
	case zerolog.FatalLevel, zerolog.PanicLevel:
		return 2
	default:
		return 5
	}
}

// colours reports whether f is a terminal that wants colours.
func colours(f *os.File) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(f)
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
