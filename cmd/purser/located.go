package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/purser-agent/purser/pkg/config"
	"github.com/purser-agent/purser/pkg/upstream"
)

// A keyError is what is wrong with the value of a key in an upstream's section.
type keyError struct {
	upstream, key string
	err           error
}

// Error implements error.
func (e keyError) Error() string { return fmt.Sprintf("upstream %q: %s: %v", e.upstream, e.key, e.err) }

// baseError is a keyError about the base of an upstream, or a key below it.
func baseError(upstreams map[string]config.Upstream, name, below, format string, args ...any) error {
	return keyError{name, baseKey(upstreams[name]) + below, fmt.Errorf(format, args...)}
}

// located adds to an error where the configuration has the key that it is about.
func located(c *config.Config, err error) error {
	if e, ok := errors.AsType[keyError](err); ok {
		return c.Wrong(e.err, append([]string{"upstreams", e.upstream}, strings.Split(e.key, ".")...)...)
	}
	return err
}

// checkFiles is what the source of an upstream says of its files, with the keys that name
// them.
func checkFiles(c *config.Config, name string, s source) error {
	var all []error
	for _, err := range flatten(s.Check()) {
		if fault, ok := errors.AsType[*upstream.FileError](err); ok {
			if at, ok := c.WrongFile(err, name, fault.Path); ok {
				all = append(all, at)
				continue
			}
		}
		key, why, _ := strings.Cut(err.Error(), ": ")
		at := append([]string{"upstreams", name}, strings.Split(key, ".")...)
		if _, ok := c.Origin(at...); ok { // it begins with its key
			all = append(all, c.Wrong(errors.New(why), at...))
			continue
		}
		all = append(all, fmt.Errorf("upstream %q: %w", name, err))
	}
	return errors.Join(all...)
}

// flatten lists the errors that errors.Join put together.
func flatten(err error) (all []error) {
	joined, ok := err.(interface{ Unwrap() []error })
	switch {
	case err == nil:
		return nil
	case !ok:
		return []error{err}
	}
	for _, one := range joined.Unwrap() {
		all = append(all, flatten(one)...)
	}
	return all
}
