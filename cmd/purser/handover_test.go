package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/purser-agent/purser/pkg/frontend/imds"
	"github.com/purser-agent/purser/pkg/handover"
	"github.com/purser-agent/purser/pkg/mock"
	"github.com/purser-agent/purser/pkg/testkit"
)

// A keeping is systemd's end of NOTIFY_SOCKET: it has the last file that was stored.
type keeping struct {
	t     *testing.T
	path  string
	conn  *net.UnixConn
	last  *os.File
	lines []string
}

func newKeeping(t *testing.T) *keeping {
	t.Helper()
	k := &keeping{t: t, path: filepath.Join(t.TempDir(), "notify")}
	t.Setenv("NOTIFY_SOCKET", k.path)
	k.listen()
	t.Cleanup(func() { k.conn.Close() })
	return k
}

func (k *keeping) listen() {
	k.t.Helper()
	var err error
	if k.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: k.path, Net: "unixgram"}); err != nil {
		k.t.Fatal(err)
	}
}

// await takes messages until what is stored is as it should be.
func (k *keeping) await(what string, good func(*handover.State) bool) {
	k.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if k.take() && good(k.state()) {
			return
		}
	}
	k.t.Fatalf("%s: no such state was stored", what)
}

// take handles one message, and reports whether a file was stored by it.
func (k *keeping) take() bool {
	message, rights := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_ = k.conn.SetReadDeadline(time.Now().Add(time.Second))
	n, oobn, _, _, err := k.conn.ReadMsgUnix(message, rights)
	if err != nil {
		return false
	}
	text := string(message[:n])
	k.lines = append(k.lines, strings.Split(text, "\n")...)
	if oobn == 0 {
		return false
	}
	parsed, err := unix.ParseSocketControlMessage(rights[:oobn])
	if err != nil {
		k.t.Fatal(err)
	}
	fds, err := unix.ParseUnixRights(&parsed[0])
	if err != nil {
		k.t.Fatal(err)
	}
	_, name, stored := strings.Cut(text, "FDNAME=")
	if !stored { // the barrier's
		_ = unix.Close(fds[0])
		return false
	}
	k.last = os.NewFile(uintptr(fds[0]), name)
	return true
}

func (k *keeping) state() *handover.State {
	k.t.Helper()
	_, s, _, err := handover.Open([]*os.File{k.last})
	if err != nil {
		k.t.Fatal(err)
	}
	return s
}

func (k *keeping) depot() *handover.Depot {
	k.t.Helper()
	d, _, _, err := handover.Open(nil)
	if err != nil {
		k.t.Fatal(err)
	}
	return d
}

// watch takes messages for as long as something lasts.
func (k *keeping) watch(something func()) {
	done := make(chan struct{})
	go func() { defer close(done); something() }()
	for {
		select {
		case <-done:
			return
		default:
			k.take()
		}
	}
}

// serves reports whether a state has what the front end serves for a name.
func serves(s *handover.State, name, keys string) bool {
	return slices.ContainsFunc(s.Upstreams["dc"].Credentials, func(c handover.Credential) bool {
		return c.Name == name && c.AWS != nil && strings.Contains(keys, c.AWS.SecretAccessKey)
	})
}

