package mock

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/testkit"
)

const (
	listPath = "/latest/meta-data/iam/security-credentials/"
	testRole = listPath + "test_role"
)

// ask makes a request without a network.
func ask(m *IMS, path string) *http.Response {
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Result()
}

func body(t *testing.T, res *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// keysOf reads a document with its times.
func keysOf(t *testing.T, res *http.Response) (id string, updated, ends time.Time) {
	t.Helper()
	var d struct {
		AccessKeyID             string `json:"AccessKeyId"`
		LastUpdated, Expiration time.Time
	}
	if err := json.Unmarshal([]byte(body(t, res)), &d); err != nil {
		t.Fatal(err)
	}
	return d.AccessKeyID, d.LastUpdated, d.Expiration
}

func TestIMSAnswersAsAlppacasMockDoes(t *testing.T) {
	m := NewIMS(IMSOptions{})
	for _, test := range []struct {
		path        string
		status      int
		contentType string
		body        string // a regular expression
	}{
		{listPath, 200, "text/plain; charset=utf-8", `^test_role$`},
		{listPath + "other", 200, "text/plain; charset=utf-8", `^$`},
		{testRole, 200, "application/json", `^\{"Code":"Success","LastUpdated":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ","Type":"AWS-HMAC","AccessKeyId":"ASIA[A-Z2-7]{16}",` +
			`"SecretAccessKey":"` + Marker + `[A-Z2-7]{24}","Token":"` + Marker + `[A-Z2-7]{384}","Expiration":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"\}$`},
		{"/latest/status", 200, "application/json", `^\{"status": "200", "message": "OK"\}$`},
		{strings.TrimSuffix(listPath, "/"), 404, "application/json", `"traceback"`},
		{"/", 404, "application/json", `"traceback"`},
		{"/meta-data/iam/security-credentials/", 404, "application/json", `"traceback"`},
	} {
		res := ask(m, test.path)
		if res.StatusCode != test.status || res.Header.Get("Content-Type") != test.contentType {
			t.Errorf("%s: status %d, type %s", test.path, res.StatusCode, res.Header.Get("Content-Type"))
		}
		if got := body(t, res); !regexp.MustCompile(test.body).MatchString(got) {
			t.Errorf("%s: got %s", test.path, got)
		}
	}
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest(http.MethodPut, testRole, nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("PUT: status %d", w.Code)
	}
}

func TestIMSPrefix(t *testing.T) {
	for prefix, path := range map[string]string{"": "/latest", "/": "", "api/machine/": "/api/machine", "/x": "/x"} {
		m := NewIMS(IMSOptions{Prefix: prefix})
		if got := m.URL("http://a"); got != "http://a"+path {
			t.Errorf("%q: the URL is %s", prefix, got)
		}
		if res := ask(m, path+"/meta-data/iam/security-credentials/"); res.StatusCode != 200 {
			t.Errorf("%q: status %d", prefix, res.StatusCode)
		}
	}
}

func TestEachRoleHasItsLifetimeAndEachFetchNewKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewIMS(IMSOptions{Roles: []Role{{Name: "web"}, {Name: "batch", Lifetime: 15 * time.Minute}}, Lifetime: 6 * time.Hour})
		for role, want := range map[string]time.Duration{"web": 6 * time.Hour, "batch": 15 * time.Minute} {
			first, updated, ends := keysOf(t, ask(m, listPath+role))
			if !updated.Equal(time.Now()) || ends.Sub(updated) != want {
				t.Errorf("%s: from %v to %v", role, updated, ends)
			}
			if second, _, _ := keysOf(t, ask(m, listPath+role)); second == first {
				t.Errorf("%s: the same keys twice", role)
			}
		}
	})
}

