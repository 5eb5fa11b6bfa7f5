package helper

import (
	"bytes"
	"cmp"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/purser-agent/purser/pkg/upstream"
)

// What is kept of a program's standard error.
const (
	maxStderr = 16 << 10 // bytes
	maxLines  = 20
)

// drainTime is how long a pipe is read after its program has ended: what the program
// wrote is there already, and what else holds the pipe open has no say.
const drainTime = 100 * time.Millisecond

// pipeSize is what a pipe holds, in bytes.
const pipeSize = 64 << 10

// A capture is a pipe from a program, and what came out of it.
type capture struct {
	write int // the program's end
	file  *os.File
	most  int
	text  []byte
	cut   bool          // more came than is kept
	full  chan struct{} // closed then
	done  chan struct{}
}

func newCapture(most int) (*capture, error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	// Our end only: a program does not expect that writing may fail for now.
	if err := unix.SetNonblock(ends[0], true); err != nil {
		_ = unix.Close(ends[0])
		_ = unix.Close(ends[1])
		return nil, os.NewSyscallError("fcntl", err)
	}
	return &capture{
		write: ends[1], file: os.NewFile(uintptr(ends[0]), "pipe"), most: most,
		full: make(chan struct{}), done: make(chan struct{}),
	}, nil
}

// close gives up a capture that nobody reads.
func (c *capture) close() {
	_ = unix.Close(c.write)
	_ = c.file.Close()
}

// read keeps what there is room for and drops the rest, so that the program goes on.
func (c *capture) read() {
	defer close(c.done)
	buffer := make([]byte, 4096)
	for {
		n, err := c.file.Read(buffer)
		c.keep(buffer[:n])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.rest(buffer)
		}
		if err != nil {
			return
		}
	}
}

// rest reads what is in the pipe: on a busy machine the time may be over before anything
// was read, and Go's own reader does not look then.
func (c *capture) rest(buffer []byte) {
	_ = c.file.SetReadDeadline(time.Time{})
	raw, err := c.file.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool {
		for range pipeSize / len(buffer) {
			n, err := unix.Read(int(fd), buffer)
			if err != nil || n == 0 {
				break
			}
			c.keep(buffer[:n])
		}
		return true
	})
}

func (c *capture) keep(b []byte) {
	kept := min(len(b), c.most-len(c.text))
	c.text = append(c.text, b[:kept]...)
	if kept < len(b) && !c.cut {
		c.cut = true
		close(c.full)
	}
}

// finish returns what was read, and whether that is all.
func (c *capture) finish() (text []byte, whole bool) {
	_ = c.file.SetReadDeadline(time.Now().Add(drainTime))
	<-c.done
	_ = c.file.Close()
	return c.text, !c.cut
}

// word is what may be a secret of its own.
var word = regexp.MustCompile(`[A-Za-z0-9+/=_.%-]{12,}`)

// shortestSecret is how long a value of the environment must be to be looked for: shorter
// ones are parts of other words.
const shortestSecret = 6

// hiding leaves out what may be a secret: words of standard output, and each line of a
// value in the environment, as keys have several.
func hiding(stdout []byte, env []string) *strings.Replacer {
	var secrets []string
	for _, secret := range word.FindAll(stdout, -1) {
		secrets = append(secrets, string(secret))
	}
	for _, variable := range env {
		_, value, _ := strings.Cut(variable, "=")
		for line := range strings.Lines(value) {
			if line = strings.TrimSpace(line); len(line) >= shortestSecret {
				secrets = append(secrets, line)
			}
		}
	}
	// The longest one counts where one begins like another.
	slices.SortFunc(secrets, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	pairs := make([]string, 0, 2*len(secrets))
	for _, secret := range secrets {
		pairs = append(pairs, secret, "[redacted]")
	}
	return strings.NewReplacer(pairs...)
}

// lines makes standard error fit for a log: bounded, printable and without secrets. Of
// one that was cut, the last line is left out: it may end within a secret.
func lines(stderr []byte, whole bool, hide *strings.Replacer) (lines []string) {
	if !whole {
		stderr = stderr[:bytes.LastIndexByte(stderr, '\n')+1]
	}
	for line := range strings.Lines(hide.Replace(string(stderr))) {
		if line = strings.TrimSpace(upstream.Printable(line)); line == "" {
			continue
		}
		if len(lines) == maxLines {
			whole = false
			break
		}
		lines = append(lines, line)
	}
	if !whole {
		lines = append(lines, "and more")
	}
	return lines
}
