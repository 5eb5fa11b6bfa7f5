package server

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What net/http must refuse or bear, through the real server.
func TestHostileRequests(t *testing.T) {
	f := start(t, Options{})
	good := f.dial(8)
	good.get()
	for _, test := range []struct {
		name    string
		request string
		want    int // 0: closed without an answer
	}{
		{"A07 newline in a header", "GET / HTTP/1.1\r\nHost: x\r\nX-aws-ec2-metadata-token: <html>\n<body>\r\n\r\n", 400},
		{"P34 request line of 16 KiB", "GET /" + strings.Repeat("a", 16<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", 431},
		{"header of 1 MiB", "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 1<<20) + "\r\n\r\n", 431},
		{"a million headers", "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("a: b\r\n", 1<<20), 431},
		{"a method of garbage", "\x00\x01\x02 / HTTP/1.1\r\nHost: x\r\n\r\n", 400},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400},
		{"HTTP/2, which is a request PRI to us", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 200},
		{"HTTP/3", "GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505},
		{"no version", "GET /\r\n\r\n", 400},
		{"HTTP/1.1 without Host", "GET / HTTP/1.1\r\n\r\n", 400},
		{"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
		{"two lengths", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400},
		{"a negative length", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400},
		{"an unknown transfer coding", "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
		{"an unknown expectation", "GET / HTTP/1.1\r\nHost: x\r\nExpect: the worst\r\n\r\n", 417},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := f.dial(7)
			go c.send(test.request)
			if status, _, _ := c.receive(); status != test.want {
				t.Errorf("status %d, want %d", status, test.want)
			}
			_, _ = io.Copy(io.Discard, c.r)
			good.get()
		})
	}
}

// Vector A18, for old clients.
func TestHTTP10WithoutHostIsServed(t *testing.T) {
	c := start(t, Options{}).dial(7)
	if status, _, body := c.send("GET / HTTP/1.0\r\n\r\n").receive(); status != 200 || body != "web" {
		t.Errorf("got %d %q, want 200", status, body)
	}
	c.wantClosed()
}

// Vector A19.
func TestConnectionServesManyRequests(t *testing.T) {
	c := start(t, Options{}).dial(7)
	for range 3 {
		c.get()
	}
}

// Vector A20.
func TestConnectionCloseIsHonoured(t *testing.T) {
	c := start(t, Options{}).dial(7)
	status, header, _ := c.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").receive()
	if status != 200 || header.Get("Connection") != "close" {
		t.Errorf("got %d with %v, want 200 and Connection: close", status, header)
	}
	c.wantClosed()
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	const many = 1000
	f := start(t, Options{Handler: func(w http.ResponseWriter, r *http.Request, _ Peer) Access {
		_, _ = io.WriteString(w, r.URL.Path)
		return Access{Status: http.StatusOK}
	}})
	c := f.dial(7)
	want := make([]string, many)
	var all strings.Builder
	for i := range want {
		want[i] = "/" + strings.Repeat("a", i%50)
		all.WriteString("GET " + want[i] + " HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	go c.send(all.String())
	for i := range want {
		if status, _, body := c.receive(); status != 200 || body != want[i] {
			t.Fatalf("answer %d: %d %q, want %q", i, status, body, want[i])
		}
	}
}

func TestClientThatPipelinesWithoutReadingIsCutOff(t *testing.T) {
	f := start(t, Options{AnswerTimeout: 50 * time.Millisecond, Handler: func(w http.ResponseWriter, r *http.Request, _ Peer) Access {
		_, _ = w.Write(make([]byte, 3000))
		return Access{Status: http.StatusOK}
	}})
	c := f.dial(7)
	_ = c.SetWriteDeadline(time.Now().Add(10 * time.Second))
	for {
		if _, err := io.WriteString(c, strings.Repeat(get, 1000)); err != nil {
			c.noTimeout(err)
			return
		}
	}
}

// Vector T24: a body is never waited for and never kept.
func TestBodiesAreNotWanted(t *testing.T) {
	for _, test := range []struct {
		name, framing, body string
	}{
		{"1 KiB", "Content-Length: 1024", strings.Repeat("b", 1024)},
		{"1 MiB", "Content-Length: 1048576", strings.Repeat("b", 1<<20)},
		{"announced and not sent", "Content-Length: 1048576", ""},
		{"chunked", "Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"},
		{"chunked without end", "Transfer-Encoding: chunked", strings.Repeat("5\r\nhello\r\n", 1<<17)},
		{"to be continued", "Content-Length: 10\r\nExpect: 100-continue", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := start(t, Options{AnswerTimeout: 50 * time.Millisecond})
			c := f.dial(7)
			go c.send("PUT /latest/api/token HTTP/1.1\r\nHost: x\r\n" + test.framing + "\r\n\r\n" + test.body)
			if status, header, body := c.receive(); status != 200 || body != "web" || header.Get("Connection") != "close" {
				t.Errorf("got %d %q %v, want 200 and Connection: close", status, body, header)
			}
			c.wantClosed()
		})
	}
}

func TestOptionsReachTheHandler(t *testing.T) {
	c := start(t, Options{}).dial(7)
	if status, _, body := c.send("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n").receive(); status != 200 || body != "web" {
		t.Errorf("got %d %q, want the handler's answer", status, body)
	}
}
