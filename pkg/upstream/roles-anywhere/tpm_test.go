package rolesanywhere

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	keyfile "github.com/foxboron/go-tpm-keyfiles"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/mock"
	"github.com/purser-agent/purser/pkg/testkit"
)

// startTPM runs Debian's TPM emulator until the test ends and returns its socket.
func startTPM(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("swtpm")
	if err != nil {
		testkit.Lacks(t, "swtpm")
	}
	dir, err := os.MkdirTemp("", "purser-tpm-") // a socket's path is short
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "tpm")
	var said bytes.Buffer
	tpm := exec.Command(program, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+socket+",disconnect", "--flags", "not-need-init,startup-clear")
	tpm.Stdout, tpm.Stderr = &said, &said
	must(t, tpm.Start())
	t.Cleanup(func() { _, _ = tpm.Process.Kill(), tpm.Wait() })
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("unix", socket); err == nil {
			must(t, c.Close())
			return socket
		}
		if time.Now().After(deadline) {
			t.Fatalf("swtpm does not start: %s", said.String())
		}
	}
}

// newTPMKey makes a key in a TPM, with an authorization value if there is one.
func newTPMKey(t *testing.T, socket string, algorithm tpm2.TPMAlgID, bits int, auth string) *keyfile.TPMKey {
	t.Helper()
	tpm, err := openTPM(socket)
	must(t, err)
	defer closeTPM(t, tpm)
	var options []keyfile.TPMKeyOption
	if auth != "" {
		options = append(options, keyfile.WithUserAuth([]byte(auth)))
	}
	key, err := keyfile.NewLoadableKey(tpm, algorithm, bits, nil, options...)
	must(t, err)
	return key
}

func closeTPM(t *testing.T, tpm transport.TPMCloser) { must(t, tpm.Close()) }

// newTPMPlace is a place whose certificate belongs to a key in a TPM.
func newTPMPlace(t *testing.T, socket string, key *keyfile.TPMKey, auth string) *place {
	t.Helper()
	return newPlace(t, mock.RolesAnywhereOptions{}, func(p *place) {
		public, err := key.PublicKey()
		must(t, err)
		leaf, err := p.authority.Sign(mock.CertificateFor("web01"), public)
		must(t, err)
		testkit.Replace(t, p.options.Certificate, mock.CertificatePEM(leaf))
		testkit.Replace(t, p.options.Key, key.Bytes())
		p.options.TPM, p.options.KeyPassword = socket, credential.SecretRef{Value: credential.NewSecret(auth)}
	})
}

func TestAKeyInATPMSigns(t *testing.T) {
	socket := startTPM(t)
	for _, c := range []struct {
		name      string
		algorithm tpm2.TPMAlgID
		bits      int
		auth      string
	}{
		{"EC", tpm2.TPMAlgECC, 256, ""},
		{"P-384", tpm2.TPMAlgECC, 384, ""},
		{"RSA", tpm2.TPMAlgRSA, 2048, ""},
		{"EC with an authorization value", tpm2.TPMAlgECC, 256, secretText},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newTPMPlace(t, socket, newTPMKey(t, socket, c.algorithm, c.bits, c.auth), c.auth)
			must(t, p.source.Check())
			var requests sync.WaitGroup // a TPM has room for three keys at a time
			for range 8 {
				requests.Go(func() {
					if _, err := p.source.Fetch(t.Context(), credential.Key{Name: "demo"}); err != nil {
						t.Error(err)
					}
				})
			}
			requests.Wait()
			if got := len(p.service.Sessions()); got != 8 {
				t.Errorf("got %d sessions", got)
			}
		})
	}
}

// TestWhatStopsATPMIsSaidInOneSentence compares each whole sentence.
func TestWhatStopsATPMIsSaidInOneSentence(t *testing.T) {
	socket, other := startTPM(t), startTPM(t)
	open, closed := newTPMKey(t, socket, tpm2.TPMAlgECC, 256, ""), newTPMKey(t, socket, tpm2.TPMAlgECC, 256, secretText)
	regular := testkit.File(t, "tpm", "")
	for _, c := range []struct {
		name, tpm string
		key       *keyfile.TPMKey
		auth      string
		check     string // what Check says
		fetch     string // what a fetch says
	}{
		{"no TPM", "/nowhere/tpm", open, "", "tpm: there is no /nowhere/tpm here; a unit of systemd sees it with PrivateDevices=no", "KEY: signing: tpm: there is no /nowhere/tpm here; a unit of systemd sees it with PrivateDevices=no"},
		{"no device", regular, open, "", "tpm: " + regular + " is no device; set the path of a TPM, such as /dev/tpmrm0", "KEY: signing: tpm: " + regular + " is no device; set the path of a TPM, such as /dev/tpmrm0"},
		{"another TPM", other, open, "", "", "KEY: signing: the TPM " + other + " does not sign with this key; was the key made in another TPM?"},
		{"no authorization", socket, closed, "", "KEY: the TPM key has an authorization value; set key_password to it", "KEY: the TPM key has an authorization value; set key_password to it"},
		{"another authorization", socket, closed, "x" + secretText, "", "KEY: signing: key_password is not the authorization value of the TPM key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newTPMPlace(t, c.tpm, c.key, c.auth)
			at := func(text string) string { return strings.Replace(text, "KEY", "key: "+p.options.Key, 1) }
			if _, err := p.fetch(); err == nil || err.Error() != at(c.fetch) {
				t.Errorf("a fetch says %v\nwant %s", err, at(c.fetch))
			}
			if err := p.source.Check(); err == nil && c.check != "" || err != nil && err.Error() != at(c.check) {
				t.Errorf("Check says %v\nwant %s", err, at(c.check))
			}
			if got := p.service.Requests().Total; got != 0 {
				t.Errorf("the service was asked %d times", got)
			}
		})
	}
}

