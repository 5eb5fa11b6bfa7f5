package rolesanywhere

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/testkit"
)

// password opens the encrypted keys in testdata, which openssl made.
const password = "correct-horse"

func readKey(t *testing.T, path, password string) (signer, error) {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return new(Options).parseKey(text, credential.NewSecret(password))
}

func TestEveryUsualFormOfAKeySigns(t *testing.T) {
	files, err := filepath.Glob("testdata/keys/*.pem")
	must(t, err)
	tried := 0
	for _, file := range files {
		if strings.Contains(file, "refused-") {
			continue
		}
		tried++
		key, err := readKey(t, file, password)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		digest := sha256.Sum256([]byte(file))
		signature, err := key.sign(t.Context(), digest[:])
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		switch public := key.Public().(type) {
		case *rsa.PublicKey:
			err = rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature)
		case *ecdsa.PublicKey:
			if !ecdsa.VerifyASN1(public, digest[:], signature) {
				err = fmt.Errorf("the signature is wrong")
			}
		}
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	if tried < 10 {
		t.Errorf("found only %d keys", tried)
	}
}

// TestAKeyThatCannotBeUsedIsRefusedInOneSentence compares each whole sentence.
func TestAKeyThatCannotBeUsedIsRefusedInOneSentence(t *testing.T) {
	files, err := filepath.Glob("testdata/keys/refused-*.pem")
	if err != nil || len(files) < 10 {
		t.Fatalf("found only %v, %v", files, err)
	}
	var said strings.Builder
	for _, file := range files {
		_, err := readKey(t, file, password)
		fmt.Fprintf(&said, "%s: %v\n", strings.TrimPrefix(filepath.Base(file), "refused-"), err)
	}
	cut := testkit.File(t, "cut.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte(secretText)}))
	cutEncrypted := testkit.File(t, "cut.pem", pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte(secretText)}))
	cutTPM := testkit.File(t, "cut.pem", pem.EncodeToMemory(&pem.Block{Type: tpmKey, Bytes: []byte(secretText)}))
	for _, c := range []struct{ name, file, password string }{
		{"no password", "testdata/keys/encrypted-default.pem", ""},
		{"another password", "testdata/keys/encrypted-default.pem", secretText},
		{"no key", testkit.File(t, "x.pem", secretText), ""},
		{"half a key", cut, ""},
		{"half an encrypted key", cutEncrypted, password},
		{"half a TPM key", cutTPM, ""},
	} {
		_, err := readKey(t, c.file, c.password)
		fmt.Fprintf(&said, "%s: %v\n", c.name, err)
	}
	if strings.Contains(said.String(), secretText) || strings.Contains(said.String(), password) {
		t.Error("an error quotes a secret")
	}
	testkit.Golden(t, "refusals.txt", said.String())
}

// TestAWrongPasswordIsAlwaysCalledThat, also one of those, about one of 256, that leave
// good padding behind.
func TestAWrongPasswordIsAlwaysCalledThat(t *testing.T) {
	text, err := os.ReadFile("testdata/keys/encrypted-default.pem")
	must(t, err)
	block, err := findKey(text)
	must(t, err)
	lucky := credential.NewSecret("wrong72")
	if _, err := decrypt(block.Bytes, lucky); err != nil {
		t.Fatalf("the padding is not good: %v", err)
	}
	for _, wrong := range []credential.Secret{lucky, credential.NewSecret("wrong0")} {
		if _, err := openKey(block, wrong); err != errWrongPassword {
			t.Errorf("got %v", err)
		}
	}
}

func FuzzKey(f *testing.F) {
	files, err := filepath.Glob("testdata/keys/*.pem")
	if err != nil || len(files) < 10 {
		f.Fatalf("found only %v, %v", files, err)
	}
	for _, file := range append(files, "testdata/tss2.pem") {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if key, err := (&Options{TPM: "/nowhere"}).parseKey(text, credential.Secret{}); err == nil && key.Public() == nil {
			t.Error("a key without a public half")
		}
		block, err := findKey(text)
		if err != nil {
			return
		}
		if l, err := parseLock(block.Bytes); err == nil && (l.Iterations < 1 || l.Iterations > maxIterations || l.hash == nil) {
			t.Errorf("%d iterations passed", l.Iterations)
		}
	})
}