// TestPromise10ACrashLosesNothingThatWasServed: what systemd has at any moment is what
// a process that is killed then leaves.
func TestPromise10ACrashLosesNothingThatWasServed(t *testing.T) {
	manager := newKeeping(t)
	_, url := startIMS(t, "web")
	var said testkit.Log
	r := startAgentThatLogs(t, fromIMS(url), zerolog.New(&said), func(a *agent) { a.depot = manager.depot() })
	r.waitReady()
	manager.await("after the start", func(s *handover.State) bool {
		return serves(s, "web", r.keysOf("web")) && bytes.Equal(s.SessionTokens, r.agent.keys.sessionTokens)
	})
	if err := r.client().Refresh(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	manager.await("after a refresh", func(s *handover.State) bool { return serves(s, "web", r.keysOf("web")) })

	if err := errors.Join(manager.conn.Close(), os.RemoveAll(manager.path)); err != nil {
		t.Fatal(err)
	}
	if err := r.client().Refresh(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(said.String(), "what is in stock cannot be left to the next process, trying again"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody says that nothing is stored")
		}
	}
	manager.listen()
	manager.await("after systemd was away", func(s *handover.State) bool { return serves(s, "web", r.keysOf("web")) })
}

func TestPromise10AStopLeavesWhatWasServedLastAndWaitsForSystemd(t *testing.T) {
	manager := newKeeping(t)
	_, url := startIMS(t, "web")
	r := startAgent(t, fromIMS(url), func(a *agent) {
		a.depot = manager.depot()
		a.moved = nil // nothing is stored before the stop
	})
	r.waitReady()
	served := r.keysOf("web")
	manager.watch(r.stop)
	if manager.last == nil || !serves(manager.state(), "web", served) || !slices.Contains(manager.lines, "BARRIER=1") {
		t.Errorf("after the stop, whose messages were %q, another state is left", manager.lines)
	}
}

func TestPromise10SessionTokensOutliveARestart(t *testing.T) {
	carried := bytes.Repeat([]byte{1}, imds.TokenKeyBytes)
	for _, c := range []struct {
		name         string
		room         string // $FDSTORE
		left         *handover.State
		before, file bool // whether there is a file before and after
		want         string
	}{
		{"systemd has no store, or does not say so", "", nil, false, true, "new"},
		{"and the second time", "", nil, true, true, "the file's"},
		{"systemd has a store", "4", nil, false, false, "new"},
		{"it has one since now", "4", nil, true, true, "the file's"},
		{"it was carried", "4", &handover.State{SessionTokens: carried}, false, false, "carried"},
		{"what was carried is of no use", "4", &handover.State{SessionTokens: []byte("short")}, true, true, "the file's"},
		{"the store has no room", "0", nil, false, true, "new"},
	} {
		t.Setenv("NOTIFY_SOCKET", "/nowhere")
		t.Setenv("FDSTORE", c.room)
		depot, _, _, err := handover.Open(nil)
		if err != nil {
			t.Fatal(err)
		}
		folder := t.TempDir()
		path := filepath.Join(folder, sessionTokensFile)
		known := map[string][]byte{"carried": carried, "the file's": bytes.Repeat([]byte{2}, imds.TokenKeyBytes)}
		if c.before {
			if err := os.WriteFile(path, known["the file's"], 0o600); err != nil {
				t.Fatal(err)
			}
		}
		keys, err := loadKeys(folder, depot, c.left)
		if err != nil {
			t.Fatal(err)
		}
		got := "new"
		for name, key := range known {
			if bytes.Equal(keys.sessionTokens, key) {
				got = name
			}
		}
		if got != c.want || len(keys.sessionTokens) != imds.TokenKeyBytes || exists(path) != c.file {
			t.Errorf("%s: the key of %d bytes is %s, and there is a file: %v", c.name, len(keys.sessionTokens), got, exists(path))
		}
	}
}

// TestPromise5ANameThatHasANewOwnerServesNothingOfTheFormerOne.
func TestPromise5ANameThatHasANewOwnerServesNothingOfTheFormerOne(t *testing.T) {
	_, url := startIMS(t, "web")
	first := startAgent(t, fromIMS(url))
	first.waitReady()
	left := first.agent.leave()
	gone, goneURL := startIMS(t, "web")
	gone.SetFaults(mock.Fault{Kind: mock.Status, Status: 503})
	text := strings.Replace(fromIMS(url), "dc: {", fmt.Sprintf("zz: {kind: ims, url: %q, roles: {web: {}}}, dc: {", goneURL), 1)
	next := startAgent(t, text, func(a *agent) { a.takeBack(left) })
	if code, body := next.get("web"); code == 200 && strings.Contains(body, "Success") {
		t.Errorf("what the former owner gave is served for the new one: %d", code)
	}
}

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

func TestWhatIsGivenBackAtTheStopIsNotHandedOver(t *testing.T) {
	for _, revoke := range []bool{false, true} {
		_, lines := vaultHere(t, mock.VaultOptions{AWSRoles: []mock.VaultAWSRole{{Name: "web"}}}, fmt.Sprintf("revoke_on_stop: %v, aws: {roles: {web: {}}}", revoke))
		r := startAgent(t, "upstreams:\n"+lines+"grants: {everyone: {credentials: ['*']}}\n")
		r.waitReady()
		if left, kept := r.agent.leave().Upstreams["vault"]; kept == revoke {
			t.Errorf("revoke_on_stop: %v: %d credentials are left", revoke, len(left.Credentials))
		}
	}
}

// TestWhatASessionChangesIsStoredAlsoIfNothingElseDoes: a token that was renewed for hours
// would look ended to whoever follows a crash.
func TestWhatASessionChangesIsStoredAlsoIfNothingElseDoes(t *testing.T) {
	manager := newKeeping(t)
	depot := manager.depot()
	synctest.Test(t, func(t *testing.T) {
		a := &agent{depot: depot, keys: &localKeys{}, moved: make(chan struct{}, 1)}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go a.keepStock(ctx)
		time.Sleep(storeAnyway + time.Second)
	})
	if !manager.take() {
		t.Error("nothing was stored")
	}
}

// TestALostHelperEndsTheProcessOnlyForASuccessor: what is in stock is served on unless
// another process takes it over.
func TestALostHelperEndsTheProcessOnlyForASuccessor(t *testing.T) {
	gone := make(chan struct{})
	close(gone)
	manager := newKeeping(t)
	if err := (&agent{depot: manager.depot(), helperless: gone}).watchHelper(t.Context()); err != nil {
		t.Errorf("where it is not certain that it is kept: %v", err)
	}
	t.Setenv("FDSTORE", "4")
	if err := (&agent{depot: manager.depot(), helperless: gone}).watchHelper(t.Context()); err != errHelperless {
		t.Errorf("with a successor: got %v", err)
	}
	if err := (&agent{helperless: gone}).watchHelper(t.Context()); err != nil {
		t.Errorf("without systemd: %v", err)
	}
}
