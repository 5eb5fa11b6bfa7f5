package status

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/testkit"
)

var now = time.Date(2026, 11, 23, 14, 0, 0, 250, time.FixedZone("CET", 3600))

// busy is the report of a Purser that has seen everything once.
func busy() Report {
	return Report{
		Version: "1.2.3", PID: 812, UptimeSeconds: 11530, Ready: true,
		Credentials: []Credential{
			{
				Name: "backup", Upstream: "datacenter", State: Due, Required: true,
				Issued: now.Add(-30 * time.Minute), Expires: now.Add(30 * time.Minute),
				RefreshedAt: now.Add(-30 * time.Minute), NextRefresh: now.Add(12 * time.Second),
				Failures: 1, LastError: "429 Too Many Requests",
			},
			{
				Name: "finance", Upstream: "finance", State: Expiring, Required: true,
				Issued: now.Add(-51 * time.Minute), Expires: now.Add(9*time.Minute + 3*time.Second),
				RefreshedAt: now.Add(-51 * time.Minute), NextRefresh: now,
				Failures: 14, LastError: "https://sts.eu-central-1.amazonaws.com: dial tcp 192.0.2.7:443: connect: connection refused",
			},
			{Name: "gone", Upstream: "datacenter", State: Withdrawn, WithdrawnAt: now.Add(-time.Minute)},
			{
				Name: "late", Upstream: "datacenter", State: Expired, Required: true,
				Expires: now.Add(-90 * time.Second), Failures: 3, LastError: "role \"late\": \x1b[31mAccessDenied\x1b[0m\nsecond line",
			},
			{Name: "new", Variant: "api://app", Upstream: "datacenter", State: None, OnDemand: true},
			{Name: "test_role", Upstream: "finance", State: None, HeldBy: "datacenter"},
			{
				Name: "test_role", Upstream: "datacenter", State: Fresh, Required: true,
				Issued: now.Add(-5 * time.Minute), Expires: now.Add(36 * time.Hour),
				RefreshedAt: now.Add(-5 * time.Minute), NextRefresh: now.Add(18 * time.Hour),
			},
		},
		Upstreams: []Upstream{
			{Name: "datacenter", Kind: "ims", State: OK, Required: true, LastList: now.Add(-10 * time.Minute), NextList: now.Add(50 * time.Minute), SkewSeconds: -4},
			{Name: "finance", Kind: "sts", State: Failing, Required: true, Failures: 14, LastError: "connection refused"},
			{Name: "vault", Kind: "vault", State: OK, Required: true, Detail: "logged in by approle,\x1b[31m the token ends in 40m"},
			{Name: "later", Kind: "ims", State: Unknown},
		},
		Callers: []Caller{
			{UID: new(uint32(33)), User: "www-data", Unit: "nginx.service", Known: true, Requests: 12345, Denied: 4, Connections: 40, Open: 3, UserAgent: "Boto3/1.40", LastSeen: now.Add(-2 * time.Second)},
			{UID: new(uint32(1000)), Unit: "user@1000.service", Known: true, Requests: 7, Connections: 7, LastSeen: now.Add(-3 * time.Hour)},
			{Requests: 1, Denied: 1, Connections: 1, LastSeen: now},
		},
		Reload:  &Reload{Time: now.Add(-time.Hour), Error: "conf.d/60-far.yaml:3: unknown key \"lisen\""},
		Sandbox: &Sandbox{Landlock: "in force", Seccomp: "in force", Refused: map[string]uint64{"mknodat": 1, "inotify_init1": 3}},
		Notices: []string{"the grant \"everyone\" covers finance, which the grant \"backup\" names"},
	}
}

