package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"

	"github.com/purser-agent/purser/pkg/mock"
)

// maxRoles is what Purser accepts as one list.
const maxRoles = 10_000

// imsFlags are the flags of the IMS.
type imsFlags struct {
	prefix   string
	roles    []string
	count    int
	lifetime time.Duration
	cache    time.Duration
	faults   []string
	script   string
}

func (f *imsFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.prefix, "prefix", "/latest", "path below which the service answers; / for none")
	flags.StringArrayVar(&f.roles, "role", nil, "a role, with :TIME for a lifetime of its own; repeat for more (default test_role)")
	flags.IntVar(&f.count, "roles", 1, "how many roles: test_role, test_role_2 and so on")
	flags.DurationVar(&f.lifetime, "lifetime", time.Hour, "lifetime of the keys")
	flags.DurationVar(&f.cache, "cache", 0, "hand out the same document for so long, as a service does that caches")
	flags.StringArrayVar(&f.faults, "fault", nil, "a fault from the start; repeat for more")
	flags.StringVar(&f.script, "script", "", "file with faults that begin later, YAML or JSON")
}

func (f *imsFlags) handler(keys *mock.Keys, log zerolog.Logger) (*mock.IMS, error) {
	switch {
	case f.count < 1 || f.count > maxRoles:
		return nil, fmt.Errorf("--roles %d: must be between 1 and %d", f.count, maxRoles)
	case f.count > 1 && len(f.roles) > 0:
		return nil, errors.New("--role and --roles exclude each other")
	case f.lifetime <= 0:
		return nil, fmt.Errorf("--lifetime %v: must be above zero; for keys that have ended there is --fault expired", f.lifetime)
	case f.cache < 0:
		return nil, fmt.Errorf("--cache %v: must not be negative", f.cache)
	}
	roles := mock.Roles(f.count)
	if len(f.roles) > 0 {
		roles = nil
	}
	for _, text := range f.roles {
		role, err := mock.ParseRole(text)
		if err != nil {
			return nil, fmt.Errorf("--role: %w", err)
		}
		roles = append(roles, role)
	}
	handler := mock.NewIMS(mock.IMSOptions{Prefix: f.prefix, Roles: roles, Lifetime: f.lifetime, Cache: f.cache, Keys: keys, Log: log})
	if err := addFaults(&handler.Control, "--fault", f.faults); err != nil {
		return nil, err
	}
	if f.script != "" {
		steps, err := readScript(f.script)
		if err != nil {
			return nil, fmt.Errorf("--script: %s: %w", f.script, err)
		}
		handler.Schedule(steps...)
	}
	return handler, nil
}

func readScript(path string) ([]mock.Step, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return mock.ReadScript(file)
}
