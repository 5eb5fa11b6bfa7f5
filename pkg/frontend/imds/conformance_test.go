package imds

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/frontend"
)

// The conformance tests are named by the vectors of the protocol reference: T for
// the token path, A for access, P for paths and I for the IAM documents. All of them
// share one fixture: a role "web" of account 111122223333 at this moment.
var clock = time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)

// goldens are the answers in testdata with their SHA-256 sums, so that no careless
// update can change what the real service sends.
var goldens = map[string]string{
	"G-creds":  "3e99b33f7edc0d11cc5092e86bfa58d87d01b9b7c21b9392595f7f0c444393c1",
	"G-ext":    "7e77e4caff7a1abf92a81e462e14ec8b9875f62f91294abc2f607adc8dc457c7",
	"G-info":   "54e730adcbf1050087e4d72c59b5da67f0a642b24ab9e85ce3c36ce36e44d745",
	"G-failed": "e62f9c2da0e999336ee6623e9efc43fda46bb92bcd703c4026596591244365d2",
	"G-unauth": "bff0265014847f767ae6ac5f578a1d78fc08369fbcf11a093734e42a95ccdeec",
	"G-doc":    "56db87b54dfd8aa35e85da00d7061fa86cfa9138fe48ba506350beef69537fec",
	"P400":     "37bf42370eadff8ac8244bb535be027992a98349c5f67f317dd2949a30f08f0c",
	"P403":     "7921eff1fa9c3662d3815c211ab9c09c961e5a1d0689c96ce3302765dbb0dda7",
	"P404":     "3f92bfc0961a4bf4e83938c708afb562018c698f4a2775acc4d59879c33aa39c",
	"L-root":   "0653fbf2d20c9c71271dc3db957801203ebf4c0420dcd34550834eb7bafaca1c",
	"L-latest": "0b9d2f69c2968066f1becab343d0a7751a63bdef412eb479d5b75b770f9c6c84",
	"L-iam":    "19886080d20de7677379298a51b886f4bcd11a9bff89659bf31e7e8baf953303",
}

func golden(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestGoldenFilesAreThoseOfTheReference(t *testing.T) {
	for name, want := range goldens {
		sum := sha256.Sum256([]byte(golden(t, name)))
		if got := hex.EncodeToString(sum[:]); got != want {
			t.Errorf("testdata/%s has SHA-256 %s, want %s", name, got, want)
		}
	}
}

func webKeys() *credential.AWS {
	return &credential.AWS{
		AccessKeyID:     "ASIAEXAMPLEEXAMPLE01",
		SecretAccessKey: credential.NewSecret("secretEXAMPLE/with+slash=and0123456789ab"),
		SessionToken:    credential.NewSecret("tokenEXAMPLE=="),
		Issued:          clock,
		Expires:         clock.Add(6 * time.Hour),
	}
}

// A caller is a View with state: what is in stock, and what is wrong with the rest.
type caller struct {
	names  []string
	v1     bool
	stock  map[string]credential.Credential
	errors map[string]error
}

func (c *caller) Names() []string { return c.names }
func (c *caller) IMDSv1() bool    { return c.v1 }
func (c *caller) Pending() bool   { return false }
func (c *caller) Get(_ context.Context, key credential.Key) (credential.Credential, error) {
	if err := c.errors[key.Name]; err != nil {
		return nil, err
	}
	if found := c.stock[key.Name]; found != nil && key.Variant == "" {
		return found, nil
	}
	return nil, credential.ErrNotFound
}

// webCaller has the fixture's role and a second one.
func webCaller() *caller {
	other := webKeys()
	other.AccessKeyID = "ASIAEXAMPLEEXAMPLE02"
	return &caller{names: []string{"web", "other"}, stock: map[string]credential.Credential{"web": webKeys(), "other": other}}
}

var fixtureKey = bytes.Repeat([]byte{7}, TokenKeyBytes)

func fixtureOptions() Options {
	return Options{
		TokenKey: fixtureKey,
		Metadata: map[string]any{
			"ami-id": "ami-0123456789abcdef0", "instance-id": "i-0123456789abcdef0", "instance-type": "m5.large",
			"hostname": "web01.example.com", "local-ipv4": "10.0.0.5", "mac": "0e:49:61:0f:c3:11", "ami-launch-index": 0,
			"placement": map[string]any{"region": "eu-west-1", "availability-zone": "eu-west-1a"},
			"services":  map[string]any{"domain": "amazonaws.com", "partition": "aws"},
			"network": map[string]any{"interfaces": map[string]any{"macs": map[string]any{
				"0e:49:61:0f:c3:11": map[string]any{"owner-id": "111122223333"},
			}}},
			"dynamic": map[string]any{"instance-identity": map[string]any{"document": map[string]any{
				"architecture": "x86_64", "pendingTime": "2024-01-02T03:04:05Z",
			}}},
		},
		InstanceProfile: InstanceProfile{ARN: "arn:aws:iam::111122223333:instance-profile/web", ID: "AIPAEXAMPLEEXAMPLE001"},
		UserData:        "#!/bin/sh\necho hello\n",
	}
}

func newFixture(t testing.TB, change func(*Options)) *Frontend {
	t.Helper()
	options := fixtureOptions()
	if change != nil {
		change(&options)
	}
	f, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func newToken(f *Frontend, life time.Duration) string {
	return string(f.tokens.appendNew(nil, time.Now().Add(life)))
}

// serve runs the dialect behind a real HTTP server, with the guard of a listener on
// port 25772.
func serve(t *testing.T, f *Frontend, view frontend.View) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	guard := frontend.NewGuard(netip.MustParseAddrPort("127.0.0.1:25772"), Hosts()...)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.Answer(w, frontend.Request{Request: r, View: view, Refused: guard.Check(r)})
	})}
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		_ = server.Close()
		running.Wait()
	})
	return listener.Addr().String()
}

