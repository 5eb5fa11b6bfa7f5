package helper

import (
	"fmt"
	"os"
	"regexp"
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

// A capture is a pipe from a program, and what came out of it.
type capture struct {
	write int // the program's end
	file  *os.File
	most  int
	text  []byte
	full  chan struct{} // closed when more came than is kept
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
	overflowed := false
	for {
		n, err := c.file.Read(buffer)
		kept := min(n, c.most-len(c.text))
		c.text = append(c.text, buffer[:kept]...)
		if kept < n && !overflowed {
			overflowed = true
			close(c.full)
		}
		if err != nil {
			return
		}
	}
}

// finish returns what was read, and whether that is all.
func (c *capture) finish() (text []byte, whole bool) {
	_ = c.file.SetReadDeadline(time.Now().Add(drainTime))
	<-c.done
	_ = c.file.Close()
	select {
	case <-c.full:
		return c.text, false
	default:
		return c.text, true
	}
}

// word is what may be a secret of its own.
var word = regexp.MustCompile(`[A-Za-z0-9+/=_.%-]{12,}`)

// lines makes standard error fit for a log: bounded, printable, and without anything
// of standard output that may be a secret.
func lines(stderr, stdout []byte) (lines []string) {
	text := string(stderr)
	for _, secret := range word.FindAll(stdout, -1) {
		text = strings.ReplaceAll(text, string(secret), "[redacted]")
	}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(upstream.Printable(line)); line == "" {
			continue
		}
		if len(lines) == maxLines {
			return append(lines, fmt.Sprintf("and more, %d bytes in all", len(stderr)))
		}
		lines = append(lines, line)
	}
	return lines
}
