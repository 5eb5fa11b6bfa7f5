package imds

import (
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purser-agent/purser/pkg/frontend"
)

const lifeLine = "X-aws-ec2-metadata-token-ttl-seconds: "

var tokenForm = regexp.MustCompile(`^[A-Za-z0-9_-]{54}==$`)

func TestTokenIsMadeForTheLifeAskedFor(t *testing.T) {
	for _, test := range []struct{ id, request, header, want string }{
		{"T01", "PUT /latest/api/token", lifeLine + "21600", "21600"},
		{"T02", "PUT /latest/api/token", lifeLine + "21500", "21500"},
		{"T03", "PUT /latest/api/token", lifeLine + "1", "1"},
		{"T04", "PUT /latest/api/token", lifeLine + "300", "300"},
		{"T13 lower case", "PUT /latest/api/token", strings.ToLower(lifeLine) + "300", "300"},
		{"T13 upper case", "PUT /latest/api/token", strings.ToUpper(lifeLine) + "300", "300"},
		{"T15", "PUT /latest/api/token/", lifeLine + "21600", "21600"},
		{"double slash", "PUT //latest//api/token", lifeLine + "21600", "21600"},
		{"T23", "PUT /latest/api/token", "X-Forwarded-For:\r\n" + lifeLine + "21600", "21600"},
	} {
		t.Run(test.id, func(t *testing.T) {
			f := newFixture(t, nil)
			c := connect(t, serve(t, f, webCaller()))
			got := exchangeOn(t, c, test.request+" HTTP/1.1\r\nHost: 169.254.169.254\r\n"+test.header+"\r\n\r\n")
			checkForm(t, got)
			if got.StatusCode != http.StatusOK || !tokenForm.MatchString(got.body) {
				t.Fatalf("%s %q", got.Status, got.body)
			}
			if life := got.Header[lifeHeader]; len(life) != 1 || life[0] != test.want || got.Header.Get("Content-Type") != "text/plain" {
				t.Errorf("header %v, want life %s", got.Header, test.want)
			}
			if remaining, err := f.tokens.check(got.body, time.Now()); err != nil || remaining <= 0 {
				t.Errorf("the token does not hold: %v, %v", remaining, err)
			}
		})
	}
}

func TestTokenIsRefusedForABadRequest(t *testing.T) {
	bad := func(id string, lines ...string) vector {
		return vector{id: id, request: "PUT /latest/api/token", header: lines, status: 400, golden: "P400",
			wants: http.Header{"Content-Type": {"text/html"}, lifeHeader: nil}}
	}
	good := lifeLine + "21600"
	p403 := http.Header{"Content-Type": {"text/html"}, lifeHeader: nil}
	p405 := http.Header{"Allow": {"OPTIONS, PUT"}, "Content-Type": {"text/plain"}, "Content-Length": {"0"}}
	run(t, []vector{
		bad("T06", lifeLine+"0"),
		bad("T07"),
		bad("T08", lifeLine+"-1"),
		bad("T09", lifeLine+"21601"),
		bad("T10", lifeLine+"abc"),
		bad("T11", lifeLine),
		bad("T12 fraction", lifeLine+"1.5"),
		bad("T12 exponent", lifeLine+"1e3"),
		bad("T12 sign", lifeLine+"+60"),
		bad("T12 30 digits", lifeLine+strings.Repeat("1", 30)),
		bad("hexadecimal", lifeLine+"0x10"),
		bad("other digits", lifeLine+"６０"),
		bad("two lives", lifeLine+"60", lifeLine+"21600"),
		{id: "T16 GET", request: "GET /latest/api/token", status: 405, wants: p405},
		{id: "T16 POST", request: "POST /latest/api/token", header: []string{good, "Content-Length: 0"}, status: 405, wants: p405},
		{id: "T18 DELETE", request: "DELETE /latest/api/token", header: []string{tokenLine}, status: 405, wants: p405},
		{id: "T18 HEAD", request: "HEAD /latest/api/token", header: []string{tokenLine}, status: 405, wants: p405},
		{id: "T19", request: "OPTIONS /latest/api/token", status: 200, wants: p405},
		{id: "T20", request: "GET /latest/api", header: []string{tokenLine}, status: 404, golden: "P404"},
		{id: "T20 slash", request: "GET /latest/api/", header: []string{tokenLine}, status: 404, golden: "P404"},
		{id: "T21", request: "PUT /2021-03-23/api/token", header: []string{lifeLine + "60"}, status: 403, golden: "P403", wants: p403},
		{id: "T22", request: "PUT /latest/api/token", header: []string{good, "X-Forwarded-For: 1.2.3.4"}, status: 403, golden: "P403", wants: p403},
		{id: "T25", request: "PUT /latest/api/token", header: []string{good}, host: "evil.example", status: 403, golden: "P403", wants: p403},
		{id: "below the token path", request: "PUT /latest/api/token/x", header: []string{good}, status: 405,
			wants: http.Header{"Allow": {"GET, HEAD"}}},
	})
}

