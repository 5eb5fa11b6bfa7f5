package main

import (
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/purser-agent/purser/pkg/config"
	"github.com/purser-agent/purser/pkg/status"
)

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(top + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestReadmeNamesWhatNeedsARestart(t *testing.T) {
	sentence := regexp.MustCompile(`(?s)everything but these, which need a restart: (.*?), and files`).FindStringSubmatch(readme(t))
	if sentence == nil {
		t.Fatal("the sentence is not there")
	}
	want := needRestart(&config.Config{}, &config.Config{
		Listen: map[string]config.Listener{"main": {}}, Telemetry: config.Telemetry{Listen: netip.MustParseAddrPort("127.0.0.1:1")},
		Admin: config.Admin{Group: "x"}, User: "x", Group: "x", Connections: config.Connections{Most: 1},
		Log: config.Log{Level: "debug", Format: "json"}, Sandbox: config.Sandbox{Landlock: true},
	})
	got := strings.ReplaceAll(strings.Join(strings.Fields(sentence[1]), " "), "`", "")
	if got != strings.Join(want, ", ") || len(want) < 8 {
		t.Errorf("it names %s, want %v", got, want)
	}
}

func TestReadmeHasEveryState(t *testing.T) {
	text := readme(t)
	for _, state := range []status.State{status.None, status.Fresh, status.Due, status.Expiring, status.Expired, status.Withdrawn, "unused"} {
		if !strings.Contains(text, "\n| "+string(state)+" | ") {
			t.Errorf("%s is not in the table", state)
		}
	}
}
