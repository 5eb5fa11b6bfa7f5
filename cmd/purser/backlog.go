package main

import (
	"bytes"
	"io"
	"sync"
)

// maxBacklog bounds the text that waits to be written, in bytes. As much again may
// be in writing.
const maxBacklog = 1 << 20

// A backlog writes lines in the background, so that whoever logs never waits for
// whoever reads the log. Lines for which there is no room are lost, as are those that
// cannot be written, and one line in their place tells how many. It is safe for
// concurrent use.
type backlog struct {
	to     io.Writer
	notice func(lost int) []byte // the line that tells of lost ones

	mu      sync.Mutex // guards all below
	changed *sync.Cond
	waiting []byte
	lost    int // lines that came after those in waiting
	ended   bool
}

func newBacklog(to io.Writer, notice func(lost int) []byte) *backlog {
	b := &backlog{to: to, notice: notice}
	b.changed = sync.NewCond(&b.mu)
	return b
}

// Write implements io.Writer. It takes whole lines and returns at once.
func (b *backlog) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lost > 0 || len(b.waiting)+len(line) > maxBacklog {
		b.lost++
	} else {
		b.waiting = append(b.waiting, line...)
	}
	b.changed.Signal()
	return len(line), nil
}

// end makes run return as soon as all is written.
func (b *backlog) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	b.changed.Signal()
}

// run writes what comes until end.
func (b *backlog) run() {
	var text []byte
	lost := 0
	for {
		var after int
		if text, after = b.take(text); len(text) == 0 {
			return
		}
		lost = b.tell(lost)
		n, _ := b.to.Write(text) // a log that does not work can be told nowhere
		lost = b.tell(lost + bytes.Count(text[n:], []byte("\n")) + after)
	}
}

// take waits for lines and returns them, and how many were lost after them. Without
// lines this is the end. It uses the memory of what it returned before.
func (b *backlog) take(used []byte) (text []byte, lost int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.waiting) == 0 && !b.ended {
		b.changed.Wait()
	}
	text, b.waiting = b.waiting, used[:0]
	lost, b.lost = b.lost, 0
	return text, lost
}

// tell returns how many lost lines could not be told of.
func (b *backlog) tell(lost int) int {
	if lost == 0 {
		return 0
	}
	if _, err := b.to.Write(b.notice(lost)); err != nil {
		return lost
	}
	return 0
}
