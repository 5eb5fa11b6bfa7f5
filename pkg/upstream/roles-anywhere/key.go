package rolesanywhere

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// convert is what makes a good file of a key in any other form.
const convert = "write it anew with: openssl pkcs8 -topk8 -in KEY -out KEY.new"

// A signer is a private key, wherever it is. It is safe for concurrent use.
type signer interface {
	Public() crypto.PublicKey
	// sign signs a SHA-256 digest, as PKCS #1 v1.5 or in ASN.1.
	sign(ctx context.Context, digest []byte) ([]byte, error)
}

// A softKey is in memory.
type softKey struct{ crypto.Signer }

func (k softKey) sign(_ context.Context, digest []byte) ([]byte, error) {
	return k.Sign(rand.Reader, digest, crypto.SHA256)
}

// findKey returns the first private key of a PEM text, which may hold certificates and
// parameters, too.
func findKey(text []byte) (*pem.Block, error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return nil, errors.New("there is no PEM private key in it")
		}
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return block, nil
		}
	}
}

// openKey reads a private key, with a password if it is encrypted. No error quotes the
// key, the password or what a decoder says of them.
func openKey(block *pem.Block, password credential.Secret) (signer, error) {
	var key any
	var err error
	switch {
	case block.Headers["DEK-Info"] != "":
		return nil, errors.New("the key is encrypted in the old way of PEM (DEK-Info), which is unsafe; " + convert)
	case block.Type == "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case block.Type == "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case block.Type == "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case block.Type == "ENCRYPTED PRIVATE KEY":
		plain, refusal := decrypt(block.Bytes, password)
		if refusal != nil {
			return nil, refusal
		}
		if key, err = x509.ParsePKCS8PrivateKey(plain); err != nil && !isCurve(err) {
			return nil, errWrongPassword // a wrong one may happen to leave good padding
		}
	default:
		return nil, fmt.Errorf("the key has the form %q; what is read are PKCS#8, PKCS#1, SEC 1 and TSS2 keys", block.Type)
	}
	switch {
	case isCurve(err):
		return nil, errCurve
	case err != nil:
		return nil, errors.New("the key cannot be read; is the file whole?")
	}
	return usable(key)
}

var errCurve = errors.New("the key's curve is not P-256, P-384 or P-521, or is given by its parameters instead of its name; make another key")

func isCurve(err error) bool {
	return err != nil && strings.HasSuffix(err.Error(), "unknown elliptic curve")
}

// usable tells whether Roles Anywhere has a signature for a key, and Go makes it.
func usable(key any) (signer, error) {
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if key.N.BitLen() < 1024 {
			return nil, fmt.Errorf("the RSA key has %d bits, which is unsafe; make one of 2048 or more", key.N.BitLen())
		}
		return softKey{key}, nil
	case *ecdsa.PrivateKey:
		if key.Curve == elliptic.P224() {
			return nil, errCurve
		}
		return softKey{key}, nil
	}
	return nil, errors.New("the key is neither RSA nor EC, and no other is supported; make another key")
}

// loadKey reads the key, which stays in its TPM if that is where it is.
func (o *Options) loadKey() (signer, error) {
	text, err := upstream.ReadFile(o.Key)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	password, err := o.KeyPassword.Read()
	if err != nil {
		return nil, fmt.Errorf("key_password: %w", err)
	}
	key, err := o.parseKey(text, password)
	if err != nil {
		return nil, fmt.Errorf("key: %s: %w", o.Key, err)
	}
	return key, nil
}

func (o *Options) parseKey(text []byte, password credential.Secret) (signer, error) {
	block, err := findKey(text)
	if err != nil {
		return nil, err
	}
	if block.Type == tpmKey {
		return openTPMKey(block.Bytes, o.TPM, password)
	}
	return openKey(block, password)
}
