package mock

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// IMSOptions say what an IMS has. The zero value is one under /latest with the role
// test_role and lifetimes of an hour.
type IMSOptions struct {
	Prefix   string        // "/latest" if empty, "/" for none
	Roles    []Role        // test_role if empty
	Lifetime time.Duration // of roles that have none of their own; an hour if zero
	// Cache is how long the same document is handed out again, as a service does
	// that caches; zero makes new keys for each request.
	Cache time.Duration
	Keys  *Keys          // remembers the keys, for an STS that shall know them; may be nil
	Log   zerolog.Logger // one line per request; the zero value writes none
}

// A Role is what an IMS hands out keys for.
type Role struct {
	Name     string
	Lifetime time.Duration // of its keys; zero for the IMS's own
}

// ParseRole reads NAME or NAME:LIFETIME. A colon cannot be part of an IAM role's
// name.
func ParseRole(text string) (Role, error) {
	name, lifetime, limited := strings.Cut(text, ":")
	role := Role{Name: name}
	if name == "" {
		return Role{}, fmt.Errorf("role %q has no name", text)
	}
	if limited {
		var err error
		if role.Lifetime, err = time.ParseDuration(lifetime); err != nil || role.Lifetime <= 0 {
			return Role{}, fmt.Errorf("role %q: %q is not a lifetime such as 15m", text, lifetime)
		}
	}
	return role, nil
}

// UnmarshalText is ParseRole, for JSON.
func (r *Role) UnmarshalText(text []byte) error {
	parsed, err := ParseRole(string(text))
	*r = parsed
	return err
}

// Roles returns n roles: test_role, test_role_2 and so on.
func Roles(n int) []Role {
	roles := make([]Role, 0, n)
	for i := range n {
		name := "test_role"
		if i > 0 {
			name = fmt.Sprintf("test_role_%d", i+1)
		}
		roles = append(roles, Role{Name: name})
	}
	return roles
}

const securityCredentials = "/meta-data/iam/security-credentials/"

// An IMS answers like the federation proxy that alppaca asks (AFP, its machine API):
// the list of roles, a role's document, and 200 with nothing for another role. Below
// ControlPath it takes orders, also for roles: PUT /_mock/roles with a JSON list of
// texts as ParseRole reads them.
type IMS struct {
	Control

	prefix   string
	lifetime time.Duration
	cache    time.Duration
	keyring  *Keys

	granted   sync.Mutex
	roles     []Role
	lifetimes map[string]time.Duration // of the roles' keys
	made      map[string]document      // by role, if there is a cache
}

// NewIMS returns an IMS, an http.Handler.
func NewIMS(o IMSOptions) *IMS {
	m := &IMS{
		Control:  Control{log: o.Log},
		prefix:   "/latest",
		lifetime: cmp.Or(o.Lifetime, time.Hour),
		cache:    o.Cache,
		keyring:  o.Keys,
	}
	if o.Prefix != "" {
		m.prefix = strings.TrimRight("/"+strings.TrimLeft(o.Prefix, "/"), "/")
	}
	if len(o.Roles) == 0 {
		o.Roles = Roles(1)
	}
	m.SetRoles(o.Roles...)
	return m
}

// SetRoles replaces the roles. It is safe while the IMS serves.
func (m *IMS) SetRoles(roles ...Role) {
	m.granted.Lock()
	defer m.granted.Unlock()
	m.roles = slices.Clone(roles)
	m.lifetimes, m.made = map[string]time.Duration{}, map[string]document{}
	for _, role := range roles {
		m.lifetimes[role.Name] = cmp.Or(role.Lifetime, m.lifetime)
	}
}

// URL returns the base URL for a client, given the server's.
func (m *IMS) URL(server string) string { return server + m.prefix }

// ServeHTTP implements http.Handler.
func (m *IMS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	role, isBelow := strings.CutPrefix(path, m.prefix+securityCredentials)
	switch {
	case path == ControlPath+"roles" && r.Method == http.MethodPut:
		var roles []Role
		if readJSON(w, r, &roles) {
			m.SetRoles(roles...)
			w.WriteHeader(http.StatusNoContent)
		}
	case strings.HasPrefix(path, ControlPath):
		m.serveControl(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		m.serve(w, r, "", "", func(faults) reply { return failure(http.StatusMethodNotAllowed) })
	case isBelow && role == "":
		m.serve(w, r, List, "", m.list)
	case isBelow:
		m.serve(w, r, Credentials, role, func(hits faults) reply { return m.document(role, hits) })
	case path == m.prefix+"/status":
		m.serve(w, r, "", "", func(faults) reply {
			return reply{status: http.StatusOK, contentType: "application/json", body: []byte(`{"status": "200", "message": "OK"}`)}
		})
	default:
		m.serve(w, r, "", "", func(faults) reply { return failure(http.StatusNotFound) })
	}
}

// list answers names joined by newlines with none at the end, as alppaca does.
func (m *IMS) list(hits faults) reply {
	m.granted.Lock()
	defer m.granted.Unlock()
	names := []string{}
	for _, role := range m.roles {
		gone := slices.ContainsFunc(hits, func(f Fault) bool {
			return f.Kind == Vanished && (f.Role == "" || f.Role == role.Name)
		})
		if !gone {
			names = append(names, role.Name)
		}
	}
	return text(strings.Join(names, "\n"))
}

// A document is what the instance metadata service answers for a role.
type document struct {
	Code            string
	LastUpdated     string
	Type            string
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string `json:",omitempty"`
	Token           string
	Expiration      string

	made time.Time
}

func (m *IMS) document(name string, hits faults) reply {
	if hits.has(Vanished) {
		return failure(http.StatusNotFound)
	}
	doc, lifetime, found := m.keys(name)
	if !found {
		return text("")
	}
	made := doc.made.Add(hits.skew())
	ends := made.Add(lifetime)
	if short, ok := hits.find(Short); ok {
		ends = made.Add(short.Time)
	}
	if hits.has(Expired) {
		ends = time.Now().Add(-time.Minute)
		made = ends.Add(-lifetime)
	}
	if hits.has(Incomplete) {
		doc.SecretAccessKey = ""
	}
	if hits.has(Failed) {
		doc.Code = "Failed"
	}
	doc.LastUpdated = made.UTC().Format(time.RFC3339)
	doc.Expiration = ends.UTC().Format(time.RFC3339)
	body, err := json.Marshal(doc)
	if err != nil {
		return failure(http.StatusInternalServerError)
	}
	return reply{status: http.StatusOK, contentType: "application/json", body: body}
}

// keys makes a role's keys, or takes them from the cache.
func (m *IMS) keys(name string) (document, time.Duration, bool) {
	m.granted.Lock()
	defer m.granted.Unlock()
	lifetime, found := m.lifetimes[name]
	if !found {
		return document{}, 0, false
	}
	now := time.Now()
	if doc, ok := m.made[name]; ok && now.Sub(doc.made) < m.cache {
		return doc, lifetime, true
	}
	made := m.keyring.session(name, now.Add(lifetime))
	doc := document{
		Code:            "Success",
		Type:            "AWS-HMAC",
		AccessKeyID:     made.id,
		SecretAccessKey: made.secret,
		Token:           made.token,
		made:            now,
	}
	if m.cache > 0 {
		m.made[name] = doc
	}
	return doc, lifetime, true
}
