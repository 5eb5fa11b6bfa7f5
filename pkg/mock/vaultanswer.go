package mock

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// answer makes the reply to a request, in the order in which a server looks at it: its
// own state, the namespace, the token, the policy, the path.
func (v *Vault) answer(w http.ResponseWriter, c *vaultCall) reply {
	v.state.Lock()
	defer v.state.Unlock()
	writeHeaders(w)
	path, ok := strings.CutPrefix(c.r.URL.Path, "/v1/")
	if !ok {
		return reply{status: http.StatusNotFound, contentType: "text/plain; charset=utf-8", body: []byte("404 page not found\n")}
	}
	c.now = time.Now().Add(c.hits.skew())
	env, refusal := v.process(c, path)
	var rep reply
	if refusal != nil {
		rep = refusal.reply()
	} else {
		rep = env.reply()
	}
	if age, ok := c.hits.find(Age); ok {
		rep.header = maps.Clone(rep.header)
		if rep.header == nil {
			rep.header = http.Header{}
		}
		rep.header.Set("Age", strconv.Itoa(int(age.Time.Seconds())))
	}
	v.note(c, path, rep.status)
	rep.listed = true
	return rep
}

// process is answer without the envelope.
func (v *Vault) process(c *vaultCall, path string) (*envelope, *vaultError) {
	switch path {
	case "sys/health":
		return v.healthOf(c), nil
	case "sys/seal-status":
		return v.sealStatus(c), nil
	}
	if refusal := v.available(c); refusal != nil {
		return nil, refusal
	}
	ok := false
	if c.namespace, c.path, ok = v.split(c.r, path); !ok {
		return nil, refuse(http.StatusNotFound, "namespace not found")
	}
	if v.closed[c.namespace] {
		return nil, errSealed
	}
	if refusal := c.read(); refusal != nil {
		return nil, refusal
	}
	if c.does == canList && !strings.HasSuffix(c.path, "/") {
		c.path += "/"
	}
	c.mount, _, c.below = v.find(c.namespace + c.path)
	if text := c.r.Header.Get("X-Vault-Wrap-TTL"); text != "" {
		if c.wrap = vaultTime(text); c.wrap == 0 {
			return nil, refuse(http.StatusBadRequest, "error parsing X-Vault-Wrap-TTL header: time: invalid duration %q", text)
		}
		if c.wrap < 0 {
			return nil, refuse(http.StatusBadRequest, "error parsing X-Vault-Wrap-TTL header: requested wrap ttl cannot be negative")
		}
	}
	if !v.open(c) {
		if refusal := v.authenticate(c); refusal != nil {
			return nil, refusal
		}
	}
	env, refusal := v.route(c)
	if refusal != nil {
		return nil, refusal
	}
	if env == nil {
		return nil, nil
	}
	if lease := v.leases[env.LeaseID]; lease != nil && c.token != nil && c.token.spent {
		v.endLease(lease)
		return nil, refuse(http.StatusBadRequest, "Secret cannot be returned; token had one use left, so leased credentials were immediately revoked.")
	}
	if env.WrapInfo == nil {
		env.RequestID = vaultID()
	}
	if v.o.Newer {
		env.MountType = v.mounts[c.mount].kind
	}
	if c.wrap > 0 && env.WrapInfo == nil && env.status == 0 && c.path != "sys/wrapping/lookup" {
		env = v.seal(c, env)
	}
	return env, nil
}

