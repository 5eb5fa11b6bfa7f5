package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/purser-agent/purser/pkg/caller"
	"github.com/purser-agent/purser/pkg/config"
	"github.com/purser-agent/purser/pkg/handover"
	"github.com/purser-agent/purser/pkg/helper"
	"github.com/purser-agent/purser/pkg/privilege"
	"github.com/purser-agent/purser/pkg/server"
	"github.com/purser-agent/purser/pkg/status"
	"github.com/purser-agent/purser/pkg/upstream"
)

func serveCommand() *cobra.Command {
	var paths []string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run in the foreground (systemd's way)",
		Long: `Run in the foreground until SIGTERM or SIGINT. SIGHUP reloads the configuration.

Started as root, Purser binds its addresses, becomes the configured user and gives
up root for good before it reads from any network.`,
		RunE: func(*cobra.Command, []string) error { return serve(paths) },
	}
	configFlag(c, &paths)
	return c
}

func configFlag(c *cobra.Command, paths *[]string) {
	c.Flags().StringArrayVarP(paths, "config", "c", nil,
		"configuration file or folder; may be repeated, later ones win (default /etc/purser/purser.yaml, then /etc/purser/conf.d/)")
	_ = c.MarkFlagFilename("config", "yaml", "yml")
}

// loadHidden loads the configuration where nobody else can see it: there may be secrets
// in it, and what is before the change of user can crash, too.
func loadHidden(o config.Options) (*config.Config, error) {
	if err := privilege.Harden(); err != nil {
		return nil, err
	}
	return loadConfig(o)
}

// loadConfig loads the configuration; what is wrong with it is an error of usage.
func loadConfig(o config.Options) (*config.Config, error) {
	c, err := config.Load(o)
	if err != nil {
		return nil, usageError{err}
	}
	return c, nil
}

// serve is the daemon, in the order in which it comes to life.
func serve(paths []string) error {
	// From here on a hangup asks for a reload, also if it comes early.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	c, err := loadHidden(configOptions(paths, os.Environ()))
	if err != nil {
		return err
	}
	if err := placeSocket(c); err != nil {
		return err
	}
	log, flush, err := newLog(os.Stderr, c.Log.Level, c.Log.Format)
	if err != nil {
		return usageError{err}
	}
	defer flush()
	log.Info().Str("version", version).Strs("files", c.Files).Msg("starting")
	for _, notice := range c.Notices {
		log.Warn().Msg(notice)
	}

	life, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	depot, left, sockets, err := handover.Open(inherited())
	if err != nil {
		log.Warn().Err(err).Msg("everything is fetched anew")
	}
	bound, err := bind(life, c, sockets, log)
	if err != nil {
		return err
	}
	defer bound.close()
	keys, err := loadKeys(runtimeFolder(c), depot, left)
	if err != nil {
		return err
	}
	if err := giveUpRoot(bound.account, log); err != nil {
		return err
	}
	programs := helper.Start(log)
	defer programs.Close()
	if err := upstream.CheckReadable(c.Files); err != nil { // a reload reads them again
		return usageError{err}
	}
	resolver, blind, err := newResolver(c, log)
	if err != nil {
		return err
	}
	defer resolver.Close()
	a, err := newAgent(c, log, keys, bound.listeners, resolver, programs)
	if err != nil {
		return err
	}
	a.blind, a.depot = blind, depot
	a.takeBack(left)
	if err := a.confine(paths, programs); err != nil {
		return err
	}
	return a.run(life, bound, hangups, func() (*config.Config, error) { return loadAgain(paths, c) })
}

// loadAgain loads the configuration for a reload.
func loadAgain(paths []string, before *config.Config) (*config.Config, error) {
	next, err := loadConfig(configOptions(paths, os.Environ()))
	if err == nil {
		if _, set := next.Origin("admin", "socket"); !set {
			next.Admin.Socket = before.Admin.Socket // where it was placed at the start
		}
	}
	return next, err
}

// bound is everything that may need root to open.
type bound struct {
	starter   uint32 // the uid before root is given up
	account   account
	listeners []*server.Listener
	telemetry net.Listener // nil if telemetry is off
	admin     net.Listener
}

func bind(ctx context.Context, c *config.Config, sockets []*os.File, log zerolog.Logger) (b *bound, err error) {
	b = &bound{starter: uint32(os.Geteuid())}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.account, err = serviceAccount(ctx, c, log); err != nil {
		return b, usageError{err}
	}
	if b.listeners, err = server.Listen(ctx, specs(c), sockets); err != nil {
		return b, err
	}
	if c.Telemetry.Listen.IsValid() {
		if b.telemetry, err = net.Listen("tcp", c.Telemetry.Listen.String()); err != nil {
			return b, fmt.Errorf("telemetry.listen: %w", err)
		}
	}
	b.admin, err = status.Listen(c.Admin.Socket)
	return b, err
}

func (b *bound) close() {
	for _, l := range b.listeners {
		_ = l.Close()
	}
	for _, l := range []net.Listener{b.telemetry, b.admin} {
		if l != nil {
			_ = l.Close()
		}
	}
}

