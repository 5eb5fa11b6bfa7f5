package imds

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/purser-agent/purser/pkg/frontend"
)

// TokenKeyBytes is the length of the key that signs session tokens.
const TokenKeyBytes = 32

// A session token is its own record: eight bytes that say when it ends, and their
// HMAC-SHA-256. There is no table, so nothing fills up and any number of callers can
// make any number of tokens. The upper 42 bits of the eight bytes are the end in
// milliseconds of Unix time, since an SDK that was promised a second should get a
// second; the rest is random, only so that two tokens of one moment differ.
const (
	stampBytes  = 8
	randomBits  = 22
	tokenBytes  = stampBytes + sha256.Size
	tokenLength = (tokenBytes + 2) / 3 * 4 // characters in base64
)

// The longest life of a session token, in seconds, as on EC2.
const longestLife = 21600

// Strict makes every character count: otherwise four bits of the last one could be
// changed without harm.
var tokenEncoding = base64.URLEncoding.Strict()

var (
	errTokenWrong   = errors.New("the session token is not one of ours")
	errTokenExpired = errors.New("the session token has expired")
)

// tokens makes and checks session tokens without allocating.
type tokens struct{ workspaces *sync.Pool }

// A tokenWorkspace is what one token needs while it is made or checked.
type tokenWorkspace struct {
	mac  hash.Hash
	text [tokenLength]byte
	raw  [tokenLength / 4 * 3]byte // what as many characters without padding would decode to
	sum  [sha256.Size]byte
}

func newTokens(key []byte) tokens {
	key = append([]byte(nil), key...)
	return tokens{&sync.Pool{New: func() any { return &tokenWorkspace{mac: hmac.New(sha256.New, key)} }}}
}

// sign computes the HMAC of a stamp into s.sum.
func (s *tokenWorkspace) sign(stamp []byte) []byte {
	s.mac.Reset()
	s.mac.Write(stamp)
	return s.mac.Sum(s.sum[:0])
}

// appendNew appends a token that is good until the given moment.
func (t tokens) appendNew(dst []byte, until time.Time) []byte {
	s := t.workspaces.Get().(*tokenWorkspace)
	defer t.workspaces.Put(s)
	stamp := uint64(until.UnixMilli())<<randomBits | rand.Uint64N(1<<randomBits)
	binary.BigEndian.PutUint64(s.raw[:stampBytes], stamp)
	copy(s.raw[stampBytes:], s.sign(s.raw[:stampBytes]))
	return tokenEncoding.AppendEncode(dst, s.raw[:tokenBytes])
}

// check returns how long a token is still good for.
func (t tokens) check(text string, now time.Time) (time.Duration, error) {
	if len(text) != tokenLength {
		return 0, errTokenWrong
	}
	s := t.workspaces.Get().(*tokenWorkspace)
	defer t.workspaces.Put(s)
	copy(s.text[:], text)
	n, err := tokenEncoding.Decode(s.raw[:], s.text[:])
	if err != nil || n != tokenBytes || !hmac.Equal(s.sign(s.raw[:stampBytes]), s.raw[stampBytes:tokenBytes]) {
		return 0, errTokenWrong
	}
	end := int64(binary.BigEndian.Uint64(s.raw[:stampBytes]) >> randomBits)
	remaining := time.Duration(end-now.UnixMilli()) * time.Millisecond
	if remaining <= 0 {
		return 0, errTokenExpired
	}
	return remaining, nil
}

// putToken answers on the token path.
func (f *Frontend) putToken(e *exchange) {
	switch e.r.Method {
	case http.MethodPut:
	case http.MethodOptions:
		e.empty(http.StatusOK, allowToken, frontend.Listed, "")
		return
	default:
		e.empty(http.StatusMethodNotAllowed, allowToken, frontend.Invalid, "session tokens are made by PUT")
		return
	}
	life, ok := parseLife(e.r.Header[lifeHeader])
	if !ok {
		e.page(http.StatusBadRequest, frontend.Invalid, "the session token's lifetime is missing or not within 1 to 21600 seconds")
		return
	}
	b := frontend.NewBuffer()
	defer b.Free()
	b.Text = f.tokens.appendNew(b.Text, time.Now().Add(life))
	e.session = seconds(life)
	e.outcome.Decision = frontend.Listed
	e.send(http.StatusOK, textPlain, b.Text, nil)
}

// parseLife reads the lifetime that a PUT asks for. It must be there once, in plain
// digits: the real service has no default and takes no sign.
func parseLife(values []string) (time.Duration, bool) {
	if len(values) != 1 || len(values[0]) > len("21600") || strings.Trim(values[0], "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(values[0])
	return time.Duration(n) * time.Second, err == nil && n >= 1 && n <= longestLife
}

// seconds is the value of the header that says how long a token is still good for.
// It is rounded up, so that a token which was just made has its whole life.
func seconds(remaining time.Duration) []string {
	return []string{strconv.FormatInt(int64((remaining+time.Second-1)/time.Second), 10)}
}
