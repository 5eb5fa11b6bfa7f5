package rolesanywhere

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"
	"slices"

	"github.com/purser-agent/purser/pkg/credential"
)

// This file reads what `openssl pkcs8 -topk8` writes: a PKCS#8 key encrypted by PBES2
// (RFC 8018) with PBKDF2 and AES-CBC. It takes less code than a library would bring, and
// bounds the work that a file can ask for, which libraries do not.

// maxIterations bounds the work of one password, to about a second; what is written
// today has some hundred thousand.
const maxIterations = 2_000_000

var (
	errNoPassword    = errors.New("the key is encrypted; set key_password")
	errWrongPassword = errors.New("key_password does not open the key")
	errNotPKCS8      = errors.New("the encrypted key cannot be read; is the file whole?")
	errNotPBES2      = errors.New("the key is encrypted with something else than PBKDF2 and AES; write it anew with: openssl pkcs8 -topk8 -v2 aes-256-cbc -in KEY -out KEY.new")
)

type (
	encryptedKey struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	schemes struct{ Derivation, Encryption pkix.AlgorithmIdentifier }
	kdf     struct {
		Salt       []byte
		Iterations int
		Length     int                      `asn1:"optional"`
		Hash       pkix.AlgorithmIdentifier `asn1:"optional"`
	}
)

var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}

	// hashes are the PRFs of RFC 8018, B.1.2; without one it is HMAC-SHA-1.
	hashes = map[string]func() hash.Hash{
		"": sha1.New, "1.2.840.113549.2.7": sha1.New,
		"1.2.840.113549.2.9": sha256.New, "1.2.840.113549.2.10": sha512.New384, "1.2.840.113549.2.11": sha512.New,
	}
	// keyLengths are those of AES in CBC mode.
	keyLengths = map[string]int{"2.16.840.1.101.3.4.1.2": 16, "2.16.840.1.101.3.4.1.22": 24, "2.16.840.1.101.3.4.1.42": 32}
)

// A lock is how a key is encrypted.
type lock struct {
	kdf
	hash func() hash.Hash
	size int // of the AES key
	iv   []byte
	data []byte
}

// parseLock reads an EncryptedPrivateKeyInfo as far as that needs no password.
func parseLock(der []byte) (*lock, error) {
	var key encryptedKey
	if rest, err := asn1.Unmarshal(der, &key); err != nil || len(rest) > 0 {
		return nil, errNotPKCS8
	}
	if !key.Algorithm.Algorithm.Equal(oidPBES2) {
		return nil, errNotPBES2
	}
	var with schemes
	l := &lock{data: key.Data}
	if unmarshal(key.Algorithm.Parameters, &with) != nil {
		return nil, errNotPKCS8
	}
	l.size = keyLengths[with.Encryption.Algorithm.String()]
	if !with.Derivation.Algorithm.Equal(oidPBKDF2) || l.size == 0 {
		return nil, errNotPBES2
	}
	if unmarshal(with.Derivation.Parameters, &l.kdf) != nil || unmarshal(with.Encryption.Parameters, &l.iv) != nil {
		return nil, errNotPKCS8
	}
	name := ""
	if len(l.Hash.Algorithm) > 0 {
		name = l.Hash.Algorithm.String()
	}
	if l.hash = hashes[name]; l.hash == nil {
		return nil, errNotPBES2
	}
	if l.Iterations > maxIterations {
		return nil, fmt.Errorf("the key wants more than %d rounds of PBKDF2 for its password; %s", maxIterations, convert)
	}
	if l.Iterations < 1 || l.Length != 0 && l.Length != l.size ||
		len(l.iv) != aes.BlockSize || len(l.data) == 0 || len(l.data)%aes.BlockSize != 0 {
		return nil, errNotPKCS8
	}
	return l, nil
}

func unmarshal(raw asn1.RawValue, into any) error {
	rest, err := asn1.Unmarshal(raw.FullBytes, into)
	if err == nil && len(rest) > 0 {
		err = errNotPKCS8
	}
	return err
}

// decrypt opens an encrypted PKCS#8 key.
func decrypt(der []byte, password credential.Secret) ([]byte, error) {
	l, err := parseLock(der)
	switch {
	case err != nil:
		return nil, err
	case password.Empty():
		return nil, errNoPassword
	}
	key, err := pbkdf2.Key(l.hash, password.Reveal(), l.Salt, l.Iterations, l.size)
	if err != nil { // not in FIPS 140-3 mode with a salt this short
		return nil, errNotPBES2
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	plain := slices.Clone(l.data)
	cipher.NewCBCDecrypter(block, l.iv).CryptBlocks(plain, plain)
	padding := int(plain[len(plain)-1])
	if padding == 0 || padding > aes.BlockSize {
		return nil, errWrongPassword
	}
	return plain[:len(plain)-padding], nil
}
