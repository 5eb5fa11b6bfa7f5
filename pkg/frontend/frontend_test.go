package frontend

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
)

func TestPathIsTakenSegmentBySegment(t *testing.T) {
	for _, test := range []struct {
		target string
		want   []string
	}{
		{"/", nil},
		{"*", []string{"*"}},
		{"/latest", []string{"latest"}},
		{"/latest/", []string{"latest"}},
		{"//latest///meta-data//", []string{"latest", "meta-data"}},
		{"/a/../b/.", []string{"a", "..", "b", "."}},
		{"/a%20b/c%40d", []string{"a b", "c@d"}},
		{"/a?b=/c", []string{"a"}},
	} {
		u, err := url.ParseRequestURI(test.target)
		if err != nil {
			t.Fatal(err)
		}
		path, ok := PathOf(u)
		if !ok {
			t.Errorf("%s: not a path", test.target)
		}
		var got []string
		for !path.End() {
			got = append(got, path.Next())
		}
		if !slices.Equal(got, test.want) || path.Next() != "" {
			t.Errorf("%s: got %q, want %q", test.target, got, test.want)
		}
	}
}

func TestPathRefusesHiddenDotsAndSlashes(t *testing.T) {
	for target, want := range map[string]bool{
		"/a/%2e%2e/b": false,
		"/a/%2E./b":   false,
		"/a%2fb":      false,
		"/a%2Fb":      false,
		"/%252e":      true, // a percent sign, 2 and e: not an escape
		"/a%2":        true,
		"/%2d":        true,
	} {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			continue // net/http answers 400 itself
		}
		if _, got := PathOf(u); got != want {
			t.Errorf("%s: accepted %v, want %v", target, got, want)
		}
	}
}

func TestRoleOfTakesTheARNOfARoleAndNothingElse(t *testing.T) {
	const arn = "arn:aws:iam::123456789012:role/team/app-1"
	for target, want := range map[string]string{
		"/a/b/arn:aws:iam::123456789012:role%2Fteam%2Fapp-1":            "/a/b/ " + arn,
		"/a/b/arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2fteam%2fapp-1/": "/a/b/ " + arn,
		"//arn:aws:iam::123456789012:role%2Fteam%2Fapp-1//":             "// " + arn,
		"/a%2Fb/arn:aws:iam::123456789012:role%2Fteam%2Fapp-1":          "",
		"/%2e%2e/arn:aws:iam::123456789012:role%2Fteam%2Fapp-1":         "",
		"/a/arn:aws:iam::123456789012:role/team%2Fapp-1":                "", // half of it
		"/a/arn:aws:iam::123456789012:role/team/app-1":                  "",
		"/a/arn:aws:iam::123456789012:role%252Fteam":                    "", // escaped twice
		"/a/arn:aws:iam::123456789012:user%2Fteam":                      "",
		"/a/arn:aws:iam::123456789012:role%2F":                          "",
		"/a/arn:aws:iam::123456789012:role%2Fx%0A":                      "",
		"/a/arn:aws:iam::123456789012:role%2Fx%20y":                     "",
		"/a/web%2Fx": "",
		"/a/%2F":     "",
		"/a/arn:aws:iam::123456789012:role%2F" + strings.Repeat("x", 3000): "",
	} {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if before, role, ok := RoleOf(u); ok {
			got = string(before) + " " + role
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", target, got, want)
		}
	}
}

