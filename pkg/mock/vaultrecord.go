package mock

import (
	"maps"
	"net/http"
	"regexp"
	"time"
)

// A VaultRecord tells what a Vault was asked and did. It has no secrets.
type VaultRecord struct {
	Logins          map[string]int `json:"logins"`         // that were granted, by path: auth/approle/login
	LoginsRefused   map[string]int `json:"logins_refused"` // for whatever reason
	Reads           map[string]int `json:"reads"`          // by path: aws/creds/web; those that reached the engine
	Renewals        int            `json:"renewals"`       // of tokens
	RenewalsRefused int            `json:"renewals_refused"`
	TokensRevoked   int            `json:"tokens_revoked"` // by clients
	LeasesMade      int            `json:"leases_made"`
	LeasesRenewed   int            `json:"leases_renewed"`
	LeasesRevoked   int            `json:"leases_revoked"` // by clients
	LeasesEnded     int            `json:"leases_ended"`   // before their time: these, and those of tokens that ended
	Wraps           int            `json:"wraps"`
	Unwraps         int            `json:"unwraps"`
	UnwrapsRefused  int            `json:"unwraps_refused"`
	Tokens          int            `json:"tokens"` // that there are now
	Leases          int            `json:"leases"` // that there are now
	Latest          []VaultRequest `json:"latest"` // at most a thousand, the oldest first
}

// A VaultRequest is one that reached the server behind the faults of the connection.
type VaultRequest struct {
	Time      time.Time `json:"time"`
	Method    string    `json:"method"`
	Path      string    `json:"path"` // below /v1/, as sent
	Query     string    `json:"query,omitempty"`
	Namespace string    `json:"namespace,omitempty"` // X-Vault-Namespace
	Marked    bool      `json:"marked"`              // there was X-Vault-Request: true
	WrapTTL   string    `json:"wrap_ttl,omitempty"`
	Agent     string    `json:"agent,omitempty"` // User-Agent
	Status    int       `json:"status"`
}

// Record returns a copy of the record.
func (v *Vault) Record() VaultRecord {
	v.state.Lock()
	defer v.state.Unlock()
	r := v.record
	r.Logins, r.LoginsRefused, r.Reads = maps.Clone(r.Logins), maps.Clone(r.LoginsRefused), maps.Clone(r.Reads)
	r.Latest = append([]VaultRequest{}, r.Latest...)
	now := time.Now()
	for _, token := range v.tokens {
		if v.alive(token.id, now) != nil {
			r.Tokens++
		}
	}
	for _, lease := range v.leases {
		if now.Before(lease.ends) {
			r.Leases++
		}
	}
	return r
}

// ResetRecord begins the record anew.
func (v *Vault) ResetRecord() {
	v.change(func() {
		v.record = VaultRecord{Logins: map[string]int{}, LoginsRefused: map[string]int{}, Reads: map[string]int{}}
	})
}

var loginPath = regexp.MustCompile(`(^|/)auth/.+/login(/|$)`)

// note keeps a request. The caller holds state.
func (v *Vault) note(c *vaultCall, path string, status int) {
	r, limit := c.r, func(text string) string { return text[:min(len(text), maxText)] }
	v.record.Latest = withLatest(v.record.Latest, VaultRequest{
		Time: c.now, Method: r.Method, Path: limit(path), Query: limit(r.URL.RawQuery), Namespace: limit(r.Header.Get("X-Vault-Namespace")),
		Marked: r.Header.Get("X-Vault-Request") == "true", WrapTTL: limit(r.Header.Get("X-Vault-Wrap-TTL")), Agent: limit(r.UserAgent()), Status: status,
	})
	refused := v.record.LoginsRefused
	if _, known := refused[path]; status >= http.StatusBadRequest && loginPath.MatchString(path) && (known || len(refused) < maxNames) {
		refused[path]++
	}
}
