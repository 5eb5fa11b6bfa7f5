package imds

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/frontend"
)

const (
	md = "GET /latest/meta-data"
	sc = md + "/iam/security-credentials"
)

func TestPathsAnswerAsTheRealServiceDoes(t *testing.T) {
	text := http.Header{"Content-Type": {"text/plain"}}
	allow := http.Header{"Allow": {"GET, HEAD"}, "Content-Length": {"0"}, "Content-Type": {"text/plain"}}
	bare := func(o *Options) { *o = Options{TokenKey: fixtureKey} }
	nobody := &caller{}
	ok := func(id, request, body string) vector {
		return vector{id: id, request: request, header: []string{tokenLine}, status: 200, body: body, wants: text}
	}
	same := func(id, request, golden string) vector {
		return vector{id: id, request: request, header: []string{tokenLine}, status: 200, golden: golden, wants: text}
	}
	missing := func(id, request string, options func(*Options), view *caller) vector {
		return vector{id: id, request: request, header: []string{tokenLine}, options: options, view: view, status: 404, golden: "P404",
			wants: http.Header{"Content-Type": {"text/html"}, lifeHeader: {"21600"}}}
	}
	run(t, []vector{
		same("P01", "GET /", "L-root"),
		same("P02", "GET /latest", "L-latest"),
		same("P02 slash", "GET /latest/", "L-latest"),
		ok("P02 without user data and region", "GET /latest/", "meta-data").with(bare),
		ok("P03", md, metadataListing),
		ok("P03 slash", md+"/", metadataListing),
		same("P05", md+"/iam", "L-iam"),
		same("P05 slash", md+"/iam/", "L-iam"),
		ok("P05 without account", md+"/iam/", "security-credentials/").with(bare),
		ok("P06", sc, "web"),
		ok("P06 slash", sc+"/", "web"),
		same("P07", sc+"/web", "G-creds"),
		same("P07 slash", sc+"/web/", "G-creds"),
		same("P09", "GET /latest//meta-data//iam/info", "G-info"),
		missing("P12", sc+"/WEB", nil, nil),
		missing("P13 dots", md+"/../user-data", nil, nil),
		missing("P13 dots at the end", md+"/iam/..", nil, nil),
		missing("P13 one dot", "GET /latest/./meta-data", nil, nil),
		missing("P13 escaped dots", md+"/%2e%2e/user-data", nil, nil),
		missing("P13 escaped dot in a name", sc+"/we%2Eb", nil, nil),
		missing("P13 escaped slash", "GET /latest%2fmeta-data/", nil, nil),
		missing("P13 escaped slash before a role", sc+"%2Fweb", nil, nil),
		missing("role on demand, unknown", sc+"/arn:aws:iam::123456789012:role%2Fapp", nil, nil),
		missing("role on demand, elsewhere", md+"/arn:aws:iam::123456789012:role%2Fapp", nil, nil),
		missing("P15", "GET /1999-01-01/meta-data/", nil, nil),
		missing("P15 version in capitals", "GET /LATEST/meta-data/", nil, nil),
		same("P16", "GET /2021-03-23/meta-data/iam/info", "G-info"),
		ok("P17", "GET /1.0/meta-data/", metadataListing),
		ok("P18", "GET /latest/dynamic/instance-identity", "document"),
		ok("P18 slash", "GET /latest/dynamic/instance-identity/", "document"),
		ok("P18 dynamic", "GET /latest/dynamic/", "instance-identity/"),
		same("P19", "GET /latest/dynamic/instance-identity/document", "G-doc"),
		same("P19 slash", "GET /latest/dynamic/instance-identity/document/", "G-doc"),
		missing("P19 without region", "GET /latest/dynamic/instance-identity/document", bare, nil),
		missing("P20", "GET /latest/dynamic/instance-identity/signature", nil, nil),
		missing("P20 below the document", "GET /latest/dynamic/instance-identity/document/x", nil, nil),
		ok("P21", md+"/placement/region", "eu-west-1"),
		ok("P22", md+"/placement/availability-zone", "eu-west-1a"),
		ok("P22 slash", md+"/placement/availability-zone/", "eu-west-1a"),
		missing("P22 below a leaf", md+"/placement/region/x", nil, nil),
		ok("P23", md+"/placement/", "availability-zone\nregion"),
		ok("P24", md+"/network/interfaces/macs/0e:49:61:0f:c3:11/owner-id", "111122223333"),
		missing("P24 not configured", md+"/network/interfaces/macs/0e:49:61:0f:c3:11/owner-id", bare, nil),
		ok("P25 domain", md+"/services/domain", "amazonaws.com"),
		ok("P25 partition", md+"/services/partition", "aws"),
		ok("P26 instance-id", md+"/instance-id", "i-0123456789abcdef0"),
		ok("P26 hostname", md+"/hostname", "web01.example.com"),
		ok("P26 local-ipv4", md+"/local-ipv4", "10.0.0.5"),
		ok("P26 mac", md+"/mac", "0e:49:61:0f:c3:11"),
		ok("P26 zero", md+"/ami-launch-index", "0"),
		missing("P26 not configured", md+"/instance-id", bare, nil),
		missing("P27", md+"/spot/instance-action", nil, nil),
		missing("P28 none", "GET /latest/user-data", bare, nil),
		{id: "P28", request: "GET /latest/user-data", header: []string{tokenLine}, status: 200, body: "#!/bin/sh\necho hello\n",
			wants: http.Header{"Content-Type": {"application/octet-stream"}}},
		missing("P28 below", "GET /latest/user-data/x", nil, nil),
		same("P29", md+"/iam/info?x=y", "G-info"),
		{id: "P30", request: "HEAD" + strings.TrimPrefix(sc, "GET") + "/web", header: []string{tokenLine}, status: 200,
			wants: http.Header{"Content-Length": {"268"}, "Content-Type": {"text/plain"}, "Last-Modified": {"Tue, 02 Jan 2024 03:04:05 GMT"}}},
		{id: "P31", request: "POST /latest/meta-data/iam/info", header: []string{tokenLine}, status: 405, wants: allow},
		{id: "P32 DELETE", request: "DELETE /latest/meta-data/", header: []string{tokenLine}, status: 405, wants: allow},
		{id: "P32 PATCH", request: "PATCH /latest/meta-data/", header: []string{tokenLine}, status: 405, wants: allow},
		{id: "P32 PUT", request: "PUT /latest/meta-data/", header: []string{tokenLine}, status: 405, wants: allow},
		{id: "P32 OPTIONS", request: "OPTIONS /latest/meta-data/", header: []string{tokenLine}, status: 405, wants: allow},
		{id: "P33 listing", request: md + "/", header: []string{tokenLine}, view: nobody, status: 200,
			body: strings.Replace(metadataListing, "iam/\n", "", 1)},
		missing("P33 roles", sc+"/", nil, nobody),
		missing("P33 role", sc+"/web", nil, nobody),
		missing("P33 iam", md+"/iam/", nil, nobody),
		missing("P33 info", md+"/iam/info", nil, nobody),
		missing("P35", md+"/account-id", nil, nil),
		missing("below info", md+"/iam/info/x", nil, nil),
		missing("below a role", sc+"/web/x", nil, nil),
		missing("other iam path", md+"/iam/x", nil, nil),
	})
}

