package mock

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Kind is one way in which an answer goes wrong.
type Kind string

// The kinds. Those with a value have it after an equals sign in a fault's text form.
const (
	Latency    Kind = "latency"    // =TIME: waits before it answers
	Hang       Kind = "hang"       // takes the request and never answers
	Slow       Kind = "slow"       // =TIME: waits so long before each byte of the body
	Reset      Kind = "reset"      // resets the connection
	Garbage    Kind = "garbage"    // answers something that is not HTTP
	Status     Kind = "status"     // =CODE: answers with that status and a traceback
	Redirect   Kind = "redirect"   // leads to another address
	Empty      Kind = "empty"      // 200 without a body: no role, or no such role
	Truncated  Kind = "truncated"  // closes in the middle of the body
	Malformed  Kind = "malformed"  // JSON that breaks off
	HTML       Kind = "html"       // 200 with the login page of some proxy
	Huge       Kind = "huge"       // a body of 16 MiB
	Gzip       Kind = "gzip"       // 2 MiB, compressed although nobody asked for it
	Incomplete Kind = "incomplete" // a document without SecretAccessKey
	Failed     Kind = "failed"     // a document with another Code than Success
	Expired    Kind = "expired"    // a document that ended a minute ago
	Short      Kind = "short"      // =TIME: a document with that lifetime
	Skew       Kind = "skew"       // =TIME: a clock that is ahead, or behind if negative
	Vanished   Kind = "vanished"   // not in the list, and 404
	Code       Kind = "code"       // =NAME: the error of AWS that has this name
)

// The kinds that a Vault alone has.
const (
	Sealed        Kind = "sealed"        // 503 for all but health
	Uninitialized Kind = "uninitialized" // the same, and health says 501
	NoLeader      Kind = "no-leader"     // 500 of a node that knows of no active one
	Quota         Kind = "quota"         // 429 of a rate limit
	LeaseQuota    Kind = "lease-quota"   // 429 of a quota of leases
	Forbidden     Kind = "forbidden"     // 403 as for a token that is dead
	MFA           Kind = "mfa"           // logins ask for a second factor
	Lease         Kind = "lease"         // =TIME: says this of the lease and means the truth
	TTL           Kind = "ttl"           // =TIME: says this of the keys and means the truth
	TTLText       Kind = "ttl-text"      // says the time of the keys as a text
	NoExpiry      Kind = "no-expiry"     // says nothing of either
	Age           Kind = "age"           // =TIME: has the header Age of a cache
)

// The parts of the service that a fault can be limited to.
const (
	List        = "list"
	Credentials = "credentials"
	Login       = "login"  // of a Vault, as all below
	Token       = "token"  // lookup, renewal and revocation
	System      = "system" // sys/
)

// A Fault is something that goes wrong for the requests it hits.
type Fault struct {
	Kind       Kind
	Time       time.Duration // for latency, slow, short and skew
	Status     int           // for status
	Code       string        // for code
	RetryAfter time.Duration // for status and quota: Retry-After in seconds
	RetryAt    time.Duration // for status: the same as a date
	On         string        // one part of the service; empty for all
	Role       string        // hits this role only
	Count      int           // ends after so many requests; zero for no end
	For        time.Duration // ends after this time; zero for no end
}

// value says what a kind has after its equals sign.
var value = map[Kind]string{
	Latency: "time", Slow: "time", Short: "time", Skew: "time", Status: "status", Code: "code",
	Hang: "", Reset: "", Garbage: "", Redirect: "", Empty: "", Truncated: "", Malformed: "", HTML: "", Huge: "",
	Gzip: "", Incomplete: "", Failed: "", Expired: "", Vanished: "",
	Lease: "time", TTL: "time", Age: "time", Sealed: "", Uninitialized: "", NoLeader: "", Quota: "", LeaseQuota: "", Forbidden: "", MFA: "", TTLText: "", NoExpiry: "",
}

