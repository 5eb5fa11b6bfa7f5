package rolesanywhere

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"

	keyfile "github.com/foxboron/go-tpm-keyfiles"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/purser-agent/purser/pkg/credential"
)

// tpmKey is the PEM type of a key that only one TPM can use, as tpm2-openssl,
// ssh-tpm-agent and others write it.
const tpmKey = "TSS2 PRIVATE KEY"

// A tpmSigner signs in a TPM, which it opens for each signature. It is safe for
// concurrent use.
type tpmSigner struct {
	device   string
	key      *keyfile.TPMKey
	public   crypto.PublicKey
	password credential.Secret

	turn    chan struct{} // full while somebody uses the TPM, and guards refused
	refused bool          // the password was wrong
}

// openTPMKey reads the file of a key. The TPM is not needed for that.
func openTPMKey(der []byte, device string, password credential.Secret) (signer, error) {
	key, err := keyfile.Parse(der)
	if err != nil {
		return nil, errors.New("the TPM key cannot be read; is the file whole?")
	}
	if _, err := key.Pubkey.Contents(); err != nil || !key.HasSigner() {
		return nil, errTPMUse
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, errors.New("the TPM key is neither RSA nor EC; make another key")
	}
	if key.HasAuth() && password.Empty() {
		return nil, errors.New("the TPM key has an authorization value; set key_password to it")
	}
	return &tpmSigner{device: device, key: key, public: public, password: password, turn: make(chan struct{}, 1)}, nil
}

// Public returns the public half.
func (s *tpmSigner) Public() crypto.PublicKey { return s.public }

// sign implements signer. A TPM that does not answer holds up one goroutine, however
// often it is tried.
func (s *tpmSigner) sign(ctx context.Context, digest []byte) ([]byte, error) {
	silent := fmt.Errorf("the TPM %s does not answer", s.device)
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, silent
	}
	var signature []byte
	var err error
	done := make(chan struct{})
	go func() {
		defer func() { <-s.turn }()
		defer close(done)
		signature, err = s.use(digest)
	}()
	select {
	case <-done:
		return signature, err
	case <-ctx.Done():
		return nil, silent
	}
}

// use signs in the TPM, which locks itself for everybody after some wrong passwords: one
// is not tried again.
func (s *tpmSigner) use(digest []byte) (signature []byte, err error) {
	defer func() {
		if recover() != nil { // of whoever reads what it answers
			err = fmt.Errorf("the TPM %s gives answers that cannot be read", s.device)
		}
	}()
	if s.refused {
		return nil, errTPMPassword
	}
	tpm, err := openTPM(s.device)
	if err != nil {
		return nil, err
	}
	defer tpm.Close()
	key, err := s.key.Signer(tpm, nil, []byte(s.password.Reveal()))
	if err != nil {
		return nil, errTPMUse
	}
	signature, err = key.Sign(nil, digest, crypto.SHA256)
	switch {
	case err == nil:
		return signature, nil
	case errors.Is(err, tpm2.TPMRCAuthFail), errors.Is(err, tpm2.TPMRCBadAuth):
		s.refused = true
		return nil, errTPMPassword
	case errors.Is(err, tpm2.TPMRCLockout):
		return nil, fmt.Errorf("the TPM %s has locked itself after wrong passwords; wait, or reset it with: tpm2_dictionarylockout --clear-lockout", s.device)
	}
	return nil, fmt.Errorf("the TPM %s does not sign with this key; was the key made in another TPM?", s.device)
}

var (
	errTPMPassword = errors.New("key_password is not the authorization value of the TPM key")
	errTPMUse      = errors.New("the TPM key is none that can sign; make another key")
)

// checkDevice reports why the present account cannot use the TPM. It sends no command.
func (s *tpmSigner) checkDevice() error {
	tpm, err := openTPM(s.device)
	if err != nil {
		return err
	}
	return tpm.Close()
}

// openTPM opens a device, or an emulator's socket.
func openTPM(path string) (tpm transport.TPMCloser, err error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
	case info.Mode()&os.ModeSocket != 0:
		tpm, err = linuxudstpm.Open(path)
	default:
		tpm, err = linuxtpm.Open(path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("tpm: there is no %s here; a unit of systemd sees it with PrivateDevices=no", path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("tpm: this account may not use %s; let it into the device's group", path)
	case errors.Is(err, linuxtpm.ErrFileIsNotDevice):
		return nil, fmt.Errorf("tpm: %s is no device; set the path of a TPM, such as /dev/tpmrm0", path)
	case err != nil:
		return nil, fmt.Errorf("tpm: %w", err)
	}
	return tpm, nil
}
