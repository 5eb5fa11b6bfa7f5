package status

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/purser-agent/purser/pkg/testkit"
)

func show(t *testing.T, table Table, r Report) string {
	t.Helper()
	var b strings.Builder
	if err := table.Write(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTableShowsEveryKindOfTrouble(t *testing.T) {
	waiting := Report{
		Version: "1.2.3", PID: 1, UptimeSeconds: 3, Missing: []string{"the list of upstream datacenter"},
		Upstreams: []Upstream{{Name: "datacenter", Kind: "ims", State: Unknown}},
	}
	for name, test := range map[string]struct {
		table  Table
		report Report
	}{
		"busy.txt":      {Table{Now: now}, busy()},
		"narrow.txt":    {Table{Now: now, Width: 100}, busy()},
		"colour.txt":    {Table{Now: now, Color: true, Width: 120}, busy()},
		"waiting.txt":   {Table{Now: now}, waiting},
		"limited.txt":   {Table{Now: now}, busy().Limit(33, func(name string) bool { return name == "test_role" })},
		"one-error.txt": {Table{Now: now, Width: 10}, Report{Credentials: []Credential{{Name: "a", State: None, LastError: strings.Repeat("x", 90)}}}},
	} {
		t.Run(name, func(t *testing.T) { testkit.Golden(t, name, show(t, test.table, test.report)) })
	}
}

func TestTableFitsTheTerminal(t *testing.T) {
	_, tables, _ := strings.Cut(show(t, Table{Now: now, Width: 110}, busy()), "\n\n")
	for line := range strings.SplitSeq(tables, "\n") {
		if n := utf8.RuneCountInString(line); n > 110 {
			t.Errorf("%d characters: %s", n, line)
		}
	}
}

func TestTableShowsTheBusiestCallersOnly(t *testing.T) {
	var report Report
	for uid := range uint32(25) {
		report.Callers = append(report.Callers, Caller{UID: &uid, User: fmt.Sprintf("user%d", uid), Known: true, Requests: 1})
	}
	got := show(t, Table{Now: now}, report)
	if n := strings.Count(got, "\nuser"); n != mostCallers {
		t.Errorf("%d callers are shown, want %d", n, mostCallers)
	}
	if !strings.HasSuffix(got, "\nand 15 more callers\n") {
		t.Errorf("the table does not say that there are 15 more:\n%s", got)
	}
}

func TestTableReportsAWriterThatFails(t *testing.T) {
	broken := errors.New("broken pipe")
	if err := (Table{Now: now}).Write(failingWriter{broken}, busy()); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestSpanShowsTwoUnits(t *testing.T) {
	for _, test := range []struct {
		d    time.Duration
		want string
	}{
		{0, "0s"},
		{59 * time.Second, "59s"},
		{time.Minute, "1m"},
		{61 * time.Second, "1m1s"},
		{time.Hour + 59*time.Second, "1h"},
		{3*time.Hour + 12*time.Minute, "3h12m"},
		{49 * time.Hour, "2d1h"},
	} {
		if got := span(test.d); got != test.want {
			t.Errorf("span(%v) = %q, want %q", test.d, got, test.want)
		}
	}
}

func TestCleanLeavesWordsAndEscapesTheRest(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"plain", "role \"a\": 429", "role \"a\": 429"},
		{"other scripts", "Zürich 東京", "Zürich 東京"},
		{"lines", "a\nb\r\n\tc", "a b   c"},
		{"colour", "\x1b[31mred", `\x1b[31mred`},
		{"8-bit escape", "\u009b31m", `\u009b31m`},
		{"direction", "a\u202eb", `a\u202eb`},
		{"broken", "a\xffb", `a\xffb`},
		{"zero", "a\x00b", `a\x00b`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := clean(test.in); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func FuzzCleanTextIsOnePrintableLine(f *testing.F) {
	for _, seed := range []string{"", "a\nb", "\x1b[31m", "\xff\xfe", "\u202e", "\u009b", "東京"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := clean(s)
		if !isClean(got) {
			t.Errorf("clean(%q) = %q is not clean", s, got)
		}
		if again := clean(got); again != got {
			t.Errorf("cleaning %q twice makes %q", got, again)
		}
	})
}

func FuzzTableIsSafeForATerminal(f *testing.F) {
	f.Add("name", "error\x1b[2J", "notice\n", 80)
	f.Add("", "", "", 0)
	f.Add("\xff", "\u202e", "\t", 1)
	f.Fuzz(func(t *testing.T, name, trouble, notice string, width int) {
		report := Report{
			Version: name, Missing: []string{name}, Notices: []string{notice}, Reload: &Reload{Error: trouble},
			Credentials: []Credential{{Name: name, Variant: notice, State: State(name), LastError: trouble, Upstream: name}},
			Upstreams:   []Upstream{{Name: name, Kind: name, State: Health(trouble), Detail: notice, LastError: trouble}},
			Callers:     []Caller{{User: name, Unit: trouble, UserAgent: trouble}},
		}
		for line := range strings.SplitSeq(show(t, Table{Now: now, Width: width}, report), "\n") {
			if !isClean(line) {
				t.Errorf("the table has the line %q", line)
			}
		}
	})
}
