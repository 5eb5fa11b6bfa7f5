// Package handover carries what Purser has in memory over a restart of its service:
// by systemd's file-descriptor store (sd_notify(3), FDSTORE=1), in a sealed memory file
// that belongs to no file system; where the host has swap, its pages may be written
// there. It is stored at every change, so that the next process finds it after a crash
// as well.
//
// What there is to carry, and whether it still fits the configuration, is left to
// cmd/purser. Started by anything but systemd, nothing is carried.
package handover

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
)

// A State is what one process leaves to the next. It is full of secrets.
type State struct {
	Saved         time.Time           `json:"saved"`
	Serial        uint64              `json:"serial"`         // grows with each that is stored
	SessionTokens []byte              `json:"session_tokens"` // the key that signs them
	Upstreams     map[string]Upstream `json:"upstreams"`
}

// An Upstream is what one of them has given.
type Upstream struct {
	Credentials []Credential `json:"-"` // each in a line of its own
	// Session is what the upstream's kind made of its session, and SessionIdentity
	// the digest of the section that it belongs to.
	Session         []byte `json:"session,omitempty"`
	SessionIdentity string `json:"session_identity,omitempty"`
}

// A Credential is one of them with its key. Both values are nil for one that was
// granted and not in stock.
type Credential struct {
	Name     string    `json:"name"`
	Variant  string    `json:"variant,omitempty"`
	Identity string    `json:"identity"` // the digest of the section that it belongs to
	Fetched  time.Time `json:"fetched"`
	OnDemand bool      `json:"on_demand,omitempty"`

	AWS   *AWS   `json:"aws,omitempty"`
	Token *Token `json:"token,omitempty"`
}

// AWS is a credential.AWS with its secrets in the open.
type AWS struct {
	AccessKeyID     string    `json:"access_key_id"`
	SecretAccessKey string    `json:"secret_access_key"`
	SessionToken    string    `json:"session_token"`
	AccountID       string    `json:"account_id"`
	RoleARN         string    `json:"role_arn"`
	Issued          time.Time `json:"issued"`
	Expires         time.Time `json:"expires"`
}

// Token is a credential.Token with its secret in the open.
type Token struct {
	Value   string    `json:"value"`
	Type    string    `json:"type"`
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
}

// Key is the credential's.
func (c *Credential) Key() credential.Key { return credential.Key{Name: c.Name, Variant: c.Variant} }

// Set puts a value in the open. A kind of credential that is not known here is left
// out: it will be fetched again.
func (c *Credential) Set(value credential.Credential) {
	switch v := value.(type) {
	case *credential.AWS:
		c.AWS = &AWS{v.AccessKeyID, v.SecretAccessKey.Reveal(), v.SessionToken.Reveal(), v.AccountID, v.RoleARN, v.Issued, v.Expires}
	case *credential.Token:
		c.Token = &Token{v.Value.Reveal(), v.Type, v.Issued, v.Expires}
	}
}

// Value is the credential, nil if there is none.
func (c *Credential) Value() credential.Credential {
	switch {
	case c.AWS != nil:
		return &credential.AWS{
			AccessKeyID: c.AWS.AccessKeyID, AccountID: c.AWS.AccountID, RoleARN: c.AWS.RoleARN, Issued: c.AWS.Issued, Expires: c.AWS.Expires,
			SecretAccessKey: credential.NewSecret(c.AWS.SecretAccessKey), SessionToken: credential.NewSecret(c.AWS.SessionToken),
		}
	case c.Token != nil:
		return &credential.Token{Value: credential.NewSecret(c.Token.Value), Type: c.Token.Type, Issued: c.Token.Issued, Expires: c.Token.Expires}
	}
	return nil
}

// The form is a line that names it and its version, the SHA-256 of the rest, and lines of
// JSON: the State, then each Credential. Another version is not read: what it would have
// given is fetched again.
const heading = "purser handover 2\n"

// body is where the lines begin.
const body = len(heading) + sha256.Size

// maxState bounds what is stored and read, in bytes: a hundred thousand credentials.
const maxState = 256 << 20

// A line is one credential of an upstream.
type line struct {
	Upstream string `json:"upstream"`
	Credential
}

// encode writes a state to an empty file, line by line, so that the whole of it is in
// memory only once.
func encode(s *State, file *os.File) error {
	if _, err := file.Write(make([]byte, body)); err != nil {
		return err
	}
	sum := sha256.New()
	written := bufio.NewWriterSize(io.MultiWriter(file, sum), 64<<10)
	lines := json.NewEncoder(written)
	if err := lines.Encode(s); err != nil {
		return err
	}
	for name, u := range s.Upstreams {
		for _, c := range u.Credentials {
			if err := lines.Encode(line{name, c}); err != nil {
				return err
			}
		}
	}
	if err := written.Flush(); err != nil {
		return err
	}
	if _, err := file.WriteAt(sum.Sum([]byte(heading)), 0); err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil && info.Size() > maxState {
		err = fmt.Errorf("%d bytes are more than are carried over a restart", info.Size())
	}
	return err
}

// decode reads what encode wrote, of that many bytes. No error quotes any of it.
func decode(file io.ReaderAt, size int64) (*State, error) {
	start := make([]byte, body)
	n, err := file.ReadAt(start, 0)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, err
	case !bytes.HasPrefix(start[:n], []byte(heading)):
		return nil, errors.New("it was made by another version of Purser")
	case n < body:
		return nil, errors.New("it is cut off")
	}
	rest := io.NewSectionReader(file, int64(body), size-int64(body))
	sum := sha256.New()
	if _, err := io.Copy(sum, rest); err != nil {
		return nil, err
	}
	if !bytes.Equal(sum.Sum(nil), start[len(heading):]) {
		return nil, errors.New("it is damaged: its checksum is another")
	}
	if _, err := rest.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	s := &State{}
	if parse(rest, s) != nil { // whose error could quote it
		return nil, errors.New("it is not what Purser writes")
	}
	return s, nil
}

// parse reads the lines.
func parse(r io.Reader, s *State) error {
	lines := json.NewDecoder(r)
	if err := lines.Decode(s); err != nil {
		return err
	}
	for {
		var l line
		if err := lines.Decode(&l); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		u, ok := s.Upstreams[l.Upstream]
		if !ok {
			return fmt.Errorf("no upstream %q", l.Upstream)
		}
		u.Credentials = append(u.Credentials, l.Credential)
		s.Upstreams[l.Upstream] = u
	}
}
