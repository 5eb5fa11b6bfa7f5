package testkit

import (
	"sync"

	"github.com/purser-agent/purser/pkg/credential"
)

// A Base is what is in stock for a kind that asks with another upstream's credential. It
// fits pkg/awsapi.
type Base struct {
	name string

	mu      sync.Mutex // guards all below
	stored  credential.Credential
	err     error
	renewed int
}

// NewBase returns a base by this name, with a credential or an error in stock.
func NewBase(name string, c credential.Credential, err error) *Base {
	return &Base{name: name, stored: c, err: err}
}

// Get returns what was set last.
func (b *Base) Get() (credential.Key, credential.Credential, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return credential.Key{Name: b.name}, b.stored, b.err
}

// Set replaces what is in stock.
func (b *Base) Set(c credential.Credential, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stored, b.err = c, err
}

// Renew counts how often a new one was asked for.
func (b *Base) Renew() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.renewed++
}

// Renewed is what Renew counted.
func (b *Base) Renewed() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.renewed
}
