package imds

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
)

func identityWith(fields map[string]any) map[string]any {
	return map[string]any{"instance-identity": map[string]any{"document": fields}}
}

func TestMetadataValuesAreServedAsText(t *testing.T) {
	f := newFixture(t, func(o *Options) {
		o.Metadata = map[string]any{
			"text": "a b\n<c>", "number": 7, "long": int64(1 << 40), "yes": true,
			"list": []any{"a", 2}, "strings": []string{"x", "y"},
			"deep": map[string]any{"er": map[string]any{"leaf": "value"}},
		}
	})
	for path, want := range map[string]string{
		"text": "a b\n<c>", "number": "7", "long": "1099511627776", "yes": "true", "list": "a\n2", "strings": "x\ny",
		"deep": "er/", "deep/er": "leaf", "deep/er/leaf": "value",
	} {
		if got := get(f, "/latest/meta-data/"+path, webCaller()).Body.String(); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}

func TestMetadataIsChecked(t *testing.T) {
	for _, test := range []struct {
		tree  map[string]any
		wants []string
	}{
		{map[string]any{"iam": map[string]any{"info": "x"}}, []string{"metadata.iam", "instance profile"}},
		{map[string]any{"a/b": "x"}, []string{"metadata.a/b", "slash"}},
		{map[string]any{"..": "x"}, []string{"segment"}},
		{map[string]any{"": "x"}, []string{"empty"}},
		{map[string]any{"network": map[string]any{"owner-id": 1.2345678912e10}}, []string{"metadata.network.owner-id", "float64", "quotes"}},
		{map[string]any{"launched": clock}, []string{"metadata.launched", "time.Time", "quotes"}},
		{map[string]any{"list": []any{map[string]any{}}}, []string{"metadata.list"}},
		{map[string]any{"dynamic": "x"}, []string{"metadata.dynamic:", "only instance-identity"}},
		{map[string]any{"dynamic": map[string]any{"fws": "x"}}, []string{"only instance-identity"}},
		{map[string]any{"dynamic": map[string]any{"instance-identity": map[string]any{"signature": "x"}}}, []string{"metadata.dynamic.instance-identity:", "only document"}},
		{map[string]any{"dynamic": map[string]any{"instance-identity": map[string]any{"document": "x"}}}, []string{"metadata.dynamic.instance-identity.document:", "map"}},
		{map[string]any{"dynamic": identityWith(map[string]any{"colour": "x"})}, []string{"document.colour", "no such field"}},
		{map[string]any{"dynamic": identityWith(map[string]any{"region": "x"})}, []string{"document.region", "metadata.placement.region"}},
		{map[string]any{"dynamic": identityWith(map[string]any{"version": "x"})}, []string{"no such field"}},
		{map[string]any{"dynamic": identityWith(map[string]any{"accountId": 1234})}, []string{"document.accountId", "twelve digits"}},
		{map[string]any{"dynamic": identityWith(map[string]any{"pendingTime": "yesterday"})}, []string{"document.pendingTime", "yesterday"}},
		{map[string]any{"dynamic": identityWith(map[string]any{"pendingTime": clock})}, []string{"document.pendingTime", "quotes"}},
		{map[string]any{"dynamic": identityWith(map[string]any{"architecture": "arm64"})}, []string{"without metadata.placement.region"}},
		{map[string]any{
			"placement": map[string]any{"region": map[string]any{"name": "eu-west-1"}},
			"dynamic":   identityWith(map[string]any{"architecture": "arm64"}),
		}, []string{"without metadata.placement.region"}},
	} {
		_, err := New(Options{TokenKey: fixtureKey, Metadata: test.tree})
		if err == nil {
			t.Errorf("%v was taken", test.tree)
			continue
		}
		for _, want := range test.wants {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v: %q does not say %q", test.tree, err, want)
			}
		}
	}
}

func TestOptionsAreNotChanged(t *testing.T) {
	options := fixtureOptions()
	if _, err := New(options); err != nil {
		t.Fatal(err)
	}
	if options.Metadata["dynamic"] == nil || len(options.Metadata) != len(fixtureOptions().Metadata) {
		t.Errorf("the options became %v", options.Metadata)
	}
}

// readIdentity returns the document as a reader of JSON sees it.
func readIdentity(t *testing.T, f *Frontend, view *caller) map[string]any {
	t.Helper()
	var got map[string]any
	if err := json.Unmarshal(get(f, "/latest/dynamic/instance-identity/document", view).Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestIdentityDocumentRepeatsTheMetadata(t *testing.T) {
	f := newFixture(t, func(o *Options) {
		o.InstanceProfile = InstanceProfile{}
		o.Metadata = map[string]any{
			"placement": map[string]any{"region": "eu-west-1"}, "product-codes": []any{"one", "two"},
			"dynamic": identityWith(map[string]any{"billingProducts": "bp-6ba54002"}),
		}
	})
	got := get(f, "/latest/dynamic/instance-identity/document", webCaller()).Body.String()
	for _, want := range []string{
		`  "accountId" : null,`, `  "availabilityZone" : null,`, `  "billingProducts" : [ "bp-6ba54002" ],`,
		`  "marketplaceProductCodes" : [ "one", "two" ],`, `  "pendingTime" : null,`, `  "region" : "eu-west-1",`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("no line %q in %s", want, got)
		}
	}
	if read := readIdentity(t, f, webCaller()); len(read) != 15 || read["architecture"] != any(architecture()) && read["architecture"] != nil {
		t.Errorf("read %v", read)
	}
}

func TestIdentityDocumentHasTheAccountOfTheCaller(t *testing.T) {
	region := map[string]any{"placement": map[string]any{"region": "eu-west-1"}}
	configured := map[string]any{"placement": region["placement"], "dynamic": identityWith(map[string]any{"accountId": "000000000001"})}
	const profile = "arn:aws:iam::111122223333:instance-profile/web"
	for name, test := range map[string]struct {
		metadata map[string]any
		profile  string
		view     *caller
		want     any
	}{
		"nothing known":                    {region, "", webCaller(), nil},
		"account of the keys":              {region, "", having(account), "111122223333"},
		"account of the profile":           {region, profile, webCaller(), "111122223333"},
		"keys of another account":          {region, profile, having(func(k *credential.AWS) { k.AccountID = "444455556666" }), "444455556666"},
		"configured for the document":      {configured, profile, having(account), "000000000001"},
		"configured, a caller without any": {configured, "", &caller{}, "000000000001"},
		"no role":                          {region, profile, &caller{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(o *Options) { o.Metadata, o.InstanceProfile = test.metadata, InstanceProfile{ARN: test.profile} })
			if got := readIdentity(t, f, test.view)["accountId"]; got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestStaticAnswersAreAsOldAsTheFrontend(t *testing.T) {
	before := time.Now().Add(-time.Second)
	w := get(newFixture(t, nil), "/latest/meta-data/placement/region", webCaller())
	modified, err := time.Parse(time.RFC1123, w.Header().Get("Last-Modified"))
	if err != nil || modified.Before(before.Truncate(time.Second)) || modified.After(time.Now()) {
		t.Errorf("%v, %v", modified, err)
	}
}