func TestTwoTokensDiffer(t *testing.T) { // T14
	f := newFixture(t, nil)
	synctest.Test(t, func(t *testing.T) { // where both are made at the same moment
		one, two := newToken(f, time.Hour), newToken(f, time.Hour)
		if one == two {
			t.Error("two tokens of one moment are the same")
		}
		for _, token := range []string{one, two} {
			if _, err := f.tokens.check(token, time.Now()); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestTokenRequestMayHaveABody(t *testing.T) { // T24
	f := newFixture(t, nil)
	address := serve(t, f, webCaller())
	head := "PUT /latest/api/token HTTP/1.1\r\nHost: localhost\r\n" + lifeLine + "60\r\nContent-Length: "

	c := connect(t, address)
	for range 2 { // the second shows that the first body is not taken for a request
		got := exchangeOn(t, c, head+"1024\r\n\r\n"+strings.Repeat("x", 1024))
		if got.StatusCode != http.StatusOK || got.Close {
			t.Fatalf("1 KiB: %s, close %v", got.Status, got.Close)
		}
	}
	c = connect(t, address)
	if got := exchangeOn(t, c, head+"1048576\r\n\r\n"); got.StatusCode != http.StatusOK || !got.Close {
		t.Errorf("1 MiB: %s, close %v", got.Status, got.Close)
	}
	_ = c.(*net.TCPConn).CloseWrite()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("1 MiB: the connection stays open")
	}
}

func TestTokensTakeNoMemory(t *testing.T) { // T26
	f := newFixture(t, nil)
	r := httptest.NewRequest(http.MethodPut, "/latest/api/token", nil)
	r.Header.Set(lifeHeader, "21600")
	w := discard{http.Header{}}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for range 100_000 {
		if got := f.Answer(w, frontend.Request{Request: r, View: webCaller()}).Status; got != http.StatusOK {
			t.Fatal(got)
		}
	}
	if after := heap(); after > before+1<<20 {
		t.Errorf("the heap grew from %d to %d bytes", before, after)
	}
}

func TestTokenOutlivesARestartIfTheKeyDoes(t *testing.T) { // T28
	token := newToken(newFixture(t, nil), time.Hour)
	if _, err := newFixture(t, nil).tokens.check(token, time.Now()); err != nil {
		t.Errorf("with the same key: %v", err)
	}
	other := newFixture(t, func(o *Options) { o.TokenKey = NewTokenKey() })
	if _, err := other.tokens.check(token, time.Now()); err == nil {
		t.Error("a token of another key was taken")
	}
}

func TestTokenKeyMustHaveItsLength(t *testing.T) {
	for _, n := range []int{0, 16, 31, 33} {
		if _, err := New(Options{TokenKey: make([]byte, n)}); err == nil {
			t.Errorf("a key of %d bytes was taken", n)
		}
	}
}

func TestTokenEndsToTheMillisecond(t *testing.T) { // T03, A05
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		time.Sleep(700 * time.Millisecond) // not at a full second
		token := newToken(f, time.Second)
		for _, step := range []struct {
			wait, want time.Duration
		}{
			{0, time.Second},
			{999 * time.Millisecond, time.Millisecond},
			{time.Millisecond, 0},
			{time.Hour, 0},
		} {
			time.Sleep(step.wait)
			got, err := f.tokens.check(token, time.Now())
			if got != step.want || (err == nil) != (step.want > 0) {
				t.Errorf("%v later: %v, %v, want %v", step.wait, got, err, step.want)
			}
		}
	})
}

// Changing any character must void a token, also the last one before the padding,
// of which base64 uses two bits only.
func TestEveryCharacterOfATokenCounts(t *testing.T) { // A06
	f := newFixture(t, nil)
	token := newToken(f, time.Hour)
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=\n "
	for i := range token {
		for _, c := range alphabet {
			altered := token[:i] + string(c) + token[i+1:]
			if _, err := f.tokens.check(altered, time.Now()); altered != token && err == nil {
				t.Errorf("taken with %q at %d", c, i)
			}
		}
	}
}

// releasedToken was made with the fixture's key one hour before it ends. It must hold
// in every later version, or an upgrade would void the tokens that SDKs keep.
const releasedToken = "YzIV8cIgeLsCpUiI_8FvQLvok287PvCfXb10JKeY6OtTI3QStqNO7w=="

func TestTokensOutliveAnUpgrade(t *testing.T) {
	tokens := newTokens(fixtureKey)
	if got, err := tokens.check(releasedToken, clock); got != time.Hour || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := tokens.check(releasedToken, clock.Add(time.Hour)); err == nil {
		t.Error("it outlives its end")
	}
}

func FuzzSessionToken(f *testing.F) {
	const good = releasedToken
	for _, seed := range []string{good, good[:55], good + "=", strings.ToLower(good), strings.Repeat("=", 56), strings.Repeat("A", 56),
		strings.Repeat("\n", 56), strings.Repeat("A", 52) + "\n\n==", "", "ThisTokenIsNotValid!"} {
		f.Add(seed)
	}
	tokens := newTokens(fixtureKey)
	f.Fuzz(func(t *testing.T, token string) {
		if remaining, err := tokens.check(token, clock); (err == nil) != (token == good) {
			t.Errorf("%q: %v, %v", token, remaining, err)
		}
	})
}