func marshal(t *testing.T, r Report) string {
	t.Helper()
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

func TestReportJSONIsTheContractWithScripts(t *testing.T) {
	testkit.Golden(t, "busy.json", marshal(t, busy()))
	testkit.Golden(t, "empty.json", marshal(t, Report{Version: "1.2.3"}))
	limited := busy().Limit(33, func(name string) bool { return name == "late" || name == "test_role" })
	testkit.Golden(t, "limited.json", marshal(t, limited))
}

func TestReportJSONHoldsNothingThatATerminalObeys(t *testing.T) {
	nasty := "\x1b]0;x\a\u009b31m\u202e\xff\n" + strings.Repeat("ä", maxText)
	r := Report{
		Missing: []string{nasty}, Notices: []string{nasty},
		Credentials: []Credential{{LastError: nasty}},
		Upstreams:   []Upstream{{LastError: nasty, Detail: nasty}},
		Callers:     []Caller{{User: nasty, Unit: nasty, UserAgent: nasty}},
		Reload:      &Reload{Error: nasty},
	}
	var got Report
	if err := json.Unmarshal([]byte(marshal(t, r)), &got); err != nil {
		t.Fatal(err)
	}
	texts := []string{
		got.Missing[0], got.Notices[0], got.Credentials[0].LastError,
		got.Upstreams[0].LastError, got.Upstreams[0].Detail, got.Callers[0].User, got.Callers[0].Unit, got.Callers[0].UserAgent, got.Reload.Error,
	}
	for _, s := range texts {
		if !isClean(s) || len(s) > 2*maxText || s == "" {
			t.Errorf("%d bytes, starting with %.40q: want clean and bounded text", len(s), s)
		}
	}
	if r.Missing[0] != nasty || r.Reload.Error != nasty {
		t.Error("marshalling changed the report itself")
	}
}

func TestReportSurvivesTheWayToTheClient(t *testing.T) {
	var got Report
	if err := json.Unmarshal([]byte(marshal(t, busy())), &got); err != nil {
		t.Fatal(err)
	}
	if first, second := marshal(t, busy()), marshal(t, got); first != second {
		t.Errorf("after a round trip:\n%s\nwant\n%s", second, first)
	}
}

func TestLimitedReportShowsTheAskersPartOnly(t *testing.T) {
	full := busy()
	full.Ready = false
	full.Missing = []string{"the list of upstream later", "late", "finance"}
	got := full.Limit(1000, func(name string) bool { return name == "late" })
	if !got.Limited || got.Ready {
		t.Errorf("limited = %v, ready = %v, want true, false", got.Limited, got.Ready)
	}
	if len(got.Credentials) != 1 || got.Credentials[0].Name != "late" || got.Credentials[0].State != Expired {
		t.Errorf("credentials = %+v, want late, expired", got.Credentials)
	}
	if want := []string{"late"}; !slices.Equal(got.Missing, want) {
		t.Errorf("missing = %q, want %q", got.Missing, want)
	}
	if len(got.Callers) != 1 || *got.Callers[0].UID != 1000 {
		t.Errorf("callers = %+v, want that of uid 1000", got.Callers)
	}
	text := marshal(t, got)
	for _, foreign := range []string{"finance", "datacenter", "www-data", "AccessDenied", "192.0.2", "conf.d", "lisen"} {
		if strings.Contains(text, foreign) {
			t.Errorf("the limited report shows %q:\n%s", foreign, text)
		}
	}
}

func TestLimitedReportOfAnUnknownUserHidesUnknownCallers(t *testing.T) {
	if got := busy().Limit(0, func(string) bool { return true }).Callers; len(got) != 0 {
		t.Errorf("callers = %+v, want none: a caller without uid is not uid 0", got)
	}
}

// Limit names fields one by one; a field that is added later must be decided on.
func TestLimitDecidesOnEveryField(t *testing.T) {
	for typ, want := range map[reflect.Type]int{
		reflect.TypeFor[Report]():     12, // the sandbox is an administrator's business
		reflect.TypeFor[Credential](): 14,
	} {
		if got := typ.NumField(); got != want {
			t.Errorf("%v has %d fields, want %d: decide in Limit who may see the new one, then change this number", typ, got, want)
		}
	}
}

func TestLineSaysWhatMatters(t *testing.T) {
	for _, test := range []struct {
		name   string
		report Report
		want   string
	}{
		{"waiting", Report{Missing: []string{"the list of upstream a", "b"}}, "not ready, waiting for the list of upstream a, b"},
		{"waiting for many", Report{Missing: strings.Split("a b c d e f g", " ")}, "not ready, waiting for a, b, c, d, e and 2 more"},
		{"not ready for reasons not shown", Report{}, "not ready"},
		{"nothing configured", Report{Ready: true}, "ready, no credentials"},
		{"busy", busy(), "ready, credentials: 1 none, 1 fresh, 1 due, 1 expiring, 1 expired, 1 withdrawn"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.report.Line(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