func TestCacheHandsOutTheSameDocument(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewIMS(IMSOptions{Cache: 10 * time.Minute})
		first, _, ends := keysOf(t, ask(m, testRole))
		time.Sleep(9 * time.Minute)
		if same, _, sameEnds := keysOf(t, ask(m, testRole)); same != first || !sameEnds.Equal(ends) {
			t.Error("new keys within the cache's time")
		}
		time.Sleep(time.Minute)
		if fresh, _, _ := keysOf(t, ask(m, testRole)); fresh == first {
			t.Error("old keys after the cache's time")
		}
	})
}

func TestRoles(t *testing.T) {
	got := Roles(3)
	if len(got) != 3 || got[0].Name != "test_role" || got[2].Name != "test_role_3" {
		t.Errorf("got %v", got)
	}
	for text, want := range map[string]Role{"web": {Name: "web"}, "web:15m": {Name: "web", Lifetime: 15 * time.Minute}} {
		if got, err := ParseRole(text); err != nil || got != want {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", ":15m", "web:", "web:x", "web:-1s", "web:0s"} {
		if got, err := ParseRole(text); err == nil {
			t.Errorf("%q is accepted as %v", text, got)
		}
	}
}

func TestScheduledFaultsBeginAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewIMS(IMSOptions{})
		m.Schedule(
			Step{At: 30 * time.Second, Fault: Fault{Kind: Status, Status: 503, For: time.Minute}},
			Step{At: 60 * time.Second, Fault: Fault{Kind: Empty, On: List, Count: 1}},
		)
		for _, step := range []struct {
			wait       time.Duration
			path       string
			want       int
			wantFaults int
		}{
			{0, testRole, 200, 2},
			{29 * time.Second, testRole, 200, 2},
			{time.Second, testRole, 503, 2},
			{59 * time.Second, testRole, 503, 2},
			{time.Second, testRole, 200, 1},
			{time.Hour, listPath, 200, 0},
		} {
			time.Sleep(step.wait)
			if res := ask(m, step.path); res.StatusCode != step.want {
				t.Errorf("after another %v: status %d, want %d", step.wait, res.StatusCode, step.want)
			}
			if got := m.Faults(); len(got) != step.wantFaults {
				t.Errorf("after another %v: faults %v, want %d", step.wait, got, step.wantFaults)
			}
		}
	})
}

func TestFaultsHitWhatTheyName(t *testing.T) {
	for _, test := range []struct {
		fault           string
		list, web, test int // statuses
	}{
		{"status=500", 500, 500, 500},
		{"status=500,on=list", 500, 200, 200},
		{"status=500,on=credentials", 200, 500, 500},
		{"status=500,role=web", 200, 500, 200},
		{"status=500,count=2", 500, 500, 200},
		{"vanished,role=web", 200, 404, 200},
		{"status=500,for=1ns", 200, 200, 200},
	} {
		m := NewIMS(IMSOptions{Roles: []Role{{Name: "web"}, {Name: "test_role"}}})
		fault, err := ParseFault(test.fault)
		if err != nil {
			t.Fatal(err)
		}
		m.SetFaults(fault)
		time.Sleep(time.Microsecond)
		got := [3]int{ask(m, listPath).StatusCode, ask(m, listPath+"web").StatusCode, ask(m, testRole).StatusCode}
		if want := [3]int{test.list, test.web, test.test}; got != want {
			t.Errorf("%s: got %v, want %v", test.fault, got, want)
		}
	}
	m := NewIMS(IMSOptions{Roles: []Role{{Name: "web"}, {Name: "test_role"}}})
	m.SetFaults(Fault{Kind: Vanished, Role: "web"})
	if got := body(t, ask(m, listPath)); got != "test_role" {
		t.Errorf("the list is %q, want it without the vanished role", got)
	}
}

