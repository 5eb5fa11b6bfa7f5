package rolesanywhere

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/purser-agent/purser/pkg/upstream"
)

// maxChain bounds the certificates between ours and the trust anchor: they are sent in
// a header.
const maxChain = 8

// An identity is a certificate with its key and what leads to the trust anchor, all read
// at one time.
type identity struct {
	leaf  *x509.Certificate
	chain []*x509.Certificate
	key   signer
}

// load reads the files. Its errors begin with their keys.
func (o *Options) load() (*identity, error) {
	leaf, chain, err := o.loadCertificates()
	if err != nil {
		return nil, err
	}
	key, err := o.loadKey()
	if err != nil {
		return nil, err
	}
	public, comparable := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !comparable || !public.Equal(key.Public()) {
		return nil, fmt.Errorf("key: %s does not belong to the certificate in %s; was only one of them replaced?", o.Key, o.Certificate)
	}
	return &identity{leaf: leaf, chain: chain, key: key}, nil
}

func (o *Options) loadCertificates() (leaf *x509.Certificate, chain []*x509.Certificate, err error) {
	text, err := upstream.ReadFile(o.Certificate)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate: %w", err)
	}
	all, err := upstream.ParseCertificates(text)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate: %s: %w", o.Certificate, err)
	}
	if err := suitable(all[0]); err != nil {
		return nil, nil, fmt.Errorf("certificate: %s: %w", o.Certificate, err)
	}
	if o.Chain != "" {
		text, err := upstream.ReadFile(o.Chain)
		if err != nil {
			return nil, nil, fmt.Errorf("chain: %w", err)
		}
		more, err := upstream.ParseCertificates(text)
		if err != nil {
			return nil, nil, fmt.Errorf("chain: %s: %w", o.Chain, err)
		}
		all = append(all, more...)
	}
	chain = intermediates(all)
	if len(chain) > maxChain {
		return nil, nil, fmt.Errorf("chain: there are %d certificates besides our own, at most %d are sent", len(chain), maxChain)
	}
	return all[0], chain, nil
}

// intermediates are the certificates after the first, each once, without roots: the
// service knows its trust anchor itself.
func intermediates(all []*x509.Certificate) (chain []*x509.Certificate) {
	for i, c := range all {
		root := string(c.RawSubject) == string(c.RawIssuer)
		if !root && !slices.ContainsFunc(all[:i], c.Equal) && i > 0 {
			chain = append(chain, c)
		}
	}
	return chain
}

// suitable reports what Roles Anywhere accepts from no certificate. Its dates are
// another matter: they change without the file.
func suitable(c *x509.Certificate) error {
	switch {
	case c.IsCA:
		return errors.New("the first certificate is that of an authority, which Roles Anywhere does not accept; put our own first")
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return errors.New("the certificate's key usage does not include digital signatures; have it issued with that")
	case slices.Contains([]x509.SignatureAlgorithm{x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1}, c.SignatureAlgorithm):
		return errors.New("the certificate is signed with MD5 or SHA-1, which Roles Anywhere does not accept; have it issued with SHA-256")
	}
	return nil
}

// current reports why the certificate cannot be used at a time.
func (id *identity) current(file string, now time.Time) error {
	switch {
	case now.After(id.leaf.NotAfter):
		return fmt.Errorf("the certificate in %s expired on %s; put a new one and its key there", file, stamp(id.leaf.NotAfter))
	case now.Before(id.leaf.NotBefore):
		return fmt.Errorf("the certificate in %s is not valid before %s; is the clock of this host right?", file, stamp(id.leaf.NotBefore))
	}
	return nil
}

// longestNotice is how long before its end at most a certificate is warned about.
const longestNotice = 30 * 24 * time.Hour

// ending reports whether less than a fifth of the certificate's life is left, and how
// much: those who renew certificates do so earlier.
func (id *identity) ending(now time.Time) (left time.Duration, soon bool) {
	notice := min(id.leaf.NotAfter.Sub(id.leaf.NotBefore)/5, longestNotice)
	left = id.leaf.NotAfter.Sub(now).Round(time.Minute)
	return left, left <= notice
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
