package main

import (
	"io"
	stdlog "log"
	"os"
	"strconv"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// newLog returns the logger of the daemon, which writes to stderr. Under systemd
// each line begins with its priority, as sd-daemon(3) has it, so that journalctl -p
// works.
func newLog(level, format string, underSystemd bool) (zerolog.Logger, error) {
	if err := setLevel(level); err != nil {
		return zerolog.Nop(), err
	}
	zerolog.TimeFieldFormat = time.RFC3339Nano
	stdlog.SetOutput(io.Discard) // net/http logs there what a server says unasked
	var out io.Writer = os.Stderr
	if format == "console" {
		out = zerolog.ConsoleWriter{Out: os.Stderr, NoColor: !colours(os.Stderr), TimeFormat: time.TimeOnly}
	}
	if underSystemd {
		out = journal{out}
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

// underSystemd reports whether stderr leads to the journal, as systemd.exec(5) has
// it for JOURNAL_STREAM.
func underSystemd() bool { return os.Getenv("JOURNAL_STREAM") != "" }

// journal prefixes lines with their priority.
type journal struct{ io.Writer }

// WriteLevel implements zerolog.LevelWriter.
func (j journal) WriteLevel(level zerolog.Level, line []byte) (int, error) {
	prefixed := append(strconv.AppendInt([]byte{'<'}, int64(priority(level)), 10), '>')
	if _, err := j.Write(append(prefixed, line...)); err != nil {
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
