package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/purser-agent/purser/pkg/config"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/policy"
	"github.com/purser-agent/purser/pkg/refresh"
)

// trialTime is how long the new upstreams of a reload have to show that they work.
const trialTime = 15 * time.Second

// reloadOutcome is how the last reload ended; the zero value if there was none.
type reloadOutcome struct {
	at  time.Time
	err error
}

// reloadFrom takes over a changed configuration: all of it, or nothing. What is
// served does not change before every new or changed upstream has fetched once, and
// listeners stay open throughout. ctx bounds the attempt; the lines that it starts
// run until life ends.
func (a *agent) reloadFrom(ctx, life context.Context, load func() (*config.Config, error)) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	err := a.tryReload(ctx, life, load)
	a.mu.Lock()
	a.reload = reloadOutcome{time.Now(), err}
	a.mu.Unlock()
	a.telemetry.Reloaded(err)
	if err != nil {
		a.log.Error().Err(err).Msg("reload refused, the running configuration stays as it was")
		return err
	}
	a.log.Info().Msg("reloaded")
	return nil
}

func (a *agent) tryReload(ctx, life context.Context, load func() (*config.Config, error)) error {
	next, err := load()
	if err != nil {
		return err
	}
	a.mu.Lock()
	present := a.config
	a.mu.Unlock()
	if keys := needRestart(present, next); len(keys) > 0 {
		verb := "needs"
		if len(keys) > 1 {
			verb = "need"
		}
		return fmt.Errorf("%s %s a restart; nothing was changed%s", strings.Join(keys, ", "), verb, a.heldElsewhere(next))
	}
	sources, err := openSources(next.Upstreams, &a.store, a.surroundings())
	if err != nil {
		return located(next, err)
	}
	if err := a.sandbox.Check(laterNeeds(next, sources.byName)); err != nil {
		return fmt.Errorf("%w; this needs a restart, nothing was changed", err)
	}
	fronts, err := a.newFronts(next)
	if err != nil {
		return err
	}
	if err := needIdentity(next, a.blind); err != nil {
		return err
	}
	added := a.changed(next, sources)
	if err := try(ctx, next, added); err != nil {
		discard(func(yield func(source) bool) {
			for _, l := range added {
				if !yield(l.source) {
					return
				}
			}
		})
		return err
	}
	a.swap(life, next, a.gate.Prepare(ctx, grants(next, sources.byName)), fronts, added)
	return nil
}

// changed makes lines for the upstreams that are new or changed, as are those whose
// base may come from others than before. Only reloads change a.lines, and the caller
// is one.
func (a *agent) changed(next *config.Config, sources *sources) map[string]*line {
	added := map[string]*line{}
	loops := map[string]*refresh.Loop{}
	for _, name := range sources.names() {
		givers := sources.givers[name]
		isNew := func(giver string) bool { return added[giver] != nil }
		l, ok := a.lines[name]
		if !ok || !l.config.Equal(next.Upstreams[name]) || !slices.Equal(l.givers, givers) || slices.ContainsFunc(givers, isNew) {
			l = a.newLine(name, next.Upstreams[name], sources.byName[name], givers)
			added[name] = l
		}
		loops[name] = l.loop
	}
	sources.connect(loops)
	return added
}

// needRestart names the settings that only a start can change.
func needRestart(present, next *config.Config) (keys []string) {
	for _, c := range []struct {
		key          string
		before, then any
	}{
		{"listen", present.Listen, next.Listen},
		{"telemetry", present.Telemetry, next.Telemetry},
		{"admin", present.Admin, next.Admin},
		{"user", present.User, next.User},
		{"group", present.Group, next.Group},
		{"connections", present.Connections, next.Connections},
		{"log.format", present.Log.Format, next.Log.Format},
		{"sandbox", present.Sandbox, next.Sandbox},
	} {
		if !reflect.DeepEqual(c.before, c.then) {
			keys = append(keys, c.key)
		}
	}
	return keys
}

// heldElsewhere says what comes before the restart if an address changes whose socket
// systemd holds.
func (a *agent) heldElsewhere(next *config.Config) string {
	for _, l := range a.listeners {
		to := next.Listen[l.Name].Address
		if l.Inherited && to.IsValid() && to != l.Address {
			return fmt.Sprintf("; systemd holds the socket of listen.%s: first give its socket unit, such as purser.socket, ListenStream=%s", l.Name, to)
		}
	}
	return ""
}

// try has every line fetch once, after those that may give its base.
func try(ctx context.Context, c *config.Config, lines map[string]*line) error {
	tried := map[string]chan struct{}{}
	for name, l := range lines {
		if err := checkFiles(c, name, l.source); err != nil {
			return err
		}
		tried[name] = make(chan struct{})
	}
	ctx, cancel := context.WithTimeoutCause(ctx, trialTime, fmt.Errorf("no answer within %v", trialTime))
	defer cancel()
	var (
		mu     sync.Mutex // guards errs
		errs   []error
		trials sync.WaitGroup
	)
	for name, l := range lines {
		trials.Go(func() {
			defer close(tried[name])
			for _, giver := range l.givers {
				if first, ok := tried[giver]; ok {
					<-first
				}
			}
			if err := l.loop.Trial(ctx); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	trials.Wait()
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// swap makes next the running configuration. Lines that go are stopped first, which
// may take a moment and changes nothing that is served; the rest is quick, and the
// grants come first, so that nothing new is served under old ones. What a line that
// goes had in stock stays until its successor puts something in its place, and
// leaves if none does.
func (a *agent) swap(life context.Context, next *config.Config, rules *policy.Prepared, fronts map[string]*front, added map[string]*line) {
	var gone, kept []*line
	for name, l := range a.lines { // only reloads change lines, and we are the one
		if _, stays := next.Upstreams[name]; stays && added[name] == nil {
			kept = append(kept, l)
			continue
		}
		gone = append(gone, l)
		if r, ok := l.source.(resumer); ok {
			r.HandOver(false)
		}
		l.stop()
	}
	var held []credential.Key
	for _, l := range gone {
		<-l.ended
		held = append(held, l.loop.Stop()...)
	}

	a.claims.Unheld(without(held, added), a.store.Remove) // before the new grants come

	a.mu.Lock()
	a.gate.Commit(rules)
	a.fronts.Store(&fronts)
	for _, l := range gone {
		delete(a.lines, l.loop.Upstream)
		if _, stays := next.Upstreams[l.loop.Upstream]; !stays {
			a.telemetry.Forget(l.loop.Upstream)
		}
	}
	for name, l := range added {
		a.handOver(l)
		l.start(life)
		a.lines[name] = l
	}
	a.claims.Unheld(held, a.store.Remove)
	a.config = next
	a.mu.Unlock()

	for _, l := range kept {
		l.loop.ListSoon() // after the others gave up their names
	}
	a.warn(rules.Warnings)
	a.lookAtGrants()
	if err := setLevel(next.Log.Level); err != nil {
		a.log.Error().Err(err).Msg("log level not changed")
	}
	a.progress()
}

// without returns those of keys that none of the lines has fetched in its trial.
func without(keys []credential.Key, lines map[string]*line) []credential.Key {
	fetched := map[credential.Key]credential.Credential{}
	for _, l := range lines {
		maps.Copy(fetched, l.loop.Fetched())
	}
	return slices.DeleteFunc(slices.Clone(keys), func(key credential.Key) bool {
		_, ok := fetched[key]
		return ok
	})
}
