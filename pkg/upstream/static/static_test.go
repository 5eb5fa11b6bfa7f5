package static

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
)

const confidential = "CONFIDENTIAL0123456789"

func inPlace(text string) credential.SecretRef {
	return credential.SecretRef{Value: credential.NewSecret(text)}
}

func open(t *testing.T, p Pair) *Source {
	t.Helper()
	s, err := New("user", &Options{Credentials: map[string]Pair{"web": p}}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var web = credential.Key{Name: "web"}

func TestKeysOfTheConfiguration(t *testing.T) {
	c, err := open(t, Pair{AccessKeyID: inPlace("ASIAEXAMPLE"), SecretAccessKey: inPlace("secret"), SessionToken: inPlace("token"), AccountID: "123456789012"}).Fetch(t.Context(), web)
	if err != nil {
		t.Fatal(err)
	}
	keys := c.(*credential.AWS)
	if keys.AccessKeyID != "ASIAEXAMPLE" || keys.SecretAccessKey.Reveal() != "secret" || keys.SessionToken.Reveal() != "token" || keys.AccountID != "123456789012" || !keys.Expires.IsZero() {
		t.Errorf("got %+v", keys)
	}
}

func TestErrorsOfTheConfigurationBeginWithTheirKey(t *testing.T) {
	for _, test := range []struct {
		name string
		of   Pair
		want string
	}{
		{"no ID", Pair{SecretAccessKey: inPlace("x")}, "credentials.web.access_key_id: missing, such as AKIAEXAMPLE or {file: PATH}"},
		{"no secret", Pair{AccessKeyID: inPlace("x")}, "credentials.web.secret_access_key: missing, such as {file: PATH}"},
		{"account", Pair{AccessKeyID: inPlace("x"), SecretAccessKey: inPlace("x"), AccountID: "12"}, `credentials.web.account_id: "12" is not an account's twelve digits; put them in quotes`},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := &Options{Credentials: map[string]Pair{"web": test.of}}
			if err := o.Validate(); err == nil || err.Error() != test.want {
				t.Errorf("got %v\nwant %s", err, test.want)
			}
		})
	}
	if err := Defaults().Validate(); err == nil || !strings.HasPrefix(err.Error(), "credentials: missing, ") {
		t.Errorf("got %v", err)
	}
}

func TestReplacedFilesAreReadAsOneSet(t *testing.T) {
	folder := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("id", "AKIAONE\n")
	put("secret", confidential+"1\n")
	s := open(t, Pair{AccessKeyID: credential.SecretRef{File: folder + "/id"}, SecretAccessKey: credential.SecretRef{File: folder + "/secret"}})
	read := func() string {
		t.Helper()
		c, err := s.Fetch(t.Context(), web)
		if err != nil {
			t.Fatal(err)
		}
		return c.(*credential.AWS).AccessKeyID + " " + c.(*credential.AWS).SecretAccessKey.Reveal()
	}
	if got := read(); got != "AKIAONE "+confidential+"1" || s.Replaced() {
		t.Errorf("got %s, replaced: %v", got, s.Replaced())
	}
	put("id", "AKIATWO\n")
	if !s.Replaced() {
		t.Error("the new key ID is not noticed")
	}
	// The new secret comes when the old one was read already.
	time.AfterFunc(100*time.Millisecond, func() { _ = os.WriteFile(folder+"/secret", []byte(confidential+"2\n"), 0o600) })
	if got := read(); got != "AKIATWO "+confidential+"2" {
		t.Errorf("got %s, half of it old", got)
	}
	if s.Replaced() {
		t.Error("what was read counts as replaced")
	}
	put("secret", "")
	_, err := s.Fetch(t.Context(), web)
	if want := "credentials.web.secret_access_key: " + folder + "/secret: the file is empty"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	put("secret", confidential+" "+confidential)
	_, err = s.Fetch(t.Context(), web)
	if want := "credentials.web: secret_access_key in " + folder + "/secret has characters that do not belong in it"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := os.Remove(folder + "/secret"); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestLinksThatAreSwappedAreOneSet: what they lead to was written long before.
func TestLinksThatAreSwappedAreOneSet(t *testing.T) {
	folder := t.TempDir()
	link := func(name, to string) {
		if err := errors.Join(os.Symlink(to, filepath.Join(folder, "link")), os.Rename(filepath.Join(folder, "link"), filepath.Join(folder, name))); err != nil {
			t.Error(err)
		}
	}
	for name, text := range map[string]string{"id1": "AKIAONE", "secret1": confidential + "1", "id2": "AKIATWO", "secret2": confidential + "2"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link("id", "id1")
	link("secret", "secret1")
	time.Sleep(time.Second)
	s := open(t, Pair{AccessKeyID: credential.SecretRef{File: folder + "/id"}, SecretAccessKey: credential.SecretRef{File: folder + "/secret"}})
	link("id", "id2")
	time.AfterFunc(100*time.Millisecond, func() { link("secret", "secret2") })
	c, err := s.Fetch(t.Context(), web)
	if err != nil {
		t.Fatal(err)
	}
	if keys := c.(*credential.AWS); keys.AccessKeyID != "AKIATWO" || keys.SecretAccessKey.Reveal() != confidential+"2" {
		t.Errorf("got %s, half of it old", keys.AccessKeyID)
	}
}
