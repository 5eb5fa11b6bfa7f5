package upstream

import (
	"context"
	"fmt"
	"time"
)

// An ExitError is a program that ended by itself, but not with exit code 0.
type ExitError struct{ Code int }

// Error implements error.
func (e ExitError) Error() string {
	return fmt.Sprintf("it ended with exit code %d; see what it said on its standard error", e.Code)
}

// A Program is another program that an upstream is asked through.
type Program struct {
	// Args are its absolute path and arguments; no shell sees them.
	Args []string
	// Env is its environment, as NAME=VALUE. Besides it has a fixed PATH and the HOME of
	// the account, unless these are set here, and nothing else.
	Env []string
	// Timeout bounds how long it may run. It is killed then, with all it started.
	Timeout time.Duration
	// Most bounds its standard output, in bytes.
	Most int
}

// Programs runs programs as the account that Purser serves as. It is safe for
// concurrent use.
type Programs interface {
	// Run returns what the program printed on its standard output, which may be
	// secret: an error never quotes it. The error says how the program ended if it did
	// not with exit code 0; if it wraps an ExitError, what was printed is there, too. Each
	// line of its standard error goes to diagnose, without what was in the environment of
	// this program or on its standard output.
	Run(ctx context.Context, p Program, diagnose func(line string)) (stdout []byte, err error)
}
