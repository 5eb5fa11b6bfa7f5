package server

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/caller"
)

func TestAccessLineSaysWhoAskedForWhatAndHowItEnded(t *testing.T) {
	f := start(t, Options{})
	c := f.dial(7)
	c.send("GET /latest/meta-data?token=verysecret HTTP/1.1\r\nHost: x\r\nUser-Agent: Boto3/1.2\r\n" +
		"X-aws-ec2-metadata-token: verysecret\r\nAuthorization: verysecret\r\n\r\n").receive()
	f.shutdown()
	lines := f.log.lines(t, "request")
	if len(lines) != 1 {
		t.Fatalf("%d lines for one request:\n%s", len(lines), f.log)
	}
	got := lines[0]
	if took, ok := got["duration_us"].(float64); !ok || took < 0 || took > 1e7 {
		t.Errorf("duration_us is %v", got["duration_us"])
	}
	delete(got, "duration_us")
	want := map[string]any{
		"level": "info", "message": "request",
		"uid": 1007.0, "unit": "client-1007.service", "peer": c.LocalAddr().String(),
		"destination": f.listener.Addr().String(), "listener": "main",
		"dialect": "test", "route": "any", "method": "GET", "path": "/latest/meta-data",
		"status": 200.0, "decision": "served", "credential": "web", "user_agent": "Boto3/1.2",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if strings.Contains(f.log.String(), "verysecret") {
		t.Error("the log shows a query or a header")
	}
}

func TestAccessLineOfAnUnknownCallerNamesNoUser(t *testing.T) {
	f := start(t, Options{Resolver: &fakeResolver{change: func(o *caller.Origin) { o.Identity = caller.Identity{} }}})
	f.dial(7).get()
	f.shutdown()
	for _, line := range f.log.lines(t, "request") {
		if _, ok := line["uid"]; ok {
			t.Errorf("uid %v for an unknown caller, which reads like root", line["uid"])
		}
	}
}

func TestWhatAClientSendsCannotBreakTheAccessLog(t *testing.T) {
	f := start(t, Options{})
	c := f.dial(7)
	long := strings.Repeat("x", 6000)
	c.send("GET /a%0a{%22level%22:%22error%22}%1b[31m HTTP/1.1\r\nHost: x\r\nUser-Agent: \x80\xff\t\"}{\r\n\r\n").receive()
	c.send("GET /" + long + " HTTP/1.1\r\nHost: x\r\nUser-Agent: b\r\n\r\n").receive()
	c.send("GET /" + " HTTP/1.1\r\nHost: x\r\nUser-Agent: " + long + "\r\n\r\n").receive()
	c.send(strings.Repeat("M", 100) + " / HTTP/1.1\r\nHost: x\r\nUser-Agent: d\r\n\r\n").receive()
	f.shutdown()
	if got := len(f.log.lines(t, "request")); got != 4 {
		t.Errorf("%d lines, want 4:\n%s", got, f.log)
	}
	for line := range strings.Lines(f.log.String()) {
		if len(line) > 1024 {
			t.Errorf("a line of %d bytes", len(line))
		}
		if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return r < ' ' }) {
			t.Errorf("a control character in %q", line)
		}
	}
}

func TestFloodOfGoodRequestsHidesNoDeniedOne(t *testing.T) {
	f := start(t, Options{
		LogRate: 1, LogBurst: 2,
		Handler: func(w http.ResponseWriter, r *http.Request, peer Peer) Access {
			if r.URL.Path == "/denied" {
				w.WriteHeader(http.StatusUnauthorized)
				return Access{Status: http.StatusUnauthorized, Decision: "unauthorized"}
			}
			return answer(w, r, peer)
		},
	})
	c := f.dial(7)
	for range 500 {
		c.get()
	}
	c.send("GET /denied HTTP/1.1\r\nHost: x\r\n\r\n").receive()
	f.shutdown()
	decisions := map[string]int{}
	for _, line := range f.log.lines(t, "request") {
		decisions[fmt.Sprint(line["decision"])]++
	}
	if decisions["unauthorized"] != 1 || decisions["served"] > 10 {
		t.Errorf("lines by decision: %v, want the unauthorized one and few others", decisions)
	}
	left := f.log.lines(t, "requests left out of the access log")
	if len(left) != 1 || left[0]["granted"] != float64(500-decisions["served"]) || left[0]["denied"] != 0.0 {
		t.Errorf("got %v, want one line that counts the other %d", left, 500-decisions["served"])
	}
}

func TestLinesLeftOutAreReportedDuringTheFlood(t *testing.T) {
	log := new(jsonLog)
	l := newAccessLog(Options{Log: zerolog.New(log), LogRate: 1, LogBurst: 1})
	at := time.Now()
	for second := range 25 {
		for range 3 {
			l.allows(true, at)
		}
		at = at.Add(time.Second)
		l.tick(time.Duration(second) * time.Second)
	}
	left := log.lines(t, "requests left out of the access log")
	if len(left) != 2 || left[0]["denied"] != 22.0 || left[1]["denied"] != 20.0 {
		t.Errorf("got %v, want a line after 10 and after 20 seconds", left)
	}
}

