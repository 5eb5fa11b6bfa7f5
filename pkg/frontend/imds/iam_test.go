package imds

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/frontend"
)

const (
	rolePath     = "/latest/meta-data/iam/security-credentials/"
	extendedPath = "/latest/meta-data/iam/security-credentials-extended/"
	infoPath     = "/latest/meta-data/iam/info"
)

// having returns a caller of one role "web" with changed keys.
func having(change func(*credential.AWS)) *caller {
	keys := webKeys()
	change(keys)
	return &caller{names: []string{"web"}, stock: map[string]credential.Credential{"web": keys}}
}

// lacking returns a caller of one role "web" which cannot be had.
func lacking(err error) *caller {
	return &caller{names: []string{"web"}, errors: map[string]error{"web": err}}
}

func account(keys *credential.AWS) { keys.AccountID = "111122223333" }

func TestRoleDocument(t *testing.T) {
	other := strings.Replace(golden(t, "G-creds"), "EXAMPLE01", "EXAMPLE02", 1)
	missing := http.Header{"Content-Type": {"text/html"}, lifeHeader: {"21600"}}
	run(t, []vector{
		{id: "I02", request: "GET " + rolePath + "web", header: []string{tokenLine}, status: 200, golden: "G-creds", wants: http.Header{
			"Content-Type": {"text/plain"}, "Accept-Ranges": {"none"}, "Last-Modified": {"Tue, 02 Jan 2024 03:04:05 GMT"},
			"Content-Length": {"268"}, lifeHeader: {"21600"}}},
		{id: "I02 version 1", v1: true, request: "GET " + rolePath + "web", status: 200, golden: "G-creds", wants: http.Header{lifeHeader: nil}},
		{id: "a role that is not the first", request: "GET " + rolePath + "other", header: []string{tokenLine}, status: 200, body: other},
		{id: "an escaped name", request: "GET " + rolePath + "%77eb", header: []string{tokenLine}, status: 200, golden: "G-creds"},
		{id: "I09 list", request: "GET " + extendedPath, header: []string{tokenLine}, status: 404, golden: "P404", wants: missing},
		{id: "I09", request: "GET " + extendedPath + "web", header: []string{tokenLine}, status: 404, golden: "P404", wants: missing},
		{id: "I10 list", request: "GET " + extendedPath, header: []string{tokenLine}, view: having(account), status: 200, body: "web"},
		{id: "I10", request: "GET " + extendedPath + "web", header: []string{tokenLine}, view: having(account), status: 200, golden: "G-ext"},
		{id: "I10 account from the role", request: "GET " + extendedPath + "web", header: []string{tokenLine}, status: 200, golden: "G-ext",
			view: having(func(k *credential.AWS) { k.RoleARN = "arn:aws:iam::111122223333:role/web" })},
		{id: "I10 no caller", request: "GET " + extendedPath, header: []string{tokenLine}, view: &caller{}, status: 404, golden: "P404"},
		{id: "I10 unavailable", request: "GET " + extendedPath + "web", header: []string{tokenLine}, view: lacking(credential.ErrExpired), status: 404, golden: "P404"},
		{id: "I10 list unavailable", request: "GET " + extendedPath, header: []string{tokenLine}, view: lacking(credential.ErrExpired), status: 404, golden: "P404"},
		{id: "legacy form of the same", request: "GET " + rolePath + "web", header: []string{tokenLine}, view: having(account), status: 200, golden: "G-creds"},
	})
}

func TestRoleDocumentHasTheFormThatScriptsRead(t *testing.T) { // I03, I04
	document := get(newFixture(t, nil), rolePath+"web", webCaller()).Body.String()
	lines := strings.Split(document, "\n")
	if lines[0] != "{" || lines[len(lines)-1] != "}" || len(lines) != 9 {
		t.Errorf("lines %q", lines)
	}
	for i, line := range lines[1:8] {
		if !strings.HasPrefix(line, `  "`) || strings.Count(line, `" : "`) != 1 || strings.HasSuffix(line, ",") != (i < 6) {
			t.Errorf("line %q", line)
		}
	}
	for key, want := range map[string]string{
		"AccessKeyId":     "ASIAEXAMPLEEXAMPLE01",
		"SecretAccessKey": "secretEXAMPLE/with+slash=and0123456789ab",
		"Token":           "tokenEXAMPLE==",
	} {
		// As the sed of the EC2 Instance Connect script, with its greed.
		got := regexp.MustCompile(`(?m)^.*"` + key + `" : "(.*)",`).FindStringSubmatch(document)
		if got == nil || got[1] != want {
			t.Errorf("%s: got %q", key, got)
		}
	}
}

