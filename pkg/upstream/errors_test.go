package upstream

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestStatusDecidesClassAndCurve(t *testing.T) {
	for _, test := range []struct {
		status     int
		retryAfter string
		class      Class
		permanent  bool
		refused    bool
		definite   bool
		wait       time.Duration
		text       string
	}{
		{301, "", ClassRedirect, true, false, false, 0, "answered 301 Moved Permanently: redirects are not followed"},
		{304, "", ClassRedirect, true, false, false, 0, "answered 304 Not Modified"},
		{400, "", ClassRequest, true, false, true, 0, "answered 400 Bad Request"},
		{401, "", ClassRefused, true, true, true, 0, "answered 401 Unauthorized: the upstream does not let this host have it"},
		{403, "", ClassRefused, true, true, true, 0, "answered 403 Forbidden: the upstream does not let this host have it"},
		{404, "", ClassRequest, true, false, true, 0, "answered 404 Not Found"},
		{407, "", ClassProxy, true, false, false, 0, "answered 407 Proxy Authentication Required: the proxy wants proxy_user and proxy_password"},
		{408, "", ClassTimeout, false, false, false, 0, "answered 408 Request Timeout"},
		{429, "", ClassThrottled, false, false, true, 0, "answered 429 Too Many Requests"},
		{429, "30", ClassThrottled, false, false, true, 30 * time.Second, "it wants no request for 30s"},
		{500, "", ClassServer, false, false, false, 0, "answered 500 Internal Server Error"},
		{502, "5", ClassServer, false, false, false, 5 * time.Second, "answered 502 Bad Gateway"},
		{503, "", ClassServer, false, false, false, 0, "answered 503 Service Unavailable"},
		{503, "120", ClassThrottled, false, false, false, 2 * time.Minute, "it wants no request for 2m0s"},
		{599, "", ClassServer, false, false, false, 0, "answered 599"},
	} {
		t.Run(fmt.Sprintf("%d %s", test.status, test.retryAfter), func(t *testing.T) {
			a := &Answer{Status: test.status, Header: http.Header{"Retry-After": {test.retryAfter}}, tried: "GET http://a/"}
			fault, ok := errors.AsType[*Error](fmt.Errorf("role: %w", a.Check()))
			if !ok {
				t.Fatal("no *Error")
			}
			if fault.Class() != string(test.class) || fault.Status != test.status || fault.RetryAfter() != test.wait {
				t.Errorf("got class %s, status %d, wait %v", fault.Class(), fault.Status, fault.RetryAfter())
			}
			if fault.Permanent() != test.permanent || fault.Refused() != test.refused || fault.definite() != test.definite {
				t.Errorf("permanent %v, refused %v, definite %v", fault.Permanent(), fault.Refused(), fault.definite())
			}
			if !strings.Contains(fault.Error(), "GET http://a/: "+test.text) && !strings.Contains(fault.Error(), test.text) {
				t.Errorf("got %q, want ...%s...", fault, test.text)
			}
		})
	}
	for _, status := range []int{200, 204, 299} {
		if err := (&Answer{Status: status}).Check(); err != nil {
			t.Errorf("%d: %v", status, err)
		}
	}
}

func TestRetryAfterIsReadAndBounded(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for _, test := range []struct {
		name, value, date string
		want              time.Duration
	}{
		{"none", "", "", 0},
		{"seconds", "17", "", 17 * time.Second},
		{"zero", "0", "", 0},
		{"beyond the bound", "999999", "", time.Hour},
		{"beyond a duration", "18446744073709551615", "", time.Hour},
		{"beyond an integer", "99999999999999999999999", "", 0},
		{"negative", "-5", "", 0},
		{"fraction", "1.5", "", 0},
		{"words", "soon", "", 0},
		{"date", at(time.Minute), "", time.Minute},
		{"date on the upstream's clock", at(time.Minute), at(30 * time.Second), 30 * time.Second},
		{"past date", at(-time.Minute), "", 0},
		{"far date", at(1000 * time.Hour), "", time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			header := http.Header{"Retry-After": {test.value}, "Date": {test.date}}
			if got := retryAfter(header, now); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"", "0", "17", "-1", "1e9", "Sun, 01 Nov 2026 12:01:00 GMT", "Sun, 01 Nov 0000 12:01:00 GMT"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, value, date string) {
		header := http.Header{"Retry-After": {value}, "Date": {date}}
		if got := retryAfter(header, time.Now()); got < 0 || got > maxRetryAfter {
			t.Errorf("Retry-After %q with Date %q: %v is out of bounds", value, date, got)
		}
	})
}

func TestErrorTextIsOneBoundedLine(t *testing.T) {
	e := &Error{Tried: "GET http://a/", Err: errors.New("certificate for \x1b[31m\n" + strings.Repeat("ü", 1000))}
	got := e.Error()
	if len(got) > 600 || strings.ContainsAny(got, "\n\x1b") || !strings.HasSuffix(got, "ü...") {
		t.Errorf("got %d bytes: %q", len(got), got)
	}
}

func TestAServerThatSpeaksHTTPSIsTold(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	const hint = "answered 400 Bad Request: the server may speak HTTPS; use https://"
	_, fault := get(t, newClient(t, quick()), strings.Replace(server.URL, "https://", "http://", 1))
	if fault == nil || !strings.HasSuffix(fault.Error(), hint) {
		t.Errorf("got %v, want ...%s", fault, hint)
	}
	nginx := "<center>The plain HTTP request was sent to HTTPS port</center>" + confidential
	for tried, want := range map[string]bool{"GET http://a/": true, "GET https://a/": false} {
		a := &Answer{Status: 400, Body: []byte(nginx), tried: tried}
		if err := a.Check(); strings.HasSuffix(err.Error(), hint) != want || strings.Contains(err.Error(), confidential) {
			t.Errorf("%s: got %v", tried, err)
		}
	}
}
