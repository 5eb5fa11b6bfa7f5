package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
)

// A recorder stands between the agent and its upstream. It passes everything on, and
// remembers which keys were issued.
type recorder struct {
	URL string

	mu     sync.Mutex
	issued map[string]keys
}

// newRecorder serves on the listener until the test ends.
func newRecorder(t *testing.T, l net.Listener, upstream string) *recorder {
	target, err := url.Parse(upstream)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{URL: "http://" + l.Addr().String(), issued: map[string]keys{}}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ModifyResponse = r.remember
	transport := &http.Transport{}
	proxy.Transport = transport
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) } // as the upstream did
	t.Cleanup(transport.CloseIdleConnections)
	serve(t, l, proxy)
	return r
}

func (r *recorder) remember(response *http.Response) error {
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	var k keys
	if json.Unmarshal(body, &k) == nil && k.AccessKeyID != "" {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.issued[k.AccessKeyID] = k
	}
	return nil
}

// keys looks up what was issued.
func (r *recorder) keys(accessKeyID string) (keys, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, found := r.issued[accessKeyID]
	return k, found
}
