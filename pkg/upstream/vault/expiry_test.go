package vault

import (
	"encoding/json"
	"math"
	"testing"
	"time"
)

// TestLifeOfKeysByWhatAnswersSay has every oddity that a server was seen with. The
// numbers in the names are the cases of the reference that they come from.
func TestLifeOfKeysByWhatAnswersSay(t *testing.T) {
	for _, test := range []struct {
		name  string
		life  lifespan
		want  time.Duration
		known bool
	}{
		{"1: an assumed role of Vault 1.14 or OpenBao", lifespan{ttl: "3599", lease: "3600"}, 3599 * time.Second, true},
		{"9: a ttl that the role in Vault has cut", lifespan{ttl: "1799", lease: "1800", asked: 5 * time.Hour}, 1799 * time.Second, true},
		{"14: no lease in Vault 1.13", lifespan{ttl: "3599", lease: "0"}, 3599 * time.Second, true},
		{"15: a wrapped ttl and a lease of 32 days", lifespan{ttl: "18446744073709551316", lease: "2764800"}, 15 * time.Minute, false},
		{"15: the same, a shorter life asked for", lifespan{ttl: "18446744073709551316", lease: "2764800", asked: 10 * time.Minute}, 10 * time.Minute, false},
		{"15: the same, a longer life asked for", lifespan{ttl: "18446744073709551316", lease: "2764800", asked: time.Hour}, 15 * time.Minute, false},
		{"16: a lease that ends with the batch token", lifespan{ttl: "3599", lease: "599"}, 599 * time.Second, true},
		{"17: a lease longer than asked for", lifespan{ttl: "3599", lease: "7200", asked: time.Hour}, 3599 * time.Second, true},
		{"17: both longer than asked for", lifespan{ttl: "7199", lease: "7200", asked: time.Hour}, 15 * time.Minute, false},
		{"17: longer by what rounding adds", lifespan{ttl: "3660", lease: "3660", asked: time.Hour}, time.Hour + time.Minute, true},
		{"17: longer by a second more", lifespan{ttl: "3661", lease: "0", asked: time.Hour}, 15 * time.Minute, false},
		{"18: a lease of a minute", lifespan{ttl: "59", lease: "60"}, 59 * time.Second, true},
		{"19: nothing at all", lifespan{}, 15 * time.Minute, false},
		{"19: nothing but what was asked for", lifespan{asked: 5 * time.Minute}, 5 * time.Minute, false},
		{"20: an answer of 20 minutes ago", lifespan{ttl: "3599", lease: "3600", age: 20 * time.Minute}, 2399 * time.Second, true},
		{"20: an answer that is older than its keys live", lifespan{ttl: "3599", lease: "3600", age: 2 * time.Hour}, -3601 * time.Second, true},
		{"20: nothing, ten minutes ago", lifespan{age: 10 * time.Minute}, 5 * time.Minute, false},
		{"21: a wrap that was opened 6 s late", lifespan{ttl: "3599", lease: "3600", age: 6 * time.Second}, 3593 * time.Second, true},
		{"11: a fraction", lifespan{ttl: "3599.9", lease: "3.6e3"}, 3599 * time.Second, true},
		{"11: a negative number", lifespan{ttl: "-300", lease: "3600"}, time.Hour, true},
		{"11: no number", lifespan{ttl: "1h", lease: "NaN"}, 15 * time.Minute, false},
		{"11: more than any number", lifespan{ttl: "1e400", lease: "Inf"}, 15 * time.Minute, false},
		{"the longest session", lifespan{ttl: "129600", lease: "129601"}, 36 * time.Hour, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got, known := test.life.left(); got != test.want || known != test.known {
				t.Errorf("got %v, known %v; want %v, %v", got, known, test.want, test.known)
			}
		})
	}
}

func FuzzLifeOfKeysIsNeverLongerThanCanBe(f *testing.F) {
	f.Add("3599", "3600", int64(0), int64(0))
	f.Add("18446744073709551316", "2764800", int64(time.Hour), int64(6*time.Second))
	f.Add("NaN", "-1e308", int64(math.MaxInt64), int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, ttl, lease string, asked, age int64) {
		l := lifespan{json.Number(ttl), json.Number(lease), time.Duration(max(0, asked)), time.Duration(max(0, age))}
		got, known := l.left()
		most := longestSession
		if l.asked > 0 {
			most = min(most, l.asked+overRequest)
		}
		if got > most-l.age && most >= overRequest || !known && got > unknownLife {
			t.Errorf("got %v, known %v", got, known)
		}
	})
}

func TestNumbersAlsoAsTexts(t *testing.T) {
	for _, test := range []struct {
		value any
		want  json.Number
	}{{json.Number("1"), "1"}, {"3599", "3599"}, {nil, ""}, {true, ""}, {map[string]any{}, ""}} {
		if got := numeral(test.value); got != test.want {
			t.Errorf("numeral(%v) = %q, want %q", test.value, got, test.want)
		}
	}
}
