package mock

import (
	"net/http"
	"slices"
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
		Token: token, Accessor: vaultID(), TTL: int64(wrap.ttl / time.Second),
		CreationTime: wrap.made.UTC().Format(time.RFC3339Nano), CreationPath: wrap.path,
	}
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
	if !slices.Contains([]string{"lookup", "unwrap", "rewrap", "wrap"}, what) {
		return nil, errPath
	}
	if refusal := c.only(canUpdate); refusal != nil && (what != "lookup" || c.does != canRead) {
		return nil, refusal
	}
	header, body := clientToken(c.r), c.text("token")
	if what == "wrap" {
		if c.wrap == 0 {
			return nil, refuse(http.StatusBadRequest, "endpoint requires response wrapping to be used")
		}
		return with(c.fields), nil
	}
	token := body
	if token == "" {
		token = header
	}
	wrap, ok := v.wrapped(token, c.now)
	switch {
	case !ok:
		v.record.UnwrapsRefused++
		return nil, refuse(http.StatusBadRequest, "wrapping token is not valid or does not exist")
	case what == "lookup":
		return with(map[string]any{
			"creation_path": wrap.path, "creation_time": wrap.made.UTC().Format(time.RFC3339Nano), "creation_ttl": int64(wrap.ttl / time.Second),
		}), nil
	case what == "unwrap" && header == body: // it pays for itself, and is gone
		delete(v.wraps, token)
		return nil, refuse(http.StatusInternalServerError, "1 error occurred:\n\t* internal error\n\n")
	case body != "" && header != "" && v.alive(header, c.now) == nil:
		return nil, errDenied
	}
	delete(v.wraps, token)
	if what == "rewrap" {
		return v.wrapUp(&vaultWrap{content: wrap.content, path: wrap.path, made: c.now, ttl: wrap.ttl}), nil
	}
	v.record.Unwraps++
	content := *wrap.content
	content.RequestID = vaultID()
	return &content, nil
}
