package main

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/mock"
	"github.com/purser-agent/purser/pkg/refresh"
	"github.com/purser-agent/purser/pkg/status"
)

func TestHealthOfAnUpstream(t *testing.T) {
	failed := errors.New("connection refused")
	listed, fetched := refresh.Listing{Last: time.Now()}, refresh.Row{Fetched: time.Now()}
	for _, c := range []struct {
		name    string
		listing refresh.Listing
		rows    []refresh.Row
		want    status.Health
	}{
		{"not asked so far", refresh.Listing{}, nil, status.Unknown},
		{"declared, not asked so far", refresh.Listing{}, []refresh.Row{{}}, status.Unknown},
		{"waiting for its base", refresh.Listing{}, []refresh.Row{{Err: failed, Waiting: true}}, status.Unknown},
		{"waiting for its base with something in stock", refresh.Listing{}, []refresh.Row{{Fetched: time.Now(), Err: failed, Waiting: true}}, status.Failing},
		{"listed", listed, nil, status.OK},
		{"declared and fetched", refresh.Listing{}, []refresh.Row{{}, fetched}, status.OK},
		{"no list", refresh.Listing{Err: failed}, nil, status.Failing},
		{"no new list", refresh.Listing{Last: time.Now(), Err: failed}, []refresh.Row{fetched}, status.Failing},
		{"one credential fails", listed, []refresh.Row{fetched, {Fetched: time.Now(), Err: failed}}, status.Failing},
	} {
		if got := health(c.listing, c.rows); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestACredentialThatAnotherUpstreamHoldsIsNotRefreshed(t *testing.T) {
	row := refresh.Row{Key: credential.Key{Name: "web"}, Next: time.Now(), Holder: "second"}
	if got := describe("dc", row); got.HeldBy != "second" || !got.NextRefresh.IsZero() {
		t.Errorf("got %+v, want no next refresh", got)
	}
}

func TestTheStatusLineAsksForNoNames(t *testing.T) {
	_, url := startIMS(t, "web")
	r := startAgent(t, fromIMS(url))
	r.waitReady()
	r.keysOf("web")
	if report := r.agent.report(t.Context()); len(report.Callers) != 1 {
		t.Fatalf("got callers %+v, want this process", report.Callers)
	}
	if callers := r.agent.state().Callers; callers != nil {
		t.Errorf("a slow directory would hold up the watchdog for the names of %+v", callers)
	}
	if got, want := r.agent.statusLine(), "ready, credentials: 1 fresh"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWhatIsStillMissing(t *testing.T) {
	ims, url := startIMS(t, "db", "web")
	ims.SetFaults(mock.Fault{Kind: mock.Status, Status: 503, Role: "db"})
	r := startAgent(t, fromIMS(url))
	all := func(string) bool { return true }
	own := func(name string) bool { return name == "web" }
	if missing, err := r.agent.wait(t.Context(), []string{"web"}, all); missing != nil || err != nil {
		t.Fatal(missing, err)
	}
	for _, c := range []struct {
		names   []string
		visible func(string) bool
		want    []string
		err     error
	}{
		{nil, all, []string{"db"}, nil},
		{nil, own, nil, nil},
		{[]string{"web"}, all, nil, nil},
		{[]string{"web", "db"}, all, []string{"db"}, nil},
		{[]string{"web", "ghost"}, all, nil, credential.ErrNotFound},
		{[]string{"web", "db"}, own, nil, credential.ErrNotFound},
	} {
		if got, err := r.agent.stillMissing(c.names, c.visible); !slices.Equal(got, c.want) || !errors.Is(err, c.err) {
			t.Errorf("%v: got %v, %v, want %v, %v", c.names, got, err, c.want, c.err)
		}
	}
}

func TestMetricsHaveOneSeriesForACredentialThatTwoUpstreamsList(t *testing.T) {
	_, url := startIMS(t, "web")
	_, second := startIMS(t, "web", "db")
	r := startAgent(t, fmt.Sprintf("upstreams: {dc: {kind: ims, url: %q}, second: {kind: ims, url: %q}}\n", url, second))
	r.waitReady()
	o := r.agent.telemetryOptions()
	var names []string
	for _, c := range o.Credentials() {
		names = append(names, c.Name)
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"db", "web"}) {
		t.Errorf("got %v", names)
	}
	if ups := o.Upstreams(); len(ups) != 2 || ups[0].Name != "dc" || ups[1].Name != "second" {
		t.Errorf("got upstreams %+v", ups)
	}
	if ready, missing := o.Ready(); !ready || len(missing) > 0 || !o.Alive() {
		t.Errorf("got ready %v, missing %v, alive %v", ready, missing, o.Alive())
	}
}
