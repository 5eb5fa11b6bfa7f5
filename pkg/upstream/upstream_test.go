package upstream

import (
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
)

func TestDefaultsAreValid(t *testing.T) {
	o := Defaults()
	if err := o.Validate(); err != nil {
		t.Error(err)
	}
	if files := o.Files(); len(files) != 0 {
		t.Errorf("files %v, want none", files)
	}
}

func TestValidateNamesTheKey(t *testing.T) {
	for _, test := range []struct {
		name string
		set  func(*Options)
		want string // empty for valid
	}{
		{"proxy", func(o *Options) { o.Proxy = "http://proxy:3128" }, ""},
		{"proxy with a slash", func(o *Options) { o.Proxy = "https://proxy:3128/" }, ""},
		{"proxy with everything", func(o *Options) {
			o.Proxy, o.ProxyUser, o.NoProxy = "http://proxy:3128", "purser", []string{"localhost", "10.0.0.0/8"}
			o.ProxyPassword = credential.SecretRef{File: "/etc/purser/password"}
		}, ""},
		{"proxy without scheme", func(o *Options) { o.Proxy = "proxy:3128" }, "proxy: does not begin with http:// or https://"},
		{"SOCKS proxy", func(o *Options) { o.Proxy = "socks5://proxy:1080" }, "proxy: "},
		{"proxy with a path", func(o *Options) { o.Proxy = "http://proxy/x" }, "has a path"},
		{"proxy with a password", func(o *Options) { o.Proxy = "http://u:" + confidential + "@proxy" }, "proxy: holds an @"},
		{"proxy with a password and no scheme", func(o *Options) { o.Proxy = "u:" + confidential + "@proxy:3128" }, "proxy: holds an @"},
		{"unreadable proxy with a password", func(o *Options) { o.Proxy = "http://u:" + confidential + "%zz@proxy" }, "proxy: holds an @"},
		{"unreadable proxy", func(o *Options) { o.Proxy = "http://" + confidential + "%zz" }, "proxy: not a URL"},
		{"exemption with a password", func(o *Options) {
			o.Proxy, o.NoProxy = "http://proxy", []string{"http://u:" + confidential + "@ims"}
		}, "no_proxy: an entry holds an @"},
		{"password without user", func(o *Options) {
			o.Proxy, o.ProxyPassword = "http://proxy", credential.SecretRef{File: "/x"}
		}, "proxy_user: missing"},
		{"no_proxy without proxy", func(o *Options) { o.NoProxy = []string{"localhost"} }, "proxy: missing"},
		{"user without proxy", func(o *Options) { o.ProxyUser = "u" }, "proxy: missing"},
		{"bad no_proxy", func(o *Options) { o.Proxy, o.NoProxy = "http://proxy", []string{"10.0.0.0/33"} }, `no_proxy: "10.0.0.0/33": `},
		{"certificate without key", func(o *Options) { o.TLS.Certificate = "/c" }, "tls.key: missing"},
		{"key without certificate", func(o *Options) { o.TLS.Key = "/k" }, "tls.certificate: missing"},
		{"no dial time-out", func(o *Options) { o.Timeouts.Dial = 0 }, "timeouts.dial: 0s"},
		{"negative TLS time-out", func(o *Options) { o.Timeouts.TLS = -1 }, "timeouts.tls: "},
		{"no header time-out", func(o *Options) { o.Timeouts.Header = 0 }, "timeouts.header: "},
		{"endless total time-out", func(o *Options) { o.Timeouts.Total = time.Hour }, "timeouts.total: 1h0m0s is not between 0s and 1m0s"},
		{"total time-out that no attempt has", func(o *Options) { o.Timeouts.Total = time.Minute + 1 }, "timeouts.total: 1m0.000000001s is not between 0s and 1m0s"},
		{"longest total time-out", func(o *Options) { o.Timeouts.Total = time.Minute }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := Defaults()
			test.set(&o)
			err := o.Validate()
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want ...%s...", err, test.want)
			case err != nil && strings.Contains(err.Error(), confidential):
				t.Errorf("%v shows the password", err)
			}
		})
	}
}

func TestValidateReportsEverythingAtOnce(t *testing.T) {
	o := Defaults()
	o.Proxy, o.TLS.Key, o.Timeouts.Dial = "proxy", "/k", 0
	err := o.Validate()
	for _, want := range []string{"proxy: ", "tls.certificate: ", "timeouts.dial: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %s", err, want)
		}
	}
}

func TestParseURL(t *testing.T) {
	for _, good := range []string{"http://ims", "https://ims.example.com:8443/api/latest/", "http://[::1]:8080/latest", "http://10.0.0.1"} {
		if _, err := ParseURL(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "ims", "ims.example.com/latest", "ftp://ims", "http://", "http:///latest", "http://ims?x=1", "http://ims?", "http://ims#x",
		"http://u@ims", "http://bücher.example", "http://ims:port", "http://ims/%zz", "http://im s",
	} {
		if _, err := ParseURL(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// FuzzAddress looks for an address whose error shows what stands before an @, where
// people put passwords.
func FuzzAddress(f *testing.F) {
	for _, seed := range []struct{ before, after string }{
		{"http://alice:", "proxy:3128"}, {"alice:", "proxy:3128"}, {"", "proxy"}, {"http:/", "proxy"}, {"http//u:", "proxy"}, {"://", ""},
		{"http://proxy/", ""}, {"http://proxy?", ""}, {"http://proxy#", ""}, {"[", "]:x"}, {"%zz", "%zz"}, {"@", "@"}, {"ftp://ü:", "proxy/8"}, {"\x00", ":3128"},
	} {
		f.Add(seed.before, seed.after)
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		o := Defaults()
		address := before + confidential + "@" + after
		for _, o.Proxy = range []string{address, "http://proxy"} {
			o.NoProxy = []string{address}
			if err := o.Validate(); err == nil {
				t.Errorf("%q is accepted", address)
			} else if strings.Contains(err.Error(), confidential) {
				t.Errorf("%v shows the password", err)
			}
		}
	})
}
