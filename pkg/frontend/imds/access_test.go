package imds

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purser-agent/purser/pkg/frontend"
)

const metadataListing = "ami-id\nami-launch-index\nhostname\niam/\ninstance-id\ninstance-type\nlocal-ipv4\nmac\nnetwork/\nplacement/\nservices/"

func TestAccessNeedsASessionToken(t *testing.T) {
	withoutLife := http.Header{lifeHeader: nil}
	unauthorized := http.Header{lifeHeader: nil, "Content-Type": {"text/plain"}, "Content-Length": {"0"}}
	p403 := http.Header{"Content-Type": {"text/html"}, lifeHeader: nil}
	const get = "GET /latest/meta-data/"
	const unknown = "GET /latest/meta-data/unknown"
	wrong := "X-aws-ec2-metadata-token: ThisTokenIsNotValid!"
	html := "X-aws-ec2-metadata-token: " + strings.ReplaceAll(string(page(400)), "\n", " ")
	forwarded := "X-Forwarded-For: 1.2.3.4"
	run(t, []vector{
		{id: "A01", request: get, header: []string{tokenLine}, status: 200, body: metadataListing, wants: http.Header{lifeHeader: {"21600"}}},
		{id: "A03", request: get, status: 401, wants: unauthorized},
		{id: "A03 empty token", request: get, header: []string{"X-aws-ec2-metadata-token:"}, status: 401, wants: unauthorized},
		{id: "A04", request: get, header: []string{wrong}, status: 401, wants: unauthorized},
		{id: "A07 one line", request: get, header: []string{html}, status: 401, wants: unauthorized},
		{id: "A08", v1: true, request: get, status: 200, body: metadataListing, wants: withoutLife},
		{id: "A08 empty token", v1: true, request: get, header: []string{"X-aws-ec2-metadata-token:"}, status: 200, body: metadataListing},
		{id: "A09", v1: true, request: get, header: []string{wrong}, status: 401, wants: unauthorized},
		{id: "A11", request: get, header: []string{tokenLine, forwarded}, status: 403, golden: "P403", wants: p403},
		{id: "A12", v1: true, request: get, header: []string{forwarded}, status: 403, golden: "P403", wants: p403},
		{id: "A14", request: unknown, header: []string{tokenLine}, status: 404, golden: "P404",
			wants: http.Header{lifeHeader: {"21600"}, "Content-Type": {"text/html"}, "Content-Length": {"339"}}},
		{id: "A15", request: unknown, status: 401, wants: unauthorized},
		{id: "A15 dots", request: "GET /latest/../x", status: 401, wants: unauthorized},
		{id: "foreign host", v1: true, request: get, host: "evil.example", status: 403, golden: "P403", wants: p403},
		{id: "foreign host, unknown path", v1: true, request: unknown, host: "evil.example", status: 403, golden: "P403"},
		{id: "foreign host, wrong method", v1: true, request: "POST /", host: "evil.example", status: 403, golden: "P403"},
		{id: "foreign host, HEAD", v1: true, request: "HEAD /", host: "evil.example", status: 403},
		{id: "absolute form", request: "GET http://evil.example/latest/meta-data/", header: []string{tokenLine}, status: 403, golden: "P403"},
	})
	for _, host := range []string{"169.254.169.254", "localhost:25772", "127.0.0.1:25772", "[::1]:25772", "[fd00:ec2::254]"} {
		for _, v1 := range []bool{false, true} {
			run(t, []vector{{id: "A16", v1: v1, request: get, host: host, header: []string{tokenLine}, status: 200, body: metadataListing}})
		}
	}
}

// A failed PUT leaves a page of several lines where a script expects a token. It is
// not a header then, and net/http says so before any dialect is asked.
func TestPageInPlaceOfATokenIsNotServed(t *testing.T) { // A07
	view := webCaller()
	view.v1 = true
	c := connect(t, serve(t, newFixture(t, nil), view))
	got := exchangeOn(t, c, "GET /latest/meta-data/ HTTP/1.1\r\nHost: localhost\r\nX-aws-ec2-metadata-token: "+string(page(400))+"\r\n\r\n")
	if got.StatusCode != http.StatusBadRequest {
		t.Errorf("%s %q", got.Status, got.body)
	}
}

func TestTokenOfOneSecondIsDeadAfterIt(t *testing.T) { // A05
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		r := httptest.NewRequest(http.MethodPut, "/latest/api/token", nil)
		r.Header.Set(lifeHeader, "1")
		w := httptest.NewRecorder()
		f.Answer(w, frontend.Request{Request: r, View: webCaller()})
		r = httptest.NewRequest(http.MethodGet, "/latest/meta-data/", nil)
		r.Header.Set(tokenHeader, w.Body.String())
		for _, want := range []int{http.StatusOK, http.StatusUnauthorized} {
			if got := f.Answer(httptest.NewRecorder(), frontend.Request{Request: r, View: webCaller()}).Status; got != want {
				t.Errorf("at %v: %d, want %d", time.Now(), got, want)
			}
			time.Sleep(time.Second)
		}
	})
}

func TestAnswerSaysHowLongTheTokenStillLives(t *testing.T) { // A01, A14
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		r := httptest.NewRequest(http.MethodGet, "/latest/meta-data/unknown", nil)
		r.Header.Set(tokenHeader, newToken(f, 6*time.Hour))
		for _, step := range []struct {
			wait time.Duration
			want string
		}{{0, "21600"}, {time.Second, "21599"}, {time.Hour, "17999"}} {
			time.Sleep(step.wait)
			w := httptest.NewRecorder()
			f.Answer(w, frontend.Request{Request: r, View: webCaller()})
			if got := w.Header().Get(lifeHeader); got != step.want || w.Code != http.StatusNotFound {
				t.Errorf("%d, %q, want %q", w.Code, got, step.want)
			}
		}
	})
}