// An answer is what came back on the wire.
type answer struct {
	*http.Response
	body string
}

// exchangeOn sends a request and reads the answer with a single read, since an
// answer in two segments costs some clients 40 ms.
func exchangeOn(t *testing.T, c net.Conn, request string) answer {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 64<<10)
	n, err := c.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(buffer[:n])), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%q: %v", buffer[:n], err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("the answer did not come in one piece: %v", err)
	}
	return answer{response, string(body)}
}

func connect(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// checkForm asserts what holds for every answer of the dialect.
func checkForm(t *testing.T, a answer) {
	t.Helper()
	if a.Header.Get("Server") != "EC2ws" || a.Header.Get("Date") == "" || a.Header.Get("Location") != "" {
		t.Errorf("header %v", a.Header)
	}
	if a.StatusCode/100 == 3 {
		t.Errorf("a redirect: %s", a.Status)
	}
	if a.TransferEncoding != nil || len(a.Header["Content-Length"]) != 1 {
		t.Errorf("transfer coding %v, length %v", a.TransferEncoding, a.Header["Content-Length"])
	}
	if a.Request.Method != http.MethodHead && a.Header.Get("Content-Length") != fmt.Sprint(len(a.body)) {
		t.Errorf("length %s for %d bytes", a.Header.Get("Content-Length"), len(a.body))
	}
	content := a.StatusCode == http.StatusOK && a.Header.Get("Allow") == "" && a.Request.Method != http.MethodPut
	if got := a.Header.Get("Last-Modified") != "" && a.Header.Get("Accept-Ranges") == "none"; got != content {
		t.Errorf("status %d: Last-Modified %q, Accept-Ranges %q", a.StatusCode, a.Header.Get("Last-Modified"), a.Header.Get("Accept-Ranges"))
	}
}

// A vector is one request and what has to come back.
type vector struct {
	id      string
	request string   // method and path
	header  []string // lines; TOK is replaced by a good token
	host    string   // 169.254.169.254 if empty
	options func(*Options)
	view    *caller // the fixture's if nil
	v1      bool
	status  int
	golden  string // a file of testdata, or
	body    string
	wants   http.Header // nil values: must be absent
}

const tokenLine = "X-aws-ec2-metadata-token: TOK"

// run sends the vectors, each on a connection of its own.
func run(t *testing.T, vectors []vector) {
	for _, v := range vectors {
		t.Run(v.id, func(t *testing.T) {
			f := newFixture(t, v.options)
			view := v.view
			if view == nil {
				view = webCaller()
			}
			view.v1 = view.v1 || v.v1
			lines := []string{v.request + " HTTP/1.1", "Host: " + cmp.Or(v.host, "169.254.169.254")}
			for _, line := range v.header {
				lines = append(lines, strings.Replace(line, "TOK", newToken(f, 6*time.Hour), 1))
			}
			got := exchangeOn(t, connect(t, serve(t, f, view)), strings.Join(lines, "\r\n")+"\r\n\r\n")
			checkForm(t, got)
			want := v.body
			if v.golden != "" {
				want = golden(t, v.golden)
			}
			if got.StatusCode != v.status || got.body != want {
				t.Errorf("%s: %s %q, want %d %q", v.request, got.Status, got.body, v.status, want)
			}
			for _, name := range slices.Sorted(maps.Keys(v.wants)) {
				if !slices.Equal(got.Header[name], v.wants[name]) {
					t.Errorf("%s: %s is %q, want %q", v.request, name, got.Header[name], v.wants[name])
				}
			}
		})
	}
}