// ParseFault reads the text form: a kind, with =VALUE where it has one, and after
// commas on=list|credentials|login|token|system, role=NAME, count=N, for=TIME and, for a
// status, retry-after=TIME or retry-at=TIME. An example is
// status=503,retry-after=10s,on=credentials,count=3.
func ParseFault(text string) (Fault, error) {
	first, rest, _ := strings.Cut(text, ",")
	kind, given, _ := strings.Cut(first, "=")
	f := Fault{Kind: Kind(kind)}
	form, known := value[f.Kind]
	if !known {
		return Fault{}, fmt.Errorf("fault %q: unknown kind %q, must be one of %s", text, kind, kinds())
	}
	var err error
	switch form {
	case "time":
		f.Time, err = time.ParseDuration(given)
		if err == nil && f.Time < 0 && f.Kind != Skew {
			err = errors.New("the time is negative")
		}
	case "status":
		f.Status, err = strconv.Atoi(given)
		if err == nil && (f.Status < 200 || f.Status > 599) {
			err = errors.New("the status is not between 200 and 599")
		}
	case "code":
		f.Code = given
		if given == "" || strings.ContainsFunc(given, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') }) {
			err = errors.New("the code is not a name such as AccessDenied")
		}
	default:
		if strings.Contains(first, "=") {
			err = fmt.Errorf("%s has no value", kind)
		}
	}
	for err == nil && rest != "" {
		var one string
		one, rest, _ = strings.Cut(rest, ",")
		err = f.set(one)
	}
	if err != nil {
		return Fault{}, fmt.Errorf("fault %q: %w", text, err)
	}
	return f, nil
}

func kinds() string {
	names := []string{}
	for _, kind := range slices.Sorted(maps.Keys(value)) {
		names = append(names, string(kind))
	}
	return strings.Join(names, ", ")
}

func (f *Fault) set(one string) error {
	key, text, _ := strings.Cut(one, "=")
	var err error
	switch {
	case key == "on" && slices.Contains([]string{List, Credentials, Login, Token, System}, text):
		f.On = text
	case key == "role" && text != "":
		f.Role = text
	case key == "count":
		f.Count, err = strconv.Atoi(text)
	case key == "for":
		f.For, err = time.ParseDuration(text)
	case key == "retry-after" && (f.Kind == Status || f.Kind == Quota):
		f.RetryAfter, err = time.ParseDuration(text)
	case key == "retry-at" && f.Kind == Status:
		f.RetryAt, err = time.ParseDuration(text)
	default:
		return fmt.Errorf("%q is not understood here", one)
	}
	if err == nil && (f.Count < 0 || f.For < 0 || f.RetryAfter < 0) {
		return fmt.Errorf("%q is negative", one)
	}
	return err
}

// String is the text form.
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(string(f.Kind))
	switch value[f.Kind] {
	case "time":
		fmt.Fprintf(&b, "=%v", f.Time)
	case "status":
		fmt.Fprintf(&b, "=%d", f.Status)
	case "code":
		b.WriteString("=" + f.Code)
	}
	for _, limit := range []struct {
		key   string
		value any
		given bool
	}{
		{"retry-after", f.RetryAfter, f.RetryAfter != 0},
		{"retry-at", f.RetryAt, f.RetryAt != 0},
		{"on", f.On, f.On != ""},
		{"role", f.Role, f.Role != ""},
		{"count", f.Count, f.Count != 0},
		{"for", f.For, f.For != 0},
	} {
		if limit.given {
			fmt.Fprintf(&b, ",%s=%v", limit.key, limit.value)
		}
	}
	return b.String()
}

// MarshalText is String, for JSON.
func (f Fault) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText is ParseFault, for JSON and YAML.
func (f *Fault) UnmarshalText(text []byte) error {
	parsed, err := ParseFault(string(text))
	*f = parsed
	return err
}

// hits reports whether a request for a part of the service, or for a role, is meant.
func (f Fault) hits(part, role string) bool {
	if f.On != "" && f.On != part {
		return false
	}
	if f.Role == "" {
		return true
	}
	return part == Credentials && f.Role == role || part == List && f.Kind == Vanished
}

// faults are those that hit one request.
type faults []Fault

func (f faults) find(kind Kind) (Fault, bool) {
	at := slices.IndexFunc(f, func(one Fault) bool { return one.Kind == kind })
	if at < 0 {
		return Fault{}, false
	}
	return f[at], true
}

func (f faults) has(kind Kind) bool {
	_, found := f.find(kind)
	return found
}

// skew is how far the stand-in's clock is ahead.
func (f faults) skew() time.Duration {
	fault, _ := f.find(Skew)
	return fault.Time
}

func (f faults) String() string {
	names := make([]string, 0, len(f))
	for _, fault := range f {
		names = append(names, fault.String())
	}
	return strings.Join(names, " ")
}
