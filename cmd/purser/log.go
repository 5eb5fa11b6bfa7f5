package main

import (
	"bytes"
	"fmt"
	"io"
	stdlog "log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// flushTime is how long the last lines may take at the end.
const flushTime = 200 * time.Millisecond

// newLog returns the logger of the daemon, which writes to a file in the background;
// flush writes what is left and must be called at the end. If the file leads to the
// journal, each line begins with its priority, as sd-daemon(3) has it, so that
// journalctl -p works.
func newLog(to *os.File, level, format string) (log zerolog.Logger, flush func(), err error) {
	if err := setLevel(level); err != nil {
		return zerolog.Nop(), nil, err
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
	forJournal := isJournal(to)
	logger := func(to io.Writer) zerolog.Logger {
		out := layout(to)
		if forJournal {
			out = journal{to, layout}
		}
		return zerolog.New(out).With().Timestamp().Logger()
	}
	lines := newBacklog(to, func(lost int) []byte {
		var text bytes.Buffer
		log := logger(&text)
		log.Warn().Int("lines", lost).Msg("lines of the log were lost: they came faster than they could be written")
		return text.Bytes()
	})
	return logger(lines), writeAll(lines, to), nil
}

// writeAll starts to write lines to a file, and returns how to end that. Afterwards
// the file is closed if it took too long, so that nobody else waits for it either.
func writeAll(lines *backlog, to *os.File) (flush func()) {
	// Caught, and not ignored, which programs that Purser runs would inherit: with
	// neither, Go ends the process if whoever reads its stderr has left.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	written := make(chan struct{})
	go func() {
		defer close(written)
		lines.run()
	}()
	return func() {
		lines.end()
		select {
		case <-written:
		case <-time.After(flushTime):
			_ = to.Close()
		}
	}
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
	to     io.Writer
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