// TestAWrongAuthorizationIsTriedOnce, as a TPM locks itself after some of them, until
// the file with it has changed.
func TestAWrongAuthorizationIsTriedOnce(t *testing.T) {
	socket := startTPM(t)
	p := newTPMPlace(t, socket, newTPMKey(t, socket, tpm2.TPMAlgECC, 256, secretText), "")
	file := testkit.File(t, "password", "wrong")
	p.options.KeyPassword = credential.SecretRef{File: file}
	var err error
	p.source, err = New("office", p.options, p.source.log)
	must(t, err)
	for i := range 100 { // far more than lock it
		if _, err := p.fetch(); err == nil || !strings.Contains(err.Error(), "is not the authorization value") {
			t.Fatalf("attempt %d: %v", i, err)
		}
	}
	testkit.Replace(t, file, secretText)
	if !p.source.Changed() {
		t.Error("the changed password is no reason to try again")
	}
	p.expect("web01")
}

// TestATPMThatDoesNotAnswerHoldsUpNoMoreThanOneAttempt, which takes its time-out.
func TestATPMThatDoesNotAnswerHoldsUpNoMoreThanOneAttempt(t *testing.T) {
	text, err := os.ReadFile("testdata/tss2.pem")
	must(t, err)
	dir, err := os.MkdirTemp("", "purser-tpm-")
	must(t, err)
	defer os.RemoveAll(dir)
	silent, err := net.Listen("unix", filepath.Join(dir, "tpm")) // it takes connections, and nothing more
	must(t, err)
	defer silent.Close()
	key, err := (&Options{TPM: silent.Addr().String()}).parseKey(text, credential.Secret{})
	must(t, err)
	want := "the TPM " + silent.Addr().String() + " does not answer"
	before := runtime.NumGoroutine()
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		if _, err := key.sign(ctx, make([]byte, 32)); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		cancel()
	}
	if more := runtime.NumGoroutine() - before; more > 5 {
		t.Errorf("there are %d goroutines more than before", more)
	}
}

// TestATPMThatAnswersRubbishIsAnError, whatever go-tpm makes of it.
func TestATPMThatAnswersRubbishIsAnError(t *testing.T) {
	text, err := os.ReadFile("testdata/tss2.pem")
	must(t, err)
	dir, err := os.MkdirTemp("", "purser-tpm-")
	must(t, err)
	defer os.RemoveAll(dir)
	for i, rubbish := range []string{"", "\x80", "\x80\x01\x00\x00\x00\x0a\x00\x00\x00\x00", "\x80\x02\xff\xff\xff\xff\x00\x00\x00\x00" + secretText, strings.Repeat("\xff", 4096)} {
		l, err := net.Listen("unix", filepath.Join(dir, fmt.Sprint(i)))
		must(t, err)
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Read(make([]byte, 4096))
				_, _ = conn.Write([]byte(rubbish))
				_ = conn.Close()
			}
		}()
		key, err := (&Options{TPM: l.Addr().String()}).parseKey(text, credential.Secret{})
		must(t, err)
		if _, err := key.sign(t.Context(), make([]byte, 32)); err == nil || strings.Contains(err.Error(), secretText) {
			t.Errorf("%q: got %v", rubbish, err)
		}
		must(t, l.Close())
	}
}

func TestTPMKeysAreReadStrictly(t *testing.T) {
	socket := startTPM(t)
	der := newTPMKey(t, socket, tpm2.TPMAlgECC, 256, "").Bytes()
	block, err := findKey(der)
	must(t, err)
	for i := range block.Bytes {
		changed := bytes.Clone(block.Bytes)
		changed[i] ^= 0x5a
		if key, err := openTPMKey(changed, socket, credential.Secret{}); err == nil && key.Public() == nil {
			t.Errorf("byte %d: a key without a public half", i)
		}
		if key, err := openTPMKey(block.Bytes[:i], socket, credential.Secret{}); err == nil {
			t.Errorf("the first %d bytes are a key: %v", i, key.Public())
		}
	}
}
