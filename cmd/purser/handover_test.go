package main

import (
	"strings"
	"testing"

	"github.com/purser-agent/purser/pkg/mock"
)

func TestPromise10ARestartDuringAnOutageServesTheSame(t *testing.T) {
	c := startCloud(t)
	chain := c.config(c.hop("a", "upstream: dc"))
	first := startAgent(t, chain)
	first.waitReady()
	before := first.keysOf("a")
	left := first.agent.leave()

	down := mock.Fault{Kind: mock.Status, Status: 503}
	c.ims.SetFaults(down)
	c.sts.SetFaults(down)
	for _, step := range []struct {
		name, text string
		served     bool
	}{
		{"the same configuration", chain, true},
		{"an edit elsewhere", chain + "log: {level: debug}\n", true},
		{"how it is asked", strings.Replace(chain, "kind: sts,", "kind: sts, timeouts: {dial: 1s},", 1), true},
		{"another role", strings.Replace(chain, "role/a", "role/b", 1), false},
	} {
		next := startAgent(t, step.text, func(a *agent) { a.takeBack(left) })
		code, body := next.get("a")
		if served := code == 200 && body == before; served != step.served {
			t.Errorf("%s: the next process answers %d %s, want the same keys: %v", step.name, code, body, step.served)
		}
		if step.served {
			next.waitReady()
		}
	}
}

func TestPromise10WhatIsLeftFollowsEveryChange(t *testing.T) {
	ims, url := startIMS(t, "web")
	r := startAgent(t, fromIMS(url))
	r.waitReady()
	for n := range 3 {
		if err := r.client().Refresh(t.Context(), "web"); err != nil {
			t.Fatal(err)
		}
		left := r.agent.leave().Upstreams["dc"].Credentials
		if len(left) != 1 || left[0].AWS == nil || !strings.Contains(r.keysOf("web"), left[0].AWS.SecretAccessKey) {
			t.Errorf("after %d refreshes %d credentials are left, or others", n+1, len(left))
		}
	}
	ims.SetRoles(mock.Role{Name: "other"})
	if err := r.client().Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := r.agent.leave().Upstreams["dc"].Credentials; len(left) != 1 || left[0].Name != "other" {
		t.Errorf("a role that was withdrawn is left: %d of them", len(left))
	}
}
