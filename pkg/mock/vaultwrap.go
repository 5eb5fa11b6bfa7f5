package mock

import (
	"crypto/rand"
	"net/http"
	"time"
)

// A vaultWrap is an answer that waits to be unwrapped, once.
type vaultWrap struct {
	content *envelope
	path    string // of the call that made it
	made    time.Time
	ttl     time.Duration
}

// A wrapInfo is the part of an envelope that a wrapped answer fills.
type wrapInfo struct {
	Token           string `json:"token"`
	Accessor        string `json:"accessor"`
	TTL             int64  `json:"ttl"`
	CreationTime    string `json:"creation_time"`
	CreationPath    string `json:"creation_path"`
	WrappedAccessor string `json:"wrapped_accessor,omitempty"`
}

// seal puts an answer into a wrap.
func (v *Vault) seal(c *vaultCall, content *envelope) *envelope {
	return v.wrapUp(&vaultWrap{content: content, path: c.namespace + c.path, made: c.now, ttl: c.wrap})
}

func (v *Vault) wrapUp(wrap *vaultWrap) *envelope {
	if len(v.wraps) >= maxVault {
		clear(v.wraps)
	}
	token := v.tokenID(false)
	v.wraps[token] = wrap
	v.record.Wraps++
	env := with(nil)
	env.WrapInfo = &wrapInfo{
		Token: token, Accessor: rand.Text()[:24], TTL: int64(wrap.ttl / time.Second),
		CreationTime: stamp(wrap.made), CreationPath: wrap.path,
	}
	env.WrapInfo.WrappedAccessor, _ = wrap.content.Data["secret_id_accessor"].(string)
	if wrap.content.Auth != nil {
		env.WrapInfo.WrappedAccessor = wrap.content.Auth.Accessor
	}
	return env
}

// wrapped returns a wrap that was not yet opened.
func (v *Vault) wrapped(token string, now time.Time) (*vaultWrap, bool) {
	wrap, ok := v.wraps[token]
	if ok && !now.Before(wrap.made.Add(wrap.ttl)) {
		delete(v.wraps, token)
		ok = false
	}
	return wrap, ok
}

// wrapping answers sys/wrapping/.
func (v *Vault) wrapping(c *vaultCall, what string) (*envelope, *vaultError) {
	if refusal := c.only(canUpdate); refusal != nil && (what != "lookup" || c.does != canRead) {
		return nil, refusal
	}
	switch {
	case what == "lookup" || what == "unwrap":
		return v.opened(c, what)
	case what != "wrap":
		return nil, errPath
	case c.wrap == 0:
		return nil, refuse(http.StatusBadRequest, "endpoint requires response wrapping to be used")
	}
	env := with(c.fields)
	env.inject = true
	return env, nil
}

// opened looks into a wrap or opens it. Its token is in the body, or the one that the
// caller shows.
func (v *Vault) opened(c *vaultCall, what string) (*envelope, *vaultError) {
	header, token := clientToken(c.r), c.text("token")
	if token == "" {
		token = header
	}
	wrap, ok := v.wrapped(token, c.now)
	switch {
	case token == "":
		return nil, refuse(http.StatusForbidden, "error validating wrapping token: token is empty")
	case !ok:
		v.record.UnwrapsRefused++
		return nil, refuse(http.StatusBadRequest, "wrapping token is not valid or does not exist")
	case what == "lookup":
		return with(map[string]any{
			"creation_path": wrap.path, "creation_time": stamp(wrap.made), "creation_ttl": int64(wrap.ttl / time.Second),
		}), nil
	case header == c.text("token"): // it pays for itself, and is gone
		delete(v.wraps, token)
		return nil, refuse(http.StatusInternalServerError, "1 error occurred:\n\t* error decrementing wrapping token's use-count: invalid token entry provided for use count decrementing\n\n")
	case header != token && v.alive(header, c.now) == nil:
		return nil, errDenied
	}
	delete(v.wraps, token)
	v.record.Unwraps++
	return wrap.content, nil
}