func TestSecretsStandInTheDocumentAsTheyAre(t *testing.T) { // I05
	secret := strings.Repeat("/+=", 13) + `<>&'`
	token := strings.Repeat("IQoJb3JpZ2luX2Vj/+", 83) + "tail=="
	view := having(func(k *credential.AWS) {
		k.SecretAccessKey, k.SessionToken = credential.NewSecret(secret), credential.NewSecret(token)
	})
	view.v1 = true
	got := exchangeOn(t, connect(t, serve(t, newFixture(t, nil), view)), "GET "+rolePath+"web HTTP/1.1\r\nHost: localhost\r\n\r\n")
	checkForm(t, got)
	if !strings.Contains(got.body, `"SecretAccessKey" : "`+secret+`",`) || !strings.Contains(got.body, `"Token" : "`+token+`",`) {
		t.Errorf("got %s", got.body)
	}
}

func TestTimesInDocumentsAreThoseOfTheUpstream(t *testing.T) { // I06, I14
	zone := time.FixedZone("east", 2*3600)
	view := having(func(k *credential.AWS) {
		k.Issued, k.Expires = clock.Add(123*time.Millisecond).In(zone), clock.Add(6*time.Hour+987*time.Millisecond).In(zone)
	})
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		for range 2 {
			w := get(f, rolePath+"web", view)
			if w.Body.String() != golden(t, "G-creds") || w.Header().Get("Last-Modified") != "Tue, 02 Jan 2024 03:04:05 GMT" {
				t.Errorf("at %v: %v %s", time.Now(), w.Header(), w.Body)
			}
			time.Sleep(11 * time.Minute)
		}
	})
}

func TestKeysThatCannotBeHadAreAFailureDocument(t *testing.T) { // I07, I08
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		time.Sleep(time.Until(clock))
		for _, test := range []struct {
			id     string
			err    error
			golden string
			reason string
		}{
			{"I07", fmt.Errorf("role %q: %w", "web", credential.ErrRefused), "G-unauth", "the upstream refuses it"},
			{"I08 never fetched", credential.ErrUnavailable, "G-failed", "never fetched"},
			{"I08 expired", credential.ErrExpired, "G-failed", "the credential has expired"},
			{"no answer in time", context.DeadlineExceeded, "G-failed", "could not be had in time"},
		} {
			view := lacking(test.err)
			view.v1 = true
			w := httptest.NewRecorder()
			out := f.Answer(w, frontend.Request{Request: httptest.NewRequest(http.MethodGet, rolePath+"web", nil), View: view})
			if w.Code != http.StatusOK || w.Body.String() != golden(t, test.golden) || out.Reason != test.reason || out.Decision != frontend.Unavailable {
				t.Errorf("%s: %d %s, %+v", test.id, w.Code, w.Body, out)
			}
			if list := get(f, rolePath, view); list.Body.String() != "web" {
				t.Errorf("%s: the list is %d %q", test.id, list.Code, list.Body)
			}
		}
	})
}

func TestNamesAreEscapedInFailures(t *testing.T) {
	const name = `we"b`
	view := &caller{names: []string{name}, errors: map[string]error{name: credential.ErrRefused}}
	if got := get(newFixture(t, nil), rolePath+"we%22b", view).Body.String(); !strings.Contains(got, `"EC2 cannot assume the role we\"b."`) {
		t.Errorf("got %s", got)
	}
}

type otherCloud struct{}

func (otherCloud) Lifetime() (issued, expires time.Time) { return clock, clock.Add(time.Hour) }

func TestAnotherCloudsTokenIsNoRole(t *testing.T) {
	view := &caller{names: []string{"web"}, stock: map[string]credential.Credential{"web": otherCloud{}}}
	if got := get(newFixture(t, nil), rolePath+"web", view).Code; got != http.StatusNotFound {
		t.Errorf("status %d", got)
	}
}

