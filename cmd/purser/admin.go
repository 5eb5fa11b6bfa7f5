package main

import (
	"context"
	"slices"

	"github.com/purser-agent/purser/pkg/status"
)

// adminServer puts the operators' commands on the admin socket. The account owner and
// the members of group may use all of them.
func (a *agent) adminServer(owner uint32, group string, reload func(context.Context) error) *status.Admin {
	admin := &status.Admin{
		Status: a.report, Refresh: a.refreshNow, Wait: a.wait, Reload: reload,
		View:      a.visibleTo,
		Owner:     owner,
		GroupName: group,
		Log:       a.log,
	}
	if group == "" {
		return admin
	}
	gid, err := a.accounts.GID(context.Background(), group)
	if err != nil {
		a.log.Warn().Err(err).Str("group", group).Msg("admin.group cannot be looked up, only root may use all commands")
		return admin
	}
	admin.Groups = []uint32{gid}
	return admin
}

// visibleTo is what a local process that is no administrator may know of: what the
// grants give it at the moment that it is asked. It is for one goroutine.
func (a *agent) visibleTo(uid uint32, pid int32) func(string) bool {
	who := a.resolver.Process(uid, pid)
	var names []string
	var shown map[string]struct{}
	return func(name string) bool {
		if now := a.gate.View(who).Names(); shown == nil || !slices.Equal(now, names) {
			names, shown = now, make(map[string]struct{}, len(now))
			for _, n := range now {
				shown[n] = struct{}{}
			}
		}
		_, ok := shown[name]
		return ok
	}
}