func (v vector) with(options func(*Options)) vector {
	v.options = options
	return v
}

// get asks without a connection and as a caller of version 1.
func get(f *Frontend, target string, view *caller) *httptest.ResponseRecorder {
	view.v1 = true
	w := httptest.NewRecorder()
	f.Answer(w, frontend.Request{Request: httptest.NewRequest(http.MethodGet, target, nil), View: view})
	return w
}

// crawl follows every listing and returns all paths that were listed, without the
// slash at the end. It fails if one of them does not answer.
func crawl(t testing.TB, f *Frontend, view *caller) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	var visit func(path string, directory bool)
	visit = func(path string, directory bool) {
		found[strings.TrimSuffix(path, "/")] = true
		w := get(f, path, view)
		if w.Code != http.StatusOK {
			t.Errorf("%s is listed and answers %d", path, w.Code)
		}
		if !directory {
			return
		}
		for name := range strings.SplitSeq(w.Body.String(), "\n") {
			// The listings of the root and of a version have directories without a slash.
			below := strings.HasSuffix(name, "/") || path == "/" || name == "meta-data" || name == "dynamic"
			visit(path+strings.TrimSuffix(name, "/")+map[bool]string{true: "/"}[below], below)
		}
	}
	visit("/", true)
	return found
}

// realPaths are what the real service has below a version, besides our fixture's.
var realPaths = strings.Fields(`
	dynamic dynamic/fws dynamic/fws/instance-monitoring dynamic/instance-identity dynamic/instance-identity/document
	dynamic/instance-identity/pkcs7 dynamic/instance-identity/rsa2048 dynamic/instance-identity/signature
	meta-data meta-data/ami-id meta-data/ami-launch-index meta-data/ami-manifest-path meta-data/block-device-mapping
	meta-data/events meta-data/events/maintenance meta-data/events/recommendations/rebalance meta-data/hostname
	meta-data/iam meta-data/iam/info meta-data/iam/security-credentials meta-data/iam/security-credentials/web
	meta-data/identity-credentials meta-data/identity-credentials/ec2/info meta-data/instance-action
	meta-data/instance-id meta-data/instance-life-cycle meta-data/instance-type meta-data/local-hostname meta-data/local-ipv4
	meta-data/mac meta-data/metrics meta-data/metrics/vhostmd meta-data/network meta-data/network/interfaces
	meta-data/network/interfaces/macs meta-data/placement meta-data/placement/availability-zone
	meta-data/placement/availability-zone-id meta-data/placement/region meta-data/profile meta-data/product-codes
	meta-data/public-hostname meta-data/public-ipv4 meta-data/reservation-id meta-data/security-groups meta-data/services
	meta-data/services/domain meta-data/services/partition meta-data/spot/instance-action meta-data/system
	meta-data/tags/instance/Name meta-data/account-id user-data api api/token`)

