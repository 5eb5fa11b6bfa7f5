package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/mock"
	"github.com/purser-agent/purser/pkg/store"
	"github.com/purser-agent/purser/pkg/testkit"
)

// TestCheckWarnsOfWhatEveryoneMayHaveByWhatTheUpstreamsGive: of two that have to be asked,
// one is the base of an upstream.
func TestCheckWarnsOfWhatEveryoneMayHaveByWhatTheUpstreamsGive(t *testing.T) {
	c := startCloud(t)
	other := mock.NewIMS(mock.IMSOptions{Roles: []mock.Role{{Name: "open"}}})
	text := strings.Replace(c.config(c.hop("a", "upstream: dc")), "grants: {", fmt.Sprintf("  other: {kind: ims, url: %q}\ngrants: {", other.URL(testkit.Serve(t, other).URL)), 1)
	for name, want := range map[string]bool{"test_role": false, "open": true, "a": true, "ghost": false} {
		loaded := loadText(t, strings.Replace(text, "grants: {", fmt.Sprintf("grants: {root: {user: root, credentials: [%s]}, ", name), 1))
		sources, err := openSources(loaded.Upstreams, &store.Store{}, surroundings{log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		known := &store.Store{}
		if failed := checkUpstreams(t.Context(), loaded, sources, known, false, io.Discard); failed != 0 {
			t.Fatalf("%d upstreams failed", failed)
		}
		got := slices.DeleteFunc(grantWarnings(t.Context(), loaded, sources, known), func(w string) bool { return !strings.Contains(w, "everyone may have") })
		if (len(got) == 1) != want || len(got) > 1 {
			t.Errorf("%s: got %q", name, got)
		}
	}
}