func TestStringsStandInJSONAsTheyAre(t *testing.T) {
	for text, want := range map[string]string{
		"":                         `""`,
		"abc/+=<>&'":               `"abc/+=<>&'"`,
		"seven77\"eight888\\":      `"seven77\"eight888\\"`,
		"\n\r\t\x00\x1f\x7f":       "\"\\n\\r\\t\\u0000\\u001f\x7f\"",
		"Zürich \u2028 \U0001f511": "\"Zürich \u2028 \U0001f511\"",
		"bad\xffbytes":             "\"bad\ufffdbytes\"",
	} {
		if got := string(AppendString(nil, text)); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

func FuzzAppendString(f *testing.F) {
	for _, seed := range []string{"", "plain", "eight888eight888\"", "\\", "\x00", "\xff\xfe", "ü", "12345678\x1f", "\u2028", "<a&b>"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := AppendString([]byte("["), text)
		var wanted bytes.Buffer
		encoder := json.NewEncoder(&wanted)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(text); err != nil {
			t.Fatal(err)
		}
		var read, want string
		if err := json.Unmarshal(got[1:], &read); err != nil {
			t.Fatalf("%q became %s: %v", text, got[1:], err)
		}
		if err := json.Unmarshal(wanted.Bytes(), &want); err != nil {
			t.Fatal(err)
		}
		if read != want {
			t.Errorf("%q became %q, encoding/json has %q", text, read, want)
		}
		if strings.Trim(text, "abcdefghijklmnopqrstuvwxyz/+=<>&") == "" && len(got) != len(text)+3 {
			t.Errorf("%q was escaped without need: %s", text, got[1:])
		}
	})
}

func TestTimesAreUTCWithWholeSeconds(t *testing.T) {
	zone := time.FixedZone("east", 5*3600)
	moment := time.Date(2024, 1, 2, 8, 4, 5, 999_999_999, zone)
	if got, want := string(AppendTime(nil, moment)), `"2024-01-02T03:04:05Z"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestWriteSendsTheLengthAndNoBodyToHEAD(t *testing.T) {
	for _, test := range []struct{ method, body, want string }{
		{http.MethodGet, "body", "body"},
		{http.MethodHead, "body", ""},
		{http.MethodGet, "", ""},
	} {
		w := httptest.NewRecorder()
		Write(w, httptest.NewRequest(test.method, "/", nil), http.StatusTeapot, []byte(test.body))
		answer := w.Result()
		got, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != test.want || answer.StatusCode != http.StatusTeapot || answer.Header.Get("Content-Length") != fmt.Sprint(len(test.body)) {
			t.Errorf("%s: %d %v %q", test.method, answer.StatusCode, answer.Header, got)
		}
	}
}

func TestBuffersComeBackEmptyAndNeverHuge(t *testing.T) {
	for range 100 {
		b := NewBuffer()
		if len(b.Text) != 0 || cap(b.Text) > maxPooled {
			t.Fatalf("a buffer with %d of %d bytes", len(b.Text), cap(b.Text))
		}
		b.Text = append(b.Text, make([]byte, maxPooled/2)...)
		b.Free()
		b = NewBuffer()
		b.Text = append(b.Text, make([]byte, 4*maxPooled)...)
		b.Free()
	}
}

// fakeView holds one credential of each kind and an error.
type fakeView struct{ err error }

func (fakeView) Names() []string { return []string{"keys"} }
func (fakeView) IMDSv1() bool    { return false }
func (fakeView) Pending() bool   { return false }
func (v fakeView) Get(_ context.Context, key credential.Key) (credential.Credential, error) {
	switch {
	case v.err != nil:
		return nil, v.err
	case key == credential.Key{Name: "keys"}:
		return &credential.AWS{AccessKeyID: "ASIA"}, nil
	default:
		return otherCloud{}, nil
	}
}

type otherCloud struct{}

func (otherCloud) Lifetime() (issued, expires time.Time) { return }

func TestAWSKeysAreNotAnotherCloudsToken(t *testing.T) {
	keys, err := AWS(t.Context(), fakeView{}, "keys")
	if err != nil || keys.AccessKeyID != "ASIA" {
		t.Errorf("got %v, %v", keys, err)
	}
	if _, err := AWS(t.Context(), fakeView{}, "token"); !errors.Is(err, credential.ErrNotFound) {
		t.Errorf("another cloud's token: %v", err)
	}
	if _, err := AWS(t.Context(), fakeView{credential.ErrExpired}, "keys"); !errors.Is(err, credential.ErrExpired) {
		t.Errorf("the view's error became %v", err)
	}
}

func TestOnlyWhatIsNotThereIsNotFound(t *testing.T) {
	for _, test := range []struct {
		err    error
		want   Decision
		reason string
	}{
		{fmt.Errorf("role %q: %w", "web", credential.ErrNotFound), NotFound, "not for this caller"},
		{credential.ErrExpired, Unavailable, "expired"},
		{credential.ErrUnavailable, Unavailable, "never fetched"},
		{credential.ErrRefused, Unavailable, "refuses"},
		{context.DeadlineExceeded, Unavailable, "in time"},
		{errors.New("s3cr3t"), Unavailable, "in time"},
	} {
		got, reason := Explain(test.err)
		if got != test.want || !strings.Contains(reason, test.reason) {
			t.Errorf("%v: got %s, %q", test.err, got, reason)
		}
	}
}

func TestAccountComesFromTheUpstreamOrTheRole(t *testing.T) {
	for _, test := range []struct{ account, arn, want string }{
		{"", "", ""},
		{"111122223333", "", "111122223333"},
		{"111122223333", "arn:aws:iam::444455556666:role/web", "111122223333"},
		{"", "arn:aws:iam::444455556666:role/path/web", "444455556666"},
		{"", "arn:aws-cn:sts::444455556666:assumed-role/web/session", "444455556666"},
		{"", "arn:aws:iam::aws:policy/ReadOnlyAccess", ""},
		{"", "arn:aws:iam::44445555666:role/web", ""},
		{"", "arn:aws:iam::４４４４55556666:role/web", ""},
		{"", "iam::444455556666:role/web", ""},
		{"", "arn:aws:iam::444455556666", ""},
		{"", "arn:", ""},
	} {
		if got := AccountID(&credential.AWS{AccountID: test.account, RoleARN: test.arn}); got != test.want {
			t.Errorf("%q, %q: got %q, want %q", test.account, test.arn, got, test.want)
		}
	}
}

func TestKeysWithoutAnEndAreToBeAskedForAgainInAnHour(t *testing.T) {
	if got := time.Until(Expiration(&credential.AWS{})); got < 59*time.Minute || got > time.Hour {
		t.Errorf("keys without an end end in %v", got)
	}
	end := time.Now().Add(10 * time.Minute)
	if got := Expiration(&credential.AWS{Expires: end}); !got.Equal(end) {
		t.Errorf("keys that end at %v are said to end at %v", end, got)
	}
}

func FuzzRoleOf(f *testing.F) {
	for _, seed := range []string{"/v2/credentials/arn:aws:iam::123456789012:role%2Fapp", "/%2F", "//a%2fb//", "/%2e%2e%2farn:aws:iam::123456789012:role%2Fx"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		before, arn, ok := RoleOf(u)
		if ok && (!credential.IsRoleARN(arn) || !strings.HasSuffix(strings.TrimRight(u.Path, "/"), strings.TrimRight(arn, "/")) || !strings.HasPrefix(u.Path, string(before))) {
			t.Errorf("%q: got %q and %q", target, before, arn)
		}
	})
}