func TestListingsTellTheTruth(t *testing.T) { // P04
	withAccount := webCaller()
	keys := webKeys()
	keys.AccountID = "111122223333"
	withAccount.stock["web"] = keys
	for name, test := range map[string]struct {
		options func(*Options)
		view    *caller
		least   int // paths that have to be listed
	}{
		"everything configured":             {nil, webCaller(), 29 * 20},
		"nothing configured":                {func(o *Options) { *o = Options{TokenKey: fixtureKey} }, webCaller(), 29 * 4},
		"account known from the credential": {func(o *Options) { *o = Options{TokenKey: fixtureKey} }, withAccount, 29 * 5},
		"no role":                           {nil, &caller{}, 29 * 15},
		"empty values": {func(o *Options) {
			o.Metadata = map[string]any{"placement": map[string]any{"group-name": ""}, "mac": nil, "tags": map[string]any{}}
		}, &caller{}, 29 * 2},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, test.options)
			listed := crawl(t, f, test.view)
			if len(listed) < test.least {
				t.Fatalf("only %d paths are listed: %v", len(listed), slices.Sorted(maps.Keys(listed)))
			}
			for _, version := range []string{"latest", "2021-03-23"} {
				for _, path := range realPaths {
					target := "/" + version + "/" + path
					for _, slash := range []string{"", "/"} {
						if got := get(f, target+slash, test.view).Code == http.StatusOK; got != listed[target] {
							t.Errorf("%s answers %v, listed %v", target+slash, got, listed[target])
						}
					}
				}
			}
		})
	}
}

func TestOwnsTheRootAndEveryVersion(t *testing.T) {
	f := newFixture(t, nil)
	for target, want := range map[string]bool{
		"/": true, "/latest": true, "//latest/meta-data/": true, "/1.0/": true, "/2024-04-11/x": true, "/latest/api/token": true,
		"/v1/credentials": false, "/v2/credentials/web": false, "/computeMetadata/v1/": false, "/metadata/instance": false, "/2.0": false,
	} {
		if got := f.Owns(httptest.NewRequest(http.MethodGet, target, nil)); got != want {
			t.Errorf("%s: %v, want %v", target, got, want)
		}
	}
}

// FuzzPath asks for any path by any method. Only what is listed, the caller's roles
// and the extended form may answer, and nothing may redirect.
func FuzzPath(f *testing.F) {
	for _, seed := range append(realPaths, "", "meta-data/iam/security-credentials/other", "meta-data/iam/security-credentials-extended/",
		"..", "meta-data/../user-data", "meta-data/%2e%2e/user-data", "%2fmeta-data", "meta-data/iam/security-credentials/%77eb", "//", "?x", "meta-data/iam/security-credentials/\xff") {
		f.Add(http.MethodGet, "/latest/"+seed)
	}
	f.Add(http.MethodPut, "/latest/api/token")
	f.Add(http.MethodOptions, "*")
	front := newFixture(f, nil)
	listed := crawl(f, front, webCaller())
	listed["/latest/meta-data/iam/security-credentials/other"] = true
	token := newToken(front, time.Hour*24*365)
	f.Fuzz(func(t *testing.T, method, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return // net/http answers 400 itself
		}
		w := httptest.NewRecorder()
		r := &http.Request{Method: method, URL: u, Header: http.Header{tokenHeader: {token}}}
		outcome := front.Answer(w, frontend.Request{Request: r, View: webCaller()})
		if w.Code != outcome.Status || w.Header().Get("Location") != "" || outcome.Route == "" || outcome.Decision == "" {
			t.Errorf("%s %s: %d, %v, %+v", method, target, w.Code, w.Header(), outcome)
		}
		if !slices.Contains([]int{200, 400, 401, 403, 404, 405}, w.Code) {
			t.Errorf("%s %s: status %d", method, target, w.Code)
		}
		segments := slices.DeleteFunc(strings.Split(u.Path, "/"), func(s string) bool { return s == "" })
		path := strings.TrimSuffix("/"+strings.Join(segments, "/"), "/")
		if len(segments) > 0 && segments[0] != "latest" && isVersion(segments[0]) {
			segments[0] = "latest"
			path = "/" + strings.Join(segments, "/")
		}
		if w.Code == http.StatusOK && method != http.MethodOptions && !listed[path] {
			t.Errorf("%s %q answers 200 and is nowhere listed", method, path)
		}
	})
}
