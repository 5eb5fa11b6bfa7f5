package config

import (
	"strings"
	"testing"
)

func TestWhatIsNoYAMLIsExplained(t *testing.T) {
	const (
		star  = `did not find expected alphabetic or numeric character; * must be quoted in YAML: ["*"]`
		tab   = "; YAML indents with blanks, not with tabs"
		blank = "a blank is missing after the colon"
	)
	for _, c := range []struct{ name, text, want string }{
		{"a star", "grants:\n  everyone:\n    credentials: *\n", ":3: " + star},
		{"a star in a list", "grants:\n  everyone: {credentials: [*]}\n", ":2: " + star},
		{"a star as an element", "grants:\n  everyone:\n    credentials:\n      - *\n  web: {user: a}\n", ":4: " + star},
		{"a tab", "log:\n\tlevel: info\n", ":2: found character that cannot start any token" + tab},
		{"a tab further in", "upstreams:\n  dc:\n    kind: ims\n\t\turl: x\n", tab},
		{"a character", "log:\n  level: @info\n", ":2: found character that cannot start any token; quote a text that starts with another character than a letter or a digit"},
		{"a key without its blank, last", "log:\n  format: json\n  level:info\n", ":3: could not find expected ':'; on line 3 " + blank},
		{"a key without its blank, first", "log:\n  level:info\n  format: json\n", ":3: mapping values are not allowed in this context; on line 2 " + blank},
		{"a key without its blank, alone", "log:\n  level:info\n", ":1: wrong type for log: a text instead of a section; a key needs a blank after its colon"},
		{"a key without its blank, in braces", "log: {level:hunter2}\n", `:1: unknown key "level:..." in log; a key needs a blank after its colon`},
		{"a mistyped key without its blank", "log: {levle:hunter2}\n", `:1: unknown key "levle:..." in log; a key needs a blank after its colon; did you mean "level"?`},
		{"another mistake", "log:\n  level: info: json\n", ":2: mapping values are not allowed in this context"},
		{"an address", "log: https://example.com\n", ":1: wrong type for log: a text instead of a section"},
	} {
		_, err := loadText(t, c.text)
		if err == nil || !strings.HasSuffix(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v, want ...%s", c.name, err, c.want)
		}
	}
}

func TestAnErrorFindsTheKeyThatNamesAFile(t *testing.T) {
	c, err := loadText(t, `upstreams:
  dc:
    kind: ims
    url: https://ims.example.com/latest
    proxy: http://proxy.example.com:3128
    proxy_user: purser
    proxy_password:
      file: /etc/purser/secret
`)
	if err != nil {
		t.Fatal(err)
	}
	got, ok := c.WrongFile(errUnreadable, "dc", "/etc/purser/secret")
	if want := ":8: upstreams.dc.proxy_password.file: the file cannot be read"; !ok || !strings.HasSuffix(got.Error(), want) {
		t.Errorf("got %v, want ...%s", got, want)
	}
	if got, ok := c.WrongFile(errUnreadable, "dc", "/etc/purser/other"); ok {
		t.Errorf("got %v for a file that nothing names", got)
	}
	if got, ok := c.WrongFile(errUnreadable, "other", "/etc/purser/secret"); ok {
		t.Errorf("got %v for an upstream that does not exist", got)
	}
}
