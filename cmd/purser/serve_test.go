package main

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/config"
	"github.com/purser-agent/purser/pkg/status"
	"github.com/purser-agent/purser/pkg/testkit"
)

func loadText(t *testing.T, text string) *config.Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "purser.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(configOptions([]string{file}, nil))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestEverySettingIsTakenOverByAReloadOrNeedsARestart: none is silently ignored. A
// key that is new in the configuration has to be put into this table.
func TestEverySettingIsTakenOverByAReloadOrNeedsARestart(t *testing.T) {
	changes := map[string]struct {
		text    string
		restart bool
	}{
		"listen":      {`listen: {main: {hop_limit: 64}}`, true},
		"telemetry":   {`telemetry: {listen: ""}`, true},
		"admin":       {`admin: {group: wheel}`, true},
		"user":        {`{user: other, group: purser}`, true},
		"group":       {`group: other`, true},
		"connections": {`connections: {per_user: 100}`, true},
		"log.format":  {`log: {format: console}`, true},
		"sandbox":     {`sandbox: {seccomp: false}`, true},
		"log.level":   {`log: {level: debug}`, false},
		"aws":         {`aws: {imds_v1: true}`, false},
		"ecs":         {`ecs: {authorization: false}`, false},
		"ready":       {`ready: {timeout: 1m}`, false}, // only a start has to become ready
		"on_demand":   {`on_demand: {wait: 1s}`, false},
		"upstreams":   {`upstreams: {dc: {kind: ims, url: "http://127.0.0.1"}}`, false},
		"grants":      {`grants: {everyone: {credentials: web}}`, false},
	}
	before := loadText(t, "")
	for key, c := range changes {
		var want []string
		if c.restart {
			want = []string{key}
		}
		if got := needRestart(before, loadText(t, c.text)); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", key, got, want)
		}
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[config.Config]()) {
		key := f.Tag.Get("koanf")
		if key == "" {
			continue
		}
		known := false
		for name := range changes {
			known = known || name == key || strings.HasPrefix(name, key+".")
		}
		if !known {
			t.Errorf("%s is not in the table", key)
		}
	}
}

func TestListenersTakeWhatIsLedToThemFromTheAddressesOfTheirDialects(t *testing.T) {
	c := loadText(t, `listen:
  main: {address: "127.0.0.1:1", dialects: aws, hop_limit: 3, from: [192.0.2.0/24]}
  both: {address: "127.0.0.1:2"}
`)
	for _, spec := range specs(c) {
		want := []netip.AddrPort{netip.MustParseAddrPort("169.254.169.254:80"), netip.MustParseAddrPort("[fd00:ec2::254]:80")}
		if spec.Name == "both" {
			want = append([]netip.AddrPort{
				netip.MustParseAddrPort("169.254.170.2:80"), netip.MustParseAddrPort("169.254.170.23:80"), netip.MustParseAddrPort("[fd00:ec2::23]:80"),
			}, want...)
		} else if spec.HopLimit != 3 || len(spec.From) != 1 || spec.Address.Port() != 1 {
			t.Errorf("got %+v", spec)
		}
		if !slices.Equal(spec.Destinations, want) {
			t.Errorf("%s: got %v, want %v", spec.Name, spec.Destinations, want)
		}
	}
}

// TestAStartThatFailsLeavesNothingBound: what else wants the addresses can have
// them.
func TestAStartThatFailsLeavesNothingBound(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	folder := t.TempDir()
	taken := filepath.Join(folder, "taken.sock")
	other, err := status.Listen(taken)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, test := range []struct{ name, text, want string }{
		{"the telemetry's port", `telemetry: {listen: "` + busy.Addr().String() + `"}`, "telemetry.listen: listen tcp " + busy.Addr().String()},
		{"the admin socket", `{telemetry: {listen: "127.0.0.1:0"}, admin: {socket: ` + taken + `}}`, "another Purser answers there"},
		{"the account", `user: no-such-account`, "create the account or set user: to one that exists"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.name == "the account" && os.Geteuid() != 0 {
				testkit.Lacks(t, "root, as nobody else becomes another account")
			}
			c := loadText(t, test.text)
			if test.name != "the account" {
				c.User, c.Group = "nobody", "0"
			}
			c.Listen["main"] = config.Listener{Address: netip.MustParseAddrPort("127.0.0.1:0"), Dialects: []string{"aws"}, HopLimit: 1}
			if test.name != "the admin socket" {
				c.Admin.Socket = filepath.Join(folder, "purser.sock")
			}
			b, err := bind(t.Context(), c, nil, zerolog.Nop())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got error %v, want %s", err, test.want)
			}
			for _, l := range b.listeners {
				if err := l.Close(); !errors.Is(err, net.ErrClosed) {
					t.Errorf("%v is still bound", l.Addr())
				}
			}
			if b.telemetry != nil && !errors.Is(b.telemetry.Close(), net.ErrClosed) {
				t.Error("the telemetry's address is still bound")
			}
			if test.name != "the admin socket" && exists(c.Admin.Socket) {
				t.Error("the admin socket is still there")
			}
		})
	}
}