// The answer must belong to one refresh, also while the store changes.
func TestDocumentBelongsToOneRefresh(t *testing.T) { // I12
	f := newFixture(t, nil)
	old, next := webKeys(), webKeys()
	next.AccessKeyID, next.SessionToken, next.Expires = "ASIANEXT", credential.NewSecret("nexttoken"), clock.Add(12*time.Hour)
	render := func(keys *credential.AWS) string { return string(document(nil).credentials(keys, "")) }
	valid := map[string]bool{render(old): true, render(next): true}
	var readers sync.WaitGroup
	for i := range 4 {
		readers.Go(func() {
			for j := range 500 {
				view := having(func(*credential.AWS) {})
				view.stock["web"] = []credential.Credential{old, next}[(i+j)%2]
				if got := get(f, rolePath+"web", view).Body.String(); !valid[got] {
					t.Errorf("a mixed document: %s", got)
					return
				}
			}
		})
	}
	readers.Wait()
}

func TestInstanceProfileHasTheAccountOfTheCredentials(t *testing.T) {
	const configured = "arn:aws:iam::111122223333:instance-profile/web"
	derived := func(partition, account string) string {
		return "arn:" + partition + ":iam::" + account + ":instance-profile/web"
	}
	for _, test := range []struct {
		name    string
		profile InstanceProfile
		region  string
		view    *caller
		want    string // the ARN; empty: 404
	}{
		{"I01 configured", InstanceProfile{ARN: configured}, "", having(func(*credential.AWS) {}), configured},
		{"configured, nothing in stock", InstanceProfile{ARN: configured}, "", lacking(credential.ErrExpired), configured},
		{"configured, same account", InstanceProfile{ARN: configured}, "", having(account), configured},
		{"configured, keys of another account", InstanceProfile{ARN: configured}, "",
			having(func(k *credential.AWS) { k.AccountID = "444455556666" }), derived("aws", "444455556666")},
		{"configured, no role", InstanceProfile{ARN: configured}, "", &caller{}, ""},
		{"account of the keys", InstanceProfile{}, "", having(account), derived("aws", "111122223333")},
		{"account in China", InstanceProfile{}, "cn-north-1", having(account), derived("aws-cn", "111122223333")},
		{"account in GovCloud", InstanceProfile{}, "us-gov-west-1", having(account), derived("aws-us-gov", "111122223333")},
		{"role with a path and a partition", InstanceProfile{}, "eu-west-1",
			having(func(k *credential.AWS) { k.RoleARN = "arn:aws-cn:iam::444455556666:role/path/web" }), derived("aws-cn", "444455556666")},
		{"nothing known", InstanceProfile{}, "", having(func(*credential.AWS) {}), ""},
		{"nothing in stock", InstanceProfile{}, "", lacking(credential.ErrUnavailable), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, func(o *Options) {
				o.InstanceProfile = test.profile
				o.Metadata = map[string]any{"placement": map[string]any{"region": test.region}}
			})
			w := get(f, infoPath, test.view)
			if test.want == "" {
				if w.Code != http.StatusNotFound {
					t.Errorf("%d %s", w.Code, w.Body)
				}
				return
			}
			id := regexp.MustCompile(`"InstanceProfileId" : "AIPA[A-Z2-7]{17}"`)
			if !strings.Contains(w.Body.String(), `"InstanceProfileArn" : "`+test.want+`",`) || !id.MatchString(w.Body.String()) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if again := get(f, infoPath, test.view).Body.String(); again != w.Body.String() {
				t.Errorf("first %s, then %s", w.Body, again)
			}
		})
	}
}

func TestInstanceProfileIsChecked(t *testing.T) {
	for _, profile := range []InstanceProfile{
		{ID: "AIPAEXAMPLEEXAMPLE001"},
		{ARN: "web"},
		{ARN: "arn:aws:iam::111122223333:role/web"},
		{ARN: "arn:aws:iam::1111:instance-profile/web"},
		{ARN: "arn:aws:ec2::111122223333:instance-profile/web"},
	} {
		if _, err := New(Options{TokenKey: fixtureKey, InstanceProfile: profile}); err == nil {
			t.Errorf("%+v was taken", profile)
		}
	}
}
