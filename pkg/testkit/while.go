package testkit

import (
	"context"
	"sync"
	"testing"
)

// LookWhile has four clients look all the time while something is done. Each stops at the
// first error, which fails the test.
func LookWhile(t *testing.T, look func() error, do func()) {
	t.Helper()
	var clients sync.WaitGroup
	defer clients.Wait()
	life, stop := context.WithCancel(t.Context())
	defer stop()
	for range 4 {
		clients.Go(func() {
			for life.Err() == nil {
				if err := look(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	do()
}