func TestFaultsOfTheDocument(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for text, want := range map[string]struct{ updated, ends, date time.Duration }{
			"short=5m":  {0, 5 * time.Minute, 0},
			"skew=10m":  {10 * time.Minute, 70 * time.Minute, 10 * time.Minute},
			"skew=-10m": {-10 * time.Minute, 50 * time.Minute, -10 * time.Minute},
			"expired":   {-61 * time.Minute, -time.Minute, 0},
		} {
			m := NewIMS(IMSOptions{})
			fault, err := ParseFault(text)
			if err != nil {
				t.Fatal(err)
			}
			m.SetFaults(fault)
			now := time.Now()
			res := ask(m, testRole)
			date, err := http.ParseTime(res.Header.Get("Date"))
			_, updated, ends := keysOf(t, res)
			if err != nil || updated.Sub(now) != want.updated || ends.Sub(now) != want.ends || date.Sub(now) != want.date {
				t.Errorf("%s: updated %v, ends %v, date %v", text, updated.Sub(now), ends.Sub(now), date.Sub(now))
			}
		}
		m := NewIMS(IMSOptions{})
		m.SetFaults(Fault{Kind: Incomplete})
		if got := body(t, ask(m, testRole)); strings.Contains(got, "SecretAccessKey") {
			t.Errorf("incomplete: %s", got)
		}
		m.SetFaults(Fault{Kind: Failed})
		if got := body(t, ask(m, testRole)); !strings.Contains(got, `"Code":"Failed"`) {
			t.Errorf("failed: %s", got)
		}
	})
}

func TestFaultsOfTheConnection(t *testing.T) {
	m := NewIMS(IMSOptions{})
	server := httptest.NewServer(m)
	defer server.Close()
	client := &http.Client{Timeout: time.Second}
	for text, want := range map[string]string{
		"hang":         "Client.Timeout exceeded",
		"latency=10s":  "Client.Timeout exceeded",
		"slow=100ms":   "Client.Timeout",
		"reset":        "connection reset by peer",
		"garbage":      "malformed HTTP",
		"truncated":    "unexpected EOF",
		"latency=10ms": "",
		"redirect":     "elsewhere.invalid",
	} {
		fault, err := ParseFault(text)
		if err != nil {
			t.Fatal(err)
		}
		m.SetFaults(fault)
		res, err := client.Get(server.URL + testRole)
		if err == nil {
			_, err = io.ReadAll(res.Body)
			res.Body.Close()
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want ...%s...", text, err, want)
		}
	}
}

func TestFaultsOfTheBody(t *testing.T) {
	m := NewIMS(IMSOptions{})
	for text, want := range map[string]string{
		"empty":      `^$`,
		"malformed":  `^\{"Code": "Success", "SecretAccessKey": "` + Marker + `[A-Z2-7]+$`,
		"html":       `^<!DOCTYPE html>`,
		"status=502": `^\{"status": "502", .*"traceback": ".*` + Marker,
	} {
		fault, err := ParseFault(text)
		if err != nil {
			t.Fatal(err)
		}
		m.SetFaults(fault)
		if got := body(t, ask(m, testRole)); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s: got %s", text, got)
		}
	}
	m.SetFaults(Fault{Kind: Huge})
	if got := len(body(t, ask(m, testRole))); got < 16<<20 {
		t.Errorf("huge: %d bytes", got)
	}
	m.SetFaults(Fault{Kind: Gzip})
	if got := ask(m, testRole).Header.Get("Content-Encoding"); got != "gzip" {
		t.Errorf("gzip: coding %q", got)
	}
}