func TestQuietLogLevelWritesNoAccessLines(t *testing.T) {
	log := new(jsonLog)
	l := newAccessLog(Options{Log: zerolog.New(log).Level(zerolog.WarnLevel), LogRate: 1, LogBurst: 1})
	for range 3 {
		if l.allows(false, time.Now()) {
			t.Error("a line is allowed")
		}
	}
	l.reportLeftOut()
	if got := log.String(); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
}

// A hangingLog blocks like a pipe that nobody reads.
type hangingLog struct{ release chan struct{} }

func (h hangingLog) Write(p []byte) (int, error) {
	<-h.release
	return len(p), nil
}

func TestLogThatHangsDelaysNoAnswer(t *testing.T) {
	log := hangingLog{make(chan struct{})}
	f := start(t, Options{Log: zerolog.New(log)})
	for user := range byte(3) {
		f.dial(7 + user).get()
	}
	c := f.dial(7)
	if status, _, body := c.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").receive(); status != 200 || body != "web" {
		t.Errorf("got %d %q, want the answer", status, body)
	}
	c.wantClosed()
	close(log.release)
}

func TestObserverSeesEveryRequest(t *testing.T) {
	seen := make(chan Access, 10)
	f := start(t, Options{Observe: func(a Access, took time.Duration) {
		if took < 0 {
			t.Errorf("duration %v", took)
		}
		seen <- a
	}})
	f.dial(7).get()
	f.dial(7).send("nonsense\r\n\r\n").receive()
	want := []Access{
		{Dialect: "test", Route: "any", Status: 200, Decision: "served", Credential: "web"},
		{Status: 400, Decision: "invalid", Reason: "malformed, too large or incomplete"},
	}
	if got := []Access{<-seen, <-seen}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestPanicClosesOneConnectionAndShowsNoValue(t *testing.T) {
	f := start(t, Options{Handler: func(w http.ResponseWriter, r *http.Request, peer Peer) Access {
		switch r.URL.Path {
		case "/value":
			panic("verysecret")
		case "/error":
			panic(errors.New("verysecret"))
		case "/runtime":
			var none []string
			_ = none[len(r.URL.Path)]
		}
		return answer(w, r, peer)
	}})
	other := f.dial(8)
	other.get()
	for _, path := range []string{"/runtime", "/value", "/error"} {
		f.dial(7).send("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n").wantClosed()
	}
	other.get()
	f.shutdown()
	lines := f.log.lines(t, "the handler panicked, its connection is closed")
	if len(lines) != 1 || lines[0]["cause"] != "runtime error: index out of range [8] with length 0" ||
		!strings.Contains(fmt.Sprint(lines[0]["stack"]), "access_test.go") {
		t.Errorf("got %v, want the first panic with its place", lines)
	}
	if strings.Contains(f.log.String(), "verysecret") {
		t.Errorf("the log shows what the handler panicked with:\n%s", f.log)
	}
	statuses := map[any]int{}
	for _, line := range f.log.lines(t, "request") {
		statuses[line["status"]]++
	}
	if want := (map[any]int{200.0: 2, 500.0: 3}); !maps.Equal(statuses, want) {
		t.Errorf("access lines by status: %v, want %v", statuses, want)
	}
}

func TestCallersAreCountedByIdentity(t *testing.T) {
	f := start(t, Options{Handler: func(w http.ResponseWriter, r *http.Request, peer Peer) Access {
		peer.Refused = r.Header.Get("Refuse")
		return answer(w, r, peer)
	}})
	before := time.Now()
	busy, other := f.dial(7), f.dial(8)
	for range 3 {
		busy.send("GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: Boto3/1.2\r\n\r\n").receive()
	}
	f.dial(7).get()
	other.send("GET / HTTP/1.1\r\nHost: x\r\nRefuse: yes\r\n\r\n").receive()
	_ = other.Close()
	eventually(t, "the end of a connection", func() bool { return f.opened() == 2 })

	got := f.Callers()
	for i := range got {
		if got[i].Last.Before(before.Add(-time.Second)) || got[i].Last.After(time.Now().Add(time.Second)) {
			t.Errorf("last request at %v, want about now", got[i].Last)
		}
		got[i].Last = time.Time{}
	}
	want := []CallerStats{
		{Identity: caller.Identity{UID: 1007, Known: true, Unit: "client-1007.service"}, Requests: 4, Connections: 2, Open: 2, UserAgent: "Boto3/1.2"},
		{Identity: caller.Identity{UID: 1008, Known: true, Unit: "client-1008.service"}, Requests: 1, Denied: 1, Connections: 1},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestTableOfCallersIsBounded(t *testing.T) {
	a := accounts{table: make(map[caller.Identity]*account)}
	connected := a.enter(caller.Identity{UID: 1}, 0)
	connected.open.Add(1)
	for i := range 3 * maxAccounts {
		a.enter(caller.Identity{UID: uint32(i + 10)}, time.Duration(i+1))
	}
	if got := len(a.table); got != maxAccounts {
		t.Errorf("%d callers, want %d", got, maxAccounts)
	}
	if a.table[connected.identity] != connected {
		t.Error("a caller with an open connection was forgotten before others without")
	}
	if a.table[caller.Identity{UID: 3*maxAccounts + 9}] == nil {
		t.Error("the latest caller was forgotten")
	}
}
