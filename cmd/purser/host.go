package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/caller"
	"github.com/purser-agent/purser/pkg/config"
	"github.com/purser-agent/purser/pkg/privilege"
)

// An account is the one that serves. Its ids are those of the process itself unless
// that is root's.
type account struct {
	uid, gid int
	groups   []uint32 // further ones that the user database lists it in
}

// serviceAccount looks up the configured account. Only root can become another one,
// so a normal user keeps its own and need not have the configured one on the host.
func serviceAccount(ctx context.Context, c *config.Config, log zerolog.Logger) (account, error) {
	if os.Geteuid() != 0 {
		return account{uid: os.Geteuid(), gid: os.Getegid()}, nil
	}
	var accounts caller.Accounts
	uid, err := accounts.UID(ctx, c.User)
	if err != nil {
		return account{}, c.Wrong(fmt.Errorf("%w; create the account or set user: to one that exists", err), "user")
	}
	gid, err := accounts.GID(ctx, c.Group)
	if err != nil && c.GroupFallback != "" {
		if gid, err = accounts.GID(ctx, c.GroupFallback); err == nil {
			log.Warn().Str("group", c.Group).Str("instead", c.GroupFallback).Msg("there is no such group, using another")
		}
	}
	if err != nil {
		return account{}, c.Wrong(fmt.Errorf("%w; create the group or set group: to one that exists", err), "group")
	}
	groups, err := accounts.Groups(ctx, c.User)
	if err != nil && !errors.Is(err, caller.ErrUnknownAccount) { // a uid without an account is in none
		return account{}, fmt.Errorf("groups of user %s: %w", c.User, err)
	}
	return account{int(uid), int(gid), groups}, nil
}

// giveUpRoot becomes the account that serves, for good, and keeps its memory to
// itself.
func giveUpRoot(who account, log zerolog.Logger) error {
	given, err := privilege.Drop(privilege.IDs{UID: uint32(who.uid), GID: uint32(who.gid), Groups: who.groups})
	if err != nil {
		return fmt.Errorf("giving up privileges: %w", err)
	}
	if err := privilege.Harden(); err != nil {
		return err
	}
	if err := privilege.LockMemory(); err != nil {
		log.Warn().Err(err).Msg("memory may be swapped out")
	}
	if given.Dropped {
		log.Info().Int("uid", who.uid).Int("gid", who.gid).Int("threads", given.Threads).Msg("gave up all privileges")
	} else {
		log.Debug().Int("uid", who.uid).Msg("started without privileges, there were none to give up")
	}
	return nil
}

// inherited are the sockets that systemd passed, by FileDescriptorName=.
func inherited() []*os.File { return activation.Files(true) }
