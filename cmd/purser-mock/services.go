package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/mock"
)

// A service is a stand-in with its socket.
type service struct {
	name    string
	address string
	handler standIn
	line    func(server string) string // that tells of it on stdout
}

// addFaults gives a stand-in the faults of a flag.
func addFaults(control *mock.Control, flag string, texts []string) error {
	for _, text := range texts {
		fault, err := mock.ParseFault(text)
		if err != nil {
			return fmt.Errorf("%s: %w", flag, err)
		}
		control.AddFaults(fault)
	}
	return nil
}

// serveAll serves until ctx ends or one of the services cannot go on. It prints their
// lines in the order of the list.
func serveAll(ctx context.Context, listen listenFlags, services []service, log zerolog.Logger, out io.Writer) error {
	ctx, stop := context.WithCancel(ctx)
	var servers sync.WaitGroup
	defer servers.Wait()
	defer stop()

	failures := make(chan error, len(services))
	for _, one := range services {
		if ctx.Err() != nil { // an earlier one failed
			break
		}
		ready, own, mine := make(chan struct{}), log, listen
		mine.address = one.address
		if len(services) > 1 {
			own = log.With().Str("service", one.name).Logger()
		}
		servers.Go(func() {
			defer stop()
			failures <- mine.serve(ctx, one.handler, own, func(server string) {
				fmt.Fprintln(out, one.line(server))
				close(ready)
			})
		})
		select {
		case <-ready:
		case <-ctx.Done():
		}
	}
	servers.Wait()
	close(failures)
	var all []error
	for err := range failures {
		all = append(all, err)
	}
	return errors.Join(all...)
}
