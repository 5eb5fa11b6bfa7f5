package credential_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rs/zerolog"
	"go.yaml.in/yaml/v3"

	"github.com/purser-agent/purser/pkg/credential"
)

const topSecret = "topsecret"

func TestPromise6ASecretCannotBePrinted(t *testing.T) {
	type holder struct {
		Public credential.Secret
		hidden credential.Secret
	}
	s := credential.NewSecret(topSecret)
	h := holder{s, s}
	keys := credential.AWS{SecretAccessKey: s, SessionToken: s}
	ref := credential.SecretRef{Value: s}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p", "%T", "%08.3f"} {
		for _, value := range []any{s, &s, h, &h, keys, &keys, ref, &ref, []credential.Secret{s}, map[string]credential.Secret{"a": s}} {
			fmt.Fprintf(&out, verb, value)
		}
	}
	for _, value := range []any{s, h, &keys, ref} {
		j, _ := json.Marshal(value)
		y, _ := yaml.Marshal(value)
		out.Write(j)
		out.Write(y)
		log := zerolog.New(&out)
		log.Info().Interface("x", value).Any("y", value).Msg("z")
		slog.New(slog.NewJSONHandler(&out, nil)).Info("z", "x", value)
		slog.New(slog.NewTextHandler(&out, nil)).Info("z", "x", value)
	}
	log := zerolog.New(&out)
	log.Info().Stringer("x", s).Msg("z")
	fmt.Fprint(&out, fmt.Errorf("secret %w", fmt.Errorf("%v", s)))
	for _, form := range []string{topSecret, fmt.Sprintf("%x", topSecret), fmt.Sprintf("%X", topSecret)} {
		if strings.Contains(out.String(), form) {
			t.Errorf("found %q in what was printed", form)
		}
	}
	if !strings.Contains(out.String(), "[redacted]") {
		t.Error("nothing was printed at all")
	}
	if h.hidden.Reveal() != topSecret {
		t.Error("Reveal does not reveal")
	}
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{"test_role", "web+db=x,y.z@w-1", "röle", strings.Repeat("a", 256)} {
		if err := credential.CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", "a\nb", "a\x00b", "a\tb", "a b", "\xff", strings.Repeat("a", 257)} {
		if credential.CheckName(name) == nil {
			t.Errorf("%q is accepted", name)
		}
	}
}

func TestSecretRefReadsItsFileAgainEachTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	ref := credential.SecretRef{File: path}
	if _, err := ref.Read(); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got error %v, want one that names the file", err)
	}
	for _, c := range []struct{ content, want string }{
		{"one", "one"}, {"two\n", "two"}, {"three\r\n", "three"}, {"four\n\n", "four\n"}, {" five ", " five "},
	} {
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ref.Read()
		if err != nil || got.Reveal() != c.want {
			t.Errorf("%q: got %q, %v", c.content, got.Reveal(), err)
		}
	}
	for name, content := range map[string]string{"empty": "", "only a line end": "\n", "huge": strings.Repeat("x", 1<<20)} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ref.Read(); err == nil || strings.Contains(err.Error(), "xxx") {
			t.Errorf("%s: got error %v", name, err)
		}
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (credential.SecretRef{File: pipe}).Read(); err == nil || err.Error() != pipe+": not a regular file" {
		t.Errorf("a named pipe: got error %v", err)
	}
	if got, err := (credential.SecretRef{Value: credential.NewSecret("v")}).Read(); err != nil || got.Reveal() != "v" {
		t.Errorf("got %q, %v", got.Reveal(), err)
	}
}
