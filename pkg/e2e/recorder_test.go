package e2e

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"
)

// A recorder stands between the agent and its upstream. It passes everything on, and
// remembers which keys were issued.
type recorder struct {
	URL string

	mu     sync.Mutex
	issued map[string]keys
	via    []string // the Via header of each request
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
	var assumed struct {
		Credentials struct {
			AccessKeyID     string `xml:"AccessKeyId"`
			SecretAccessKey string
			SessionToken    string
			Expiration      time.Time
		} `xml:"AssumeRoleResult>Credentials"`
	}
	if json.Unmarshal(body, &k) != nil && xml.Unmarshal(body, &assumed) == nil {
		c := assumed.Credentials
		k = keys{c.AccessKeyID, c.SecretAccessKey, c.SessionToken, c.Expiration}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.via = append(r.via, response.Request.Header.Get("Via"))
	if k.AccessKeyID != "" {
		r.issued[k.AccessKeyID] = k
	}
	return nil
}

// requests returns the Via header of each request so far: by which proxy it came.
func (r *recorder) requests() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.via)
}

// keys looks up what was issued.
func (r *recorder) keys(accessKeyID string) (keys, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, found := r.issued[accessKeyID]
	return k, found
}
