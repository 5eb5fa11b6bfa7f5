package mock

import (
	"strings"
	"testing"
	"time"
)

func TestParseFault(t *testing.T) {
	for text, want := range map[string]Fault{
		"hang":                              {Kind: Hang},
		"latency=200ms":                     {Kind: Latency, Time: 200 * time.Millisecond},
		"skew=-10m0s":                       {Kind: Skew, Time: -10 * time.Minute},
		"status=503":                        {Kind: Status, Status: 503},
		"status=429,retry-after=10s":        {Kind: Status, Status: 429, RetryAfter: 10 * time.Second},
		"status=503,retry-at=-1m0s":         {Kind: Status, Status: 503, RetryAt: -time.Minute},
		"empty,on=list,count=3,for=1m0s":    {Kind: Empty, On: List, Count: 3, For: time.Minute},
		"code=AccessDenied,count=1":         {Kind: Code, Code: "AccessDenied", Count: 1},
		"vanished,role=web":                 {Kind: Vanished, Role: "web"},
		"quota,retry-after=9s,on=login":     {Kind: Quota, RetryAfter: 9 * time.Second, On: Login},
		"lease=0s":                          {Kind: Lease},
		"short=15m0s,on=credentials,role=x": {Kind: Short, Time: 15 * time.Minute, On: Credentials, Role: "x"},
	} {
		got, err := ParseFault(text)
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", text, got, err, want)
		}
		if got.String() != text {
			t.Errorf("%s is printed as %s", text, got)
		}
	}
}

func TestParseFaultRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                         "unknown kind",
		"hnag":                     `unknown kind "hnag", must be one of age, code, empty, expired`,
		"hang=5s":                  "hang has no value",
		"latency":                  "invalid duration",
		"latency=5":                "missing unit",
		"latency=-1s":              "negative",
		"status":                   "invalid syntax",
		"status=42":                "not between 200 and 599",
		"code":                     "not a name such as",
		"code=<x>":                 "not a name such as",
		"hang,on=somewhere":        `"on=somewhere" is not understood here`,
		"hang,retry-after=1s":      "not understood here",
		"hang,role=":               "not understood here",
		"hang,count=-1":            "is negative",
		"hang,count=x":             "invalid syntax",
		"hang,for=-1s":             "is negative",
		"hang,":                    "",
		"hang,,count=1":            `"" is not understood here`,
		"status=503,retry-after=x": "invalid duration",
	} {
		_, err := ParseFault(text)
		if want == "" {
			if err != nil {
				t.Errorf("%q: %v", text, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want ...%s...", text, err, want)
		}
	}
}

func FuzzParseFault(f *testing.F) {
	for _, seed := range []string{"hang", "status=503,retry-after=10s,on=list,count=3,for=1m", "skew=-1h", "latency=1ns,role=a", "vanished,", "=,="} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		first, err := ParseFault(text)
		if err != nil {
			return
		}
		second, err := ParseFault(first.String())
		if err != nil || second != first {
			t.Errorf("%q is %+v, printed as %q that is %+v, %v", text, first, first, second, err)
		}
	})
}

func TestReadScript(t *testing.T) {
	for name, text := range map[string]string{
		"YAML": "- {at: 30s, for: 1m, fault: \"status=503,retry-after=10s\"}\n- at: 2m\n  fault: hang\n",
		"JSON": `[{"at": "30s", "for": "1m", "fault": "status=503,retry-after=10s"}, {"at": "2m", "fault": "hang"}]`,
	} {
		steps, err := ReadScript(strings.NewReader(text))
		if err != nil || len(steps) != 2 {
			t.Errorf("%s: got %+v, %v", name, steps, err)
			continue
		}
		first := Step{At: 30 * time.Second, Fault: Fault{Kind: Status, Status: 503, RetryAfter: 10 * time.Second, For: time.Minute}}
		second := Step{At: 2 * time.Minute, Fault: Fault{Kind: Hang}}
		if steps[0] != first || steps[1] != second {
			t.Errorf("%s: got %+v", name, steps)
		}
	}
	for name, text := range map[string]string{
		"unknown key":   "- {at: 30s, fualt: hang}",
		"unknown fault": "- {at: 30s, fault: hnag}",
		"no fault":      "- {at: 30s}",
		"no unit":       "- {at: 30, fault: hang}",
		"negative":      "- {at: -30s, fault: hang}",
		"no list":       "at: 30s",
		"empty":         "",
		"too many":      strings.Repeat("- {fault: hang}\n", maxFaults+1),
	} {
		if steps, err := ReadScript(strings.NewReader(text)); err == nil {
			t.Errorf("%s: accepted as %+v", name, steps)
		}
	}
}