func TestOneConnectionServesMany(t *testing.T) { // A13, A19, A20
	f := newFixture(t, nil)
	c := connect(t, serve(t, f, webCaller()))
	const list = "GET /latest/meta-data/iam/security-credentials/ HTTP/1.1\r\nHost: 169.254.169.254\r\n"
	if got := exchangeOn(t, c, list+"\r\n"); got.StatusCode != http.StatusUnauthorized {
		t.Errorf("without token: %s", got.Status)
	}
	token := exchangeOn(t, c, "PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\n"+lifeLine+"300\r\n\r\n")
	for _, last := range []string{"", "Connection: close\r\n"} {
		got := exchangeOn(t, c, list+"X-aws-ec2-metadata-token: "+token.body+"\r\n"+last+"\r\n")
		if got.StatusCode != http.StatusOK || got.body != "web" || got.Close != (last != "") {
			t.Errorf("%s %q, close %v", got.Status, got.body, got.Close)
		}
	}
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after Connection: close: %v, want EOF", err)
	}
}

func TestOldClientsMayOmitTheHost(t *testing.T) { // A18
	for _, v1 := range []bool{false, true} {
		f, view := newFixture(t, nil), webCaller()
		view.v1 = v1
		request := "GET /latest/meta-data/placement/region HTTP/1.0\r\n"
		if !v1 {
			request += "X-aws-ec2-metadata-token: " + newToken(f, time.Minute) + "\r\n"
		}
		got := exchangeOn(t, connect(t, serve(t, f, view)), request+"\r\n")
		if got.StatusCode != http.StatusOK || got.body != "eu-west-1" {
			t.Errorf("v1 %v: %s %q", v1, got.Status, got.body)
		}
	}
}

func TestOutcomeTellsTheLogWhatWasDecided(t *testing.T) {
	f := newFixture(t, nil)
	token := newToken(f, time.Hour)
	expired := newToken(f, -time.Second)
	const base = "/{version}/meta-data/iam/"
	for _, test := range []struct {
		method, path, token, refused string
		want                         frontend.Outcome
	}{
		{"GET", "/latest/meta-data/iam/security-credentials/web", token, "",
			frontend.Outcome{Status: 200, Decision: frontend.Served, Route: base + "security-credentials/{role}", Credential: "web"}},
		{"GET", "/latest/meta-data/iam/security-credentials/", token, "",
			frontend.Outcome{Status: 200, Decision: frontend.Listed, Route: base + "security-credentials/", Credential: "web"}},
		{"GET", "/latest/meta-data/iam/security-credentials/nobody", token, "",
			frontend.Outcome{Status: 404, Decision: frontend.NotFound, Route: base + "security-credentials/{role}", Credential: "nobody", Reason: "no such credential, or not for this caller"}},
		{"GET", "/latest/meta-data/iam/security-credentials/a%0Ab", token, "",
			frontend.Outcome{Status: 404, Decision: frontend.NotFound, Route: "other", Reason: "no such path"}},
		{"GET", "/1.0/meta-data/placement/region", token, "",
			frontend.Outcome{Status: 200, Decision: frontend.Listed, Route: "/{version}/meta-data/{path}"}},
		{"GET", "/latest/secret", "", "",
			frontend.Outcome{Status: 401, Decision: frontend.Unauthorized, Route: "other", Reason: "no session token, and IMDSv1 is off for this caller"}},
		{"GET", "/", expired, "",
			frontend.Outcome{Status: 401, Decision: frontend.Unauthorized, Route: "/", Reason: "the session token has expired"}},
		{"GET", "/", token[1:], "",
			frontend.Outcome{Status: 401, Decision: frontend.Unauthorized, Route: "/", Reason: "the session token is not one of ours"}},
		{"PUT", "/latest/api/token", "", "",
			frontend.Outcome{Status: 400, Decision: frontend.Invalid, Route: "/latest/api/token", Reason: "the session token's lifetime is missing or not within 1 to 21600 seconds"}},
		{"POST", "/latest/", token, "",
			frontend.Outcome{Status: 405, Decision: frontend.Invalid, Route: "/{version}/", Reason: "only GET and HEAD are allowed here"}},
		{"GET", "/latest/meta-data/iam/security-credentials/web", token, "a peer from elsewhere",
			frontend.Outcome{Status: 403, Decision: frontend.Refused, Route: base + "security-credentials/{role}", Reason: "a peer from elsewhere"}},
	} {
		r := httptest.NewRequest(test.method, test.path, nil)
		r.Header.Set(tokenHeader, test.token)
		test.want.Dialect = Name
		if got := f.Answer(httptest.NewRecorder(), frontend.Request{Request: r, View: webCaller(), Refused: test.refused}); got != test.want {
			t.Errorf("%s %s:\ngot  %+v\nwant %+v", test.method, test.path, got, test.want)
		}
	}
}

func TestRefusedRequestNeedsNoView(t *testing.T) {
	f := newFixture(t, nil)
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPost} {
		for _, path := range []string{"/", "/latest/api/token", "/latest/meta-data/iam/security-credentials/web"} {
			w := httptest.NewRecorder()
			f.Answer(w, frontend.Request{Request: httptest.NewRequest(method, path, nil), Refused: "a peer from elsewhere"})
			if w.Code != http.StatusForbidden || w.Body.String() != golden(t, "P403") {
				t.Errorf("%s %s: %d", method, path, w.Code)
			}
		}
	}
}