// specs are the sockets of the configured listeners.
func specs(c *config.Config) (specs []server.Spec) {
	for name, l := range c.Listen {
		spec := server.Spec{Name: name, Address: l.Address, HopLimit: l.HopLimit, From: l.From}
		for _, d := range dialects {
			if slices.Contains(l.Dialects, d.name) {
				spec.Destinations = append(spec.Destinations, d.destinations()...)
			}
		}
		specs = append(specs, spec)
	}
	return specs
}

// newResolver finds callers, and shows that it can before anybody depends on it.
// blind says why it cannot, where nobody does.
func newResolver(c *config.Config, log zerolog.Logger) (resolver *caller.Resolver, blind, err error) {
	if resolver, err = caller.New(); err != nil {
		return nil, nil, err
	}
	blind = resolver.SelfTest()
	if err := needIdentity(c, blind); err != nil {
		return nil, nil, err
	}
	if blind != nil {
		log.Warn().Err(blind).Msg("callers cannot be identified as they should")
	}
	return resolver, blind, nil
}

// needIdentity says which grant depends on who is asking, if that cannot be found out.
func needIdentity(c *config.Config, blind error) error {
	if blind == nil {
		return nil
	}
	for name, grant := range c.Grants {
		if len(grant.Unit) > 0 || name != config.Everyone && !errors.Is(blind, caller.ErrNoUnits) {
			return fmt.Errorf("grant %q depends on who is asking, which cannot be found out: %w", name, blind)
		}
	}
	return nil
}

// stopTime is how long answers under way may take at a stop.
const stopTime = 5 * time.Second

// run serves until life ends, and takes over what load loads at each hangup.
func (a *agent) run(life context.Context, b *bound, hangups <-chan os.Signal, load func() (*config.Config, error)) error {
	ctx, cancel := context.WithCancelCause(life)
	defer cancel(nil)
	failed := func(err error) {
		if err != nil {
			cancel(err)
		}
	}
	start := a.config // from here on a reload may replace it
	notifier := a.notifier()
	reload := func(within context.Context) error {
		return notifier.Reload(func() error { return a.reloadFrom(within, ctx, load) })
	}
	var parts sync.WaitGroup
	parts.Go(func() { notifier.Run(ctx) }) // first of all: the user database may be slow
	rules := a.gate.Prepare(ctx, grants(start, a.sources()))
	a.gate.Commit(rules)
	a.warn(rules.Warnings)
	admin := a.adminServer(b.starter, start.Admin.Group, reload)
	a.startLines(ctx)
	a.progress()

	parts.Go(func() { failed(a.server.Serve(b.listeners...)) })
	if b.telemetry != nil {
		parts.Go(func() { failed(a.telemetry.Serve(ctx, b.telemetry)) })
	}
	parts.Go(func() { failed(admin.Serve(ctx, b.admin)) })
	parts.Go(func() { a.ready.Run(ctx) })
	parts.Go(func() { failed(a.awaitReady(ctx, start.Ready.Timeout)) })
	parts.Go(func() { a.watchGrants(ctx, rules.Warnings) })
	parts.Go(func() { a.watchRefusals(ctx) })
	parts.Go(func() { tuneGarbage(ctx) })
	parts.Go(func() { failed(a.watchHelper(ctx)) })
	parts.Go(func() { a.keepStock(ctx) })
	parts.Go(func() { reloadOnHangup(ctx, hangups, reload) })

	<-ctx.Done()
	why := context.Cause(ctx)
	a.log.Info().Str("cause", why.Error()).Msg("stopping")
	grace, done := context.WithTimeout(context.Background(), stopTime)
	defer done()
	if err := a.server.Shutdown(grace); err != nil {
		a.log.Warn().Err(err).Msg("some answers were cut off")
	}
	parts.Wait()
	for _, l := range a.running() {
		<-l.ended
	}
	a.leaveLast()
	a.log.Info().Msg("stopped")
	if life.Err() != nil { // a signal is no error
		return nil
	}
	return why
}

// awaitReady tells when the agent is ready, and ends the start when ready.timeout
// passes first.
func (a *agent) awaitReady(ctx context.Context, timeout time.Duration) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	select {
	case <-a.ready.Reached():
		a.log.Info().Stringer("after", time.Since(a.started).Round(time.Millisecond)).Msg("ready: all that is required is in stock")
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("not ready within %v (ready.timeout), still missing: %s", timeout, strings.Join(a.missing(), ", "))
		}
	}
	return nil
}

// reloadOnHangup reloads at each SIGHUP. The outcome is logged and shown by status.
func reloadOnHangup(ctx context.Context, hangups <-chan os.Signal, reload func(context.Context) error) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			_ = reload(ctx)
		}
	}
}

func (a *agent) notifier() *status.Notifier {
	return &status.Notifier{Ready: a.ready.Reached(), Status: a.statusLine, Alive: a.alive, Log: a.log}
}