// available is the server's state, true or as a fault.
func (v *Vault) available(c *vaultCall) *vaultError {
	switch {
	case v.sealed || v.blank || c.hits.has(Sealed) || c.hits.has(Uninitialized):
		return errSealed
	case c.hits.has(NoLeader) || v.standby && v.leader == "":
		return refuse(http.StatusInternalServerError, "local node not active but active cluster node not found")
	case v.standby:
		return &vaultError{status: http.StatusTemporaryRedirect, header: http.Header{"Location": {v.leader + c.r.URL.RequestURI()}}}
	}
	if c.hits.has(LeaseQuota) {
		return refuse(http.StatusTooManyRequests, "1 error occurred:\n\t* request path %q: lease count quota exceeded\n\n", strings.TrimPrefix(c.r.URL.Path, "/v1/"))
	}
	if quota, ok := c.hits.find(Quota); ok {
		refusal := refuse(http.StatusTooManyRequests, "request path %q: rate limit quota exceeded", strings.TrimPrefix(c.r.URL.Path, "/v1/"))
		if wait := quota.RetryAfter; wait > 0 {
			text := strconv.Itoa(int(wait.Seconds()))
			refusal.header = http.Header{"Retry-After": {text}, "X-Ratelimit-Limit": {"1"}, "X-Ratelimit-Remaining": {"0"}, "X-Ratelimit-Reset": {text}}
		}
		return refusal
	}
	return nil
}

// open reports whether a call needs no token: logins, and what is done with the token
// of a wrap.
func (v *Vault) open(c *vaultCall) bool {
	below, kind := c.below, v.mounts[c.mount].kind
	switch {
	case kind == "userpass" || kind == "ldap":
		return strings.HasPrefix(below, "login/")
	case strings.HasPrefix(c.path, "auth/") && kind != "token" && kind != "":
		return below == "login"
	case kind == "identity":
		return strings.HasPrefix(below, "oidc/.well-known/")
	}
	return c.path == "sys/wrapping/lookup" || c.path == "sys/wrapping/unwrap"
}

// clientToken is the one of the headers.
func clientToken(r *http.Request) string {
	bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return cmp.Or(r.Header.Get("X-Vault-Token"), bearer)
}

// authenticate finds the token of a call, counts its use, and checks where it may be
// used and for what.
func (v *Vault) authenticate(c *vaultCall) *vaultError {
	token := v.alive(clientToken(c.r), c.now)
	_, wrapped := v.wrapped(clientToken(c.r), c.now)
	switch {
	case wrapped: // the token of a wrap is for that alone
		return errPolicy
	case token == nil, c.hits.has(Forbidden):
		return errDenied
	case !fromOneOf(c.r.RemoteAddr, token.grant.BoundCIDRs):
		return errDenied
	case !strings.HasPrefix(c.namespace+c.path, token.namespace):
		return errDenied
	}
	c.token = token
	if token.usesLeft > 0 {
		token.usesLeft--
		token.spent = token.usesLeft == 0
	}
	if strings.HasPrefix(c.path, "sys/internal/ui/mounts/") { // which decides for itself
		return nil
	}
	return v.permit(c)
}

// route leads a call to what is at its path.
func (v *Vault) route(c *vaultCall) (*envelope, *vaultError) {
	if below, ok := strings.CutPrefix(c.path, "sys/"); ok {
		return v.system(c, below)
	}
	mount := v.mounts[c.mount]
	switch mount.kind {
	case "token":
		return v.tokenCall(c)
	case "approle":
		return v.appRole(c)
	case "userpass", "ldap":
		return v.passwordLogin(c)
	case "jwt", "kubernetes":
		return v.jwtLogin(c)
	case "cert":
		return v.certLogin(c)
	case "aws-login":
		return v.awsLogin(c)
	case "kerberos":
		return v.kerberosLogin(c)
	case "aws":
		return v.aws(c)
	case "kv":
		return v.readKV(c, mount.version)
	case "identity":
		return v.identity(c)
	}
	return nil, refuse(http.StatusNotFound, "no handler for route %q. route entry not found.", c.path)
}

// only is an error for a call that does something else than what a path can.
func (c *vaultCall) only(does ...string) *vaultError {
	switch {
	case slices.Contains(does, c.does):
		return nil
	case c.token == nil: // a login
		return refuse(http.StatusMethodNotAllowed, "unsupported operation")
	}
	return errVerb
}
