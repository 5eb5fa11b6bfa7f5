package mock

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// An envelope is what Vault puts around every answer that has a body.
type envelope struct {
	RequestID     string         `json:"request_id"`
	LeaseID       string         `json:"lease_id"`
	Renewable     bool           `json:"renewable"`
	LeaseDuration *int64         `json:"lease_duration,omitempty"` // nil only as a fault
	Data          map[string]any `json:"data"`
	WrapInfo      *wrapInfo      `json:"wrap_info"`
	Warnings      []string       `json:"warnings"`
	Auth          *vaultAuth     `json:"auth"`
	MountType     string         `json:"mount_type,omitempty"` // of newer servers

	status int  // 200 if zero
	inject bool // the data is in the top level too
	bare   bool // the data alone, without an envelope
	header http.Header
}

// A vaultAuth is the part of an envelope that a login fills.
type vaultAuth struct {
	ClientToken    string            `json:"client_token"`
	Accessor       string            `json:"accessor"`
	Policies       []string          `json:"policies"`
	TokenPolicies  []string          `json:"token_policies"`
	Metadata       map[string]string `json:"metadata"`
	LeaseDuration  int64             `json:"lease_duration"`
	Renewable      bool              `json:"renewable"`
	EntityID       string            `json:"entity_id"`
	TokenType      string            `json:"token_type"`
	Orphan         bool              `json:"orphan"`
	MFARequirement any               `json:"mfa_requirement"`
	NumUses        int               `json:"num_uses"`
}

// A vaultError is an answer with a list of errors.
type vaultError struct {
	status int
	errors []string
	header http.Header
}

// refuse is an error with a text.
func refuse(status int, format string, args ...any) *vaultError {
	return &vaultError{status: status, errors: []string{fmt.Sprintf(format, args...)}}
}

// The errors that have more than one cause.
var (
	// errDenied is the 403 of a token that is dead, used up or in the wrong place.
	errDenied = &vaultError{status: http.StatusForbidden, errors: []string{"permission denied"}}
	// errPolicy is the 403 of a policy, or of its rule about wrapping.
	errPolicy = &vaultError{status: http.StatusForbidden, errors: []string{"1 error occurred:\n\t* permission denied\n\n"}}
	errNone   = &vaultError{status: http.StatusNotFound, errors: []string{}}
	errVerb   = &vaultError{status: http.StatusMethodNotAllowed, errors: []string{"1 error occurred:\n\t* unsupported operation\n\n"}}
	errPath   = &vaultError{status: http.StatusNotFound, errors: []string{"1 error occurred:\n\t* unsupported path\n\n"}}
	errSealed = &vaultError{status: http.StatusServiceUnavailable, errors: []string{"Vault is sealed"}}
)

func (e *vaultError) reply() reply {
	if e.errors == nil { // a redirect
		return reply{status: e.status, header: e.header}
	}
	return reply{status: e.status, contentType: "application/json", header: e.header, body: line(map[string]any{"errors": e.errors})}
}

// with is an answer with data that has no lease.
func with(data map[string]any) *envelope { return &envelope{Data: data, LeaseDuration: new(int64)} }

func (e *envelope) reply() reply {
	if e == nil {
		return reply{status: http.StatusNoContent, contentType: "application/json"}
	}
	rep := reply{status: http.StatusOK, contentType: "application/json", header: e.header}
	if e.status != 0 {
		rep.status = e.status
	}
	switch {
	case e.bare:
		rep.body = line(e.Data)
	case e.inject && e.WrapInfo == nil:
		all := maps.Clone(e.Data)
		_ = json.Unmarshal(line(e), &all) // the envelope's own fields win
		rep.body = line(all)
	default:
		rep.body = line(e)
	}
	return rep
}

// line is JSON with a newline, as Vault writes it.
func line(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		return []byte("{}\n")
	}
	return append(text, '\n')
}

// vaultID makes an identifier of the form of a UUID.
func vaultID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it cannot fail
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// seconds is a whole number of them.
func seconds(d time.Duration) *int64 { return new(int64(d / time.Second)) }

// stamp prints a time as Vault does; nothing if there is none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// What a request does, in the words of a policy.
const (
	canRead   = "read"
	canList   = "list"
	canUpdate = "update"
	canDelete = "delete"
)

// A vaultCall is a request that is being answered.
type vaultCall struct {
	r         *http.Request
	body      []byte
	cut       bool // the body ended too early
	does      string
	namespace string // with a slash at its end, or empty
	path      string // without it
	mount     string // with the namespace
	below     string // the mount
	fields    map[string]any
	now       time.Time
	hits      faults
	token     *vaultToken // nil at a login
	wrap      time.Duration
}

// maxCall bounds the body of a request, in bytes.
const maxCall = 1 << 20

// read takes in the verb, and the parameters from the body or the query.
func (c *vaultCall) read() *vaultError {
	c.fields = map[string]any{}
	query := c.r.URL.Query()
	switch c.r.Method {
	case http.MethodGet, "LIST":
		c.does = canRead
		if c.r.Method == "LIST" || query.Get("list") == "true" {
			c.does = canList
		}
	case http.MethodPost, http.MethodPut:
		c.does = canUpdate
	case http.MethodDelete:
		c.does = canDelete
	default:
		return &vaultError{status: http.StatusMethodNotAllowed, errors: []string{}}
	}
	for name := range query {
		c.fields[name] = query.Get(name)
	}
	if c.does != canUpdate {
		return nil
	}
	if len(c.body) > maxCall {
		return refuse(http.StatusRequestEntityTooLarge, "http: request body too large")
	}
	if len(bytes.TrimSpace(c.body)) == 0 && !c.cut {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(c.body))
	decoder.UseNumber()
	if c.cut || decoder.Decode(&c.fields) != nil {
		return refuse(http.StatusBadRequest, "error parsing JSON")
	}
	return nil
}

// text returns a parameter.
func (c *vaultCall) text(name string) string {
	switch value := c.fields[name].(type) {
	case string:
		return value
	case json.Number:
		return value.String()
	}
	return ""
}

// texts returns a parameter that is a list, or one text with commas.
func (c *vaultCall) texts(name string) []string {
	list, ok := c.fields[name].([]any)
	if !ok {
		if text := c.text(name); text != "" {
			return strings.Split(text, ",")
		}
		return nil
	}
	texts := make([]string, 0, len(list))
	for _, one := range list {
		if text, ok := one.(string); ok {
			texts = append(texts, text)
		}
	}
	return texts
}

// time returns a parameter that is a number of seconds or has a unit; zero if it is
// neither.
func (c *vaultCall) time(name string) time.Duration { return vaultTime(c.text(name)) }

func vaultTime(text string) time.Duration {
	if n, err := strconv.ParseInt(text, 10, 32); err == nil {
		return time.Duration(n) * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0
	}
	return d
}

// writeHeaders sets what Vault sends with everything.
func writeHeaders(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
}