func TestOrdersWhileItRuns(t *testing.T) {
	m := NewIMS(IMSOptions{})
	server := testkit.Serve(t, m)
	for _, step := range []struct {
		method, path, send string
		status             int
		want               string // a regular expression
	}{
		{"GET", "/_mock/faults", "", 200, `^\[\]$`},
		{"PUT", "/_mock/faults", `["status=503,retry-after=7s,on=credentials,count=2"]`, 200, `^\["status=503,retry-after=7s,on=credentials,count=2"\]$`},
		{"GET", testRole, "", 503, "traceback"},
		{"POST", "/_mock/faults", `["empty,on=list"]`, 200, `^\["status=503,retry-after=7s,on=credentials,count=1","empty,on=list"\]$`},
		{"GET", listPath, "", 200, `^$`},
		{"PUT", "/_mock/faults", `["hnag"]`, 400, "unknown kind"},
		{"PUT", "/_mock/faults", `nonsense`, 400, "invalid"},
		{"GET", "/_mock/faults", "", 200, `count=1.*empty`},
		{"DELETE", "/_mock/faults", "", 204, `^$`},
		{"GET", listPath, "", 200, `^test_role$`},
		{"PUT", "/_mock/roles", `["web", "batch:15m"]`, 204, `^$`},
		{"GET", listPath, "", 200, "^web\nbatch$"},
		{"PUT", "/_mock/roles", `[":x"]`, 400, "no name"},
		{"GET", "/_mock/requests", "", 200, `"lists":3,"fetches":\{"test_role":1\},"latest":\[\{.*"uri":"` + testRole + `","part":"credentials","role":"test_role","status":503,"faults":"status=503`},
		{"DELETE", "/_mock/requests", "", 204, `^$`},
		{"GET", "/_mock/requests", "", 200, `^\{"connections":0,"total":0,"lists":0,"fetches":\{\},"latest":\[\]\}$`},
		{"GET", "/_mock/other", "", 404, "there is GET, PUT"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), step.method, server.URL+step.path, strings.NewReader(step.send))
		if err != nil {
			t.Fatal(err)
		}
		res, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got := body(t, res)
		res.Body.Close()
		if strings.HasPrefix(step.path, "/_mock") && res.StatusCode == 200 {
			var compact any
			if err := json.Unmarshal([]byte(got), &compact); err != nil {
				t.Fatal(err)
			}
			got = strings.Join(strings.FieldsFunc(got, func(r rune) bool { return r == '\n' || r == ' ' }), "")
		}
		if res.StatusCode != step.status || !regexp.MustCompile(step.want).MatchString(got) {
			t.Errorf("%s %s %s: %d %s, want %d %s", step.method, step.path, step.send, res.StatusCode, got, step.status, step.want)
		}
	}
}

func TestConnectionsAreCounted(t *testing.T) {
	m := NewIMS(IMSOptions{})
	server := testkit.Serve(t, m)
	for range 3 {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		res, err := client.Get(server.URL + listPath)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	if got := m.Requests().Connections; got != 3 {
		t.Errorf("counted %d connections, want 3", got)
	}
}

func TestTheRecordIsBounded(t *testing.T) {
	m := NewIMS(IMSOptions{})
	for i := range maxLatest + 10 {
		ask(m, fmt.Sprintf("%sx%d", listPath, i))
	}
	ask(m, listPath+strings.Repeat("y", 10_000))
	got := m.Requests()
	if got.Total != maxLatest+11 || len(got.Latest) != maxLatest || got.Latest[0].Role != "x11" {
		t.Errorf("%d of %d requests, the first %+v", len(got.Latest), got.Total, got.Latest[0])
	}
	if last := got.Latest[maxLatest-1]; len(last.URI) > maxText || len(last.Role) > maxText {
		t.Error("an endless name is kept whole")
	}
	for range maxFaults + 10 {
		m.AddFaults(Fault{Kind: Hang, Role: "nobody"})
	}
	if got := len(m.Faults()); got != maxFaults {
		t.Errorf("%d faults", got)
	}
}

func TestEachRequestIsOneLineWithoutSecrets(t *testing.T) {
	var log strings.Builder
	m := NewIMS(IMSOptions{Log: zerolog.New(&log)})
	m.SetFaults(Fault{Kind: Status, Status: 500, Count: 1})
	ask(m, testRole)
	ask(m, testRole)
	if strings.Count(log.String(), "\n") != 2 || strings.Contains(log.String(), Marker) {
		t.Errorf("logged %s", log.String())
	}
}
