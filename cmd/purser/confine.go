package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/purser-agent/purser/pkg/config"
	"github.com/purser-agent/purser/pkg/helper"
	"github.com/purser-agent/purser/pkg/sandbox"
	"github.com/purser-agent/purser/pkg/status"
)

// These say what a source needs of the host besides its network.
type (
	filer   interface{ Files() []string }   // files that are read again
	remover interface{ Removes() []string } // files that are removed once they were read
	attache interface{ Devices() []string } // device files
)

// laterNeeds are what a configuration and its sources have to be able to do later.
func laterNeeds(c *config.Config, all map[string]source) sandbox.Options {
	o := sandbox.Options{Files: slices.Clone(c.Files)}
	for _, s := range all {
		if f, ok := s.(filer); ok {
			o.Files = append(o.Files, f.Files()...)
		}
		if r, ok := s.(remover); ok {
			o.Removed = append(o.Removed, r.Removes()...)
		}
		if d, ok := s.(attache); ok {
			o.Devices = append(o.Devices, d.Devices()...)
		}
	}
	return o
}

// confine enters the sandbox. What it leaves is what the configuration needs, and what
// paths name, in which there may be more files one day.
func (a *agent) confine(paths []string, programs *helper.Helper) error {
	o := laterNeeds(a.config, a.sources())
	o.Landlock, o.Seccomp, o.Runtime = a.config.Sandbox.Landlock, a.config.Sandbox.Seccomp, runtimeFolder(a.config)
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			o.Files = append(o.Files, filepath.Join(path, "later.yaml"))
		}
	}
	entered, err := sandbox.Enter(o)
	if err != nil {
		return fmt.Errorf("the sandbox cannot be entered: %w; sandbox.landlock and sandbox.seccomp turn it off", err)
	}
	a.sandbox = entered
	if entered.Landlock == "" || entered.Seccomp == "" { // either would bind programs, too
		a.helperless = programs.Last()
	}
	for name, why := range map[string]string{"landlock": entered.Landlock, "seccomp": entered.Seccomp} {
		if why != "" {
			a.log.Warn().Str("feature", name).Str("reason", why).Msg("the sandbox lacks a feature")
		}
	}
	return nil
}

// errHelperless ends a process whose successor goes on with what it had.
var errHelperless = errors.New("the helper that runs programs has ended, and only a new process can start another")

// watchHelper returns an error when the helper has gone that cannot be replaced inside of
// the sandbox, if another process takes over everything. Otherwise to serve what is in
// stock is better than to run programs.
func (a *agent) watchHelper(ctx context.Context) error {
	select {
	case <-a.helperless:
		if a.depot.Certain() {
			return errHelperless
		}
	case <-ctx.Done():
	}
	return nil
}

// confinement is what status shows of it.
func (a *agent) confinement() *status.Sandbox {
	if a.sandbox == nil {
		return nil
	}
	return &status.Sandbox{Landlock: inForce(a.sandbox.Landlock), Seccomp: inForce(a.sandbox.Seccomp), Refused: a.refusedCalls()}
}

// refusedCalls are the system calls that the sandbox refused, by name.
func (a *agent) refusedCalls() map[string]uint64 {
	all := map[string]uint64{}
	for _, call := range a.sandbox.Refused() {
		all[call.Name] = call.Count
	}
	return all
}

// countEvery is how often refused calls are looked for.
const countEvery = 10 * time.Second

// watchRefusals warns of system calls that the sandbox refused. Purser makes none of
// them, so each is a bug, or somebody has taken over the process.
func (a *agent) watchRefusals(ctx context.Context) {
	if a.sandbox == nil || a.sandbox.Seccomp != "" {
		return
	}
	ticker := time.NewTicker(countEvery)
	defer ticker.Stop()
	before := map[string]uint64{}
	for ctx.Err() == nil {
		select {
		case <-ctx.Done(): // and a last look
		case <-ticker.C:
		}
		now := a.refusedCalls()
		for name, count := range now {
			if count > before[name] {
				a.log.Warn().Str("call", name).Uint64("count", count).Msg("the sandbox refused a system call")
			}
		}
		before = now
	}
}

func inForce(why string) string {
	if why == "" {
		return "in force"
	}
	return why
}
