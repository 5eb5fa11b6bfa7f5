package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// An asking is a client that asked again and again, each time on a new connection.
type asking struct {
	asked   int
	without int           // answers without keys
	cutOff  int           // got no answer at all
	last    error         // of either
	longest time.Duration // of one answer
}

// askDuring has a client ask for keys through the metadata address while something
// happens, and fails if more connections than these were refused or ended without an
// answer.
func (h *bootedHost) askDuring(what string, mayCutOff int, happens func()) {
	h.t.Helper()
	enough, done := make(chan struct{}), make(chan asking)
	go func() { done <- ask(h.Network().HTTP(), enough) }()
	happens()
	close(enough)
	a := <-done
	h.t.Logf("through %s: %d answers, %d without keys, the longest took %v; %d requests without an answer; last %v",
		what, a.asked, a.without, a.longest.Round(time.Millisecond), a.cutOff, a.last)
	if a.cutOff > mayCutOff || a.without > 0 || a.asked == 0 {
		h.t.Errorf("a client noticed %s", what)
	}
}

// ask goes on until there is enough. It keeps its token, as SDKs do.
func ask(client *http.Client, enough <-chan struct{}) (a asking) {
	client.Transport.(*http.Transport).DisableKeepAlives = true
	token, _, err := request(client, http.MethodPut, "/latest/api/token", ttlHeader, "21600")
	if err != nil {
		return asking{last: err}
	}
	for {
		select {
		case <-enough:
			return a
		default:
		}
		began := time.Now()
		body, status, err := request(client, http.MethodGet, securityCredentials+"test_role", tokenHeader, token)
		if err != nil {
			a.cutOff++
			a.last = err
			continue
		}
		a.asked++
		a.longest = max(a.longest, time.Since(began))
		if status != http.StatusOK || !strings.Contains(body, `"Code" : "Success"`) {
			a.without++
			a.last = fmt.Errorf("%d %s", status, body)
		}
	}
}

func request(client *http.Client, method, path, header, value string) (body string, status int, err error) {
	r, err := http.NewRequest(method, "http://169.254.169.254"+path, nil)
	if err != nil {
		return "", 0, err
	}
	r.Header.Set(header, value)
	response, err := client.Do(r)
	if err != nil {
		return "", 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), response.StatusCode, err
}

// answerNames is a name server for which every host is 127.0.0.1.
func answerNames(c net.PacketConn) {
	message := make([]byte, 512)
	for {
		n, client, err := c.ReadFrom(message)
		if err != nil {
			return
		}
		end := 12 // of the question: labels, a zero byte, type and class
		for end < n && message[end] != 0 {
			end += 1 + int(message[end])
		}
		if end += 5; end > n {
			continue
		}
		answer := append([]byte{}, message[:end]...)
		copy(answer[2:12], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0})
		if answer[end-3] == 1 { // type A
			answer[7] = 1
			answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1)
		}
		_, _ = c.WriteTo(answer, client)
	}
}
