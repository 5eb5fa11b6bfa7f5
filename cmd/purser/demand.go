package main

import (
	"context"

	"github.com/purser-agent/purser/pkg/credential"
)

// Allows implements policy.Demand: whether some upstream may be asked for a key that
// nobody configured ahead.
func (a *agent) Allows(key credential.Key) bool {
	for _, loop := range a.loops() {
		if loop.Allows(key) {
			return true
		}
	}
	return false
}

// Want implements policy.Demand. The first upstream that allows the key is asked.
func (a *agent) Want(ctx context.Context, key credential.Key) error {
	ctx, cancel := context.WithTimeout(ctx, onDemandWait)
	defer cancel()
	for _, loop := range a.loops() {
		if loop.Allows(key) {
			return loop.Want(ctx, key)
		}
	}
	return credential.ErrNotFound
}
