package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/mock"
	"github.com/purser-agent/purser/pkg/store"
)

// TestCheckSaysWhichUpstreamABaseCannotBeHadFrom: nothing is wrong with the names.
func TestCheckSaysWhichUpstreamABaseCannotBeHadFrom(t *testing.T) {
	down := mock.Fault{Kind: mock.Status, Status: 503}
	for _, step := range []struct {
		name  string
		hops  []string // by the base of each
		ims   []mock.Fault
		sts   []mock.Fault
		other bool // whether another upstream has to be asked what it gives, and answers
		want  string
	}{
		{"a hop fails", []string{"upstream: dc", "credential: a"}, nil, []mock.Fault{{Kind: mock.Code, Code: "AccessDenied", Role: "a"}}, false, `upstream "b-hop", credential "b": the base "a" cannot be had, because upstream "a-hop" failed`},
		{"a hop that is named fails", []string{"upstream: dc", "upstream: a-hop"}, nil, []mock.Fault{{Kind: mock.Code, Code: "AccessDenied", Role: "a"}}, false, `upstream "b-hop", credential "b": the base "a" cannot be had, because upstream "a-hop" failed`},
		{"the start fails", []string{"credential: test_role"}, []mock.Fault{down}, nil, false, `upstream "a-hop", credential "a": the base "test_role" cannot be had, because upstream "dc" failed`},
		{"the start fails, whose name is not known", []string{"upstream: dc"}, []mock.Fault{down}, nil, false, `upstream "a-hop", credential "a": the base from upstream "dc" cannot be had, because upstream "dc" failed`},
		{"one of several fails", []string{"credential: test_role"}, []mock.Fault{down}, nil, true, `upstream "a-hop", credential "a": the base "test_role" cannot be had: no upstream that answered gives it, and these failed: "dc"`},
		{"nothing failed", []string{"credential: ghost"}, nil, nil, true, `upstream "a-hop", credential "a": the base "ghost" is not among what the upstreams give`},
		{"something else failed", []string{"credential: ghost"}, []mock.Fault{{Kind: mock.Status, Status: 503, Role: "test_role"}}, nil, true, `upstream "a-hop", credential "a": the base "ghost" is not among what the upstreams give`},
	} {
		c := startCloud(t)
		c.ims.SetFaults(step.ims...)
		c.sts.SetFaults(step.sts...)
		var hops []string
		for i, base := range step.hops {
			hops = append(hops, c.hop(string(rune('a'+i)), base))
		}
		text := c.config(hops...)
		if step.other {
			_, url := startIMS(t, "web")
			text = strings.Replace(text, "grants: {", "  other: {kind: ims, url: '"+url+"'}\ngrants: {", 1)
		}
		loaded := loadText(t, text)
		sources, err := openSources(loaded.Upstreams, &store.Store{}, surroundings{log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		checkUpstreams(t.Context(), loaded, sources, &store.Store{}, false, &said)
		if !strings.Contains(said.String(), step.want+"\n") {
			t.Errorf("%s: got\n%swant %s", step.name, &said, step.want)
		}
	}
}
