package mock

import (
	"crypto/ecdsa"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// VaultOptions say what a Vault has. The zero value is one with the AWS role test_role
// below aws/, the policy "purser" that may read all secrets, and no way to log in
// except with IssueToken.
//
// A mount is given by its whole path, with a namespace in front if it is in one: aws,
// team/aws, auth/approle, team/auth/approle.
type VaultOptions struct {
	Keys *Keys // where AWS keys go, and those that may sign an AWS login; may be nil

	// OpenBao answers as that server does, and knows namespaces; else the header for
	// them is ignored, as Vault's community edition does.
	OpenBao    bool
	Namespaces []string // of OpenBao, without slashes around: team, team/web
	Newer      bool     // the forms of Vault 1.21 instead of 1.14: session_token and so on
	Version    string   // that sys/health reports; 1.14.1, 1.21.4 or 2.6.2 if empty

	Policies map[string][]VaultRule // by name; "purser" is there always

	Tokens      []VaultToken
	TokenRoles  []VaultTokenRole
	AppRoles    []VaultAppRole
	Users       []VaultUser // userpass and LDAP
	JWTRoles    []VaultJWTRole
	CertRoles   []VaultCertRole
	AWSLogins   []VaultAWSLogin
	KerberosFor []VaultKerberos

	AWSRoles    []VaultAWSRole // test_role if there is none, and nothing else to read
	StaticRoles []VaultStaticRole
	KV          []VaultKV
	OIDCRoles   []VaultOIDCRole

	Log zerolog.Logger // one line per request; the zero value writes none
}

// A VaultGrant is what a login gives: the settings of its token.
type VaultGrant struct {
	Policies   []string          // "purser" if empty; "default" is added
	NoDefault  bool              // leaves "default" out
	TTL        time.Duration     // 768 hours if zero
	MaxTTL     time.Duration     // none if zero
	Period     time.Duration     // a periodic token if not zero
	NumUses    int               // any number if zero
	Batch      bool              // a batch token
	Fixed      bool              // a service token that is not renewable
	BoundCIDRs []string          // where the token may be used from; the login itself is fine from anywhere
	Meta       map[string]string // shown by lookup-self
	MFA        bool              // the login answers that a second factor is needed
}

// A VaultToken is one that is there from the start.
type VaultToken struct {
	ID        string // should carry Marker
	Root      bool   // may do everything and has no end; the rest of the grant does not count
	Namespace string
	VaultGrant
}

// A Vault answers like HashiCorp Vault or OpenBao, as far as an agent that logs in and
// reads secrets asks. It verifies tokens, policies, JWTs and signed logins for real.
//
// Beside what every stand-in has, GET /_mock/vault tells of logins, reads, leases and
// requests, and orders below it change the server, see serveOrder.
type Vault struct {
	Control

	o         VaultOptions
	signer    *ecdsa.PrivateKey // of identity tokens
	clusterID string

	state     sync.Mutex // guards all below
	sealed    bool
	blank     bool   // not initialised
	standby   bool   // not the active node
	leader    string // URL of the active node; empty for none
	health    int    // the status of sys/health; zero for the true one
	closed    map[string]bool
	policies  map[string][]VaultRule
	mounts    map[string]vaultMount
	tokens    map[string]*vaultToken
	secretIDs []*vaultSecretID
	leases    map[string]*vaultLease
	wraps     map[string]*vaultWrap
	static    map[string]key
	kv        map[string]map[string][]vaultVersion
	record    VaultRecord // without Tokens and Leases, which are counted when it is asked for
}

// A vaultMount is an engine or a login method at a path.
type vaultMount struct {
	kind    string
	version string // of a KV engine
}

// NewVault returns a Vault, an http.Handler.
func NewVault(o VaultOptions) *Vault {
	if o.Keys == nil {
		o.Keys = &Keys{}
	}
	if len(o.AWSRoles)+len(o.StaticRoles)+len(o.KV)+len(o.OIDCRoles) == 0 {
		o.AWSRoles = []VaultAWSRole{{Name: "test_role"}}
	}
	if o.Version == "" {
		o.Version = "1.14.1"
		switch {
		case o.OpenBao:
			o.Version = "2.6.2"
		case o.Newer:
			o.Version = "1.21.4"
		}
	}
	v := &Vault{
		Control: Control{log: o.Log}, o: o, clusterID: vaultID(), signer: newSigner(),
		closed: map[string]bool{}, policies: map[string][]VaultRule{}, mounts: map[string]vaultMount{},
		tokens: map[string]*vaultToken{}, leases: map[string]*vaultLease{}, wraps: map[string]*vaultWrap{},
		static: map[string]key{}, kv: map[string]map[string][]vaultVersion{},
	}
	v.ResetRecord()
	v.mount()
	v.policies["default"] = defaultPolicy
	v.policies["purser"] = v.readAll()
	for name, rules := range o.Policies {
		v.policies[name] = slices.Clone(rules)
	}
	for _, token := range o.Tokens {
		v.addToken(token)
	}
	return v
}

// mount makes the table of mounts from the options, and fills in what they leave out.
func (v *Vault) mount() {
	v.mounts["auth/token/"] = vaultMount{kind: "token"}
	for _, namespace := range v.o.Namespaces {
		v.mounts[namespace+"/auth/token/"] = vaultMount{kind: "token"}
	}
	add := func(path *string, otherwise, kind string) {
		if *path == "" {
			*path = otherwise
		}
		*path = strings.Trim(*path, "/") + "/"
		v.mounts[*path] = vaultMount{kind: kind}
	}
	kind := func(yes bool, one, other string) string {
		if yes {
			return one
		}
		return other
	}
	each(&v.o.AppRoles, func(r *VaultAppRole) {
		add(&r.Mount, "auth/approle", "approle")
		v.keepSecretIDs(*r)
	})
	each(&v.o.Users, func(u *VaultUser) {
		method := kind(u.LDAP, "ldap", "userpass")
		add(&u.Mount, "auth/"+method, method)
	})
	each(&v.o.JWTRoles, func(r *VaultJWTRole) {
		method := kind(r.Kubernetes, "kubernetes", "jwt")
		add(&r.Mount, "auth/"+method, method)
	})
	each(&v.o.CertRoles, func(r *VaultCertRole) { add(&r.Mount, "auth/cert", "cert") })
	each(&v.o.AWSLogins, func(l *VaultAWSLogin) { add(&l.Mount, "auth/aws", "aws-login") })
	each(&v.o.KerberosFor, func(k *VaultKerberos) { add(&k.Mount, "auth/kerberos", "kerberos") })
	each(&v.o.AWSRoles, func(r *VaultAWSRole) { add(&r.Mount, "aws", "aws") })
	each(&v.o.StaticRoles, func(r *VaultStaticRole) { add(&r.Mount, "aws", "aws") })
	each(&v.o.OIDCRoles, func(r *VaultOIDCRole) { add(&r.Mount, "identity", "identity") })
	each(&v.o.KV, func(e *VaultKV) {
		add(&e.Mount, "secret", "kv")
		v.fillKV(*e)
	})
}

// each changes the members of a list of options, which becomes our own with it.
func each[T any](list *[]T, change func(*T)) {
	*list = slices.Clone(*list)
	for i := range *list {
		change(&(*list)[i])
	}
}

// ServeHTTP implements http.Handler.
func (v *Vault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	order, isOrder := strings.CutPrefix(r.URL.Path, ControlPath+"vault")
	switch {
	case isOrder:
		v.serveOrder(w, r, strings.TrimPrefix(order, "/"))
	case strings.HasPrefix(r.URL.Path, ControlPath):
		v.serveControl(w, r)
	default:
		// Only behind the body does net/http notice that a client gives up.
		body, err := io.ReadAll(io.LimitReader(r.Body, maxCall+1))
		part, role := v.classify(r)
		v.serve(w, r, part, role, func(hits faults) reply {
			return v.answer(w, &vaultCall{r: r, body: body, cut: err != nil, hits: hits})
		})
	}
}

// classify says which part of the service a request is for, and of credentials the
// role or the name.
func (v *Vault) classify(r *http.Request) (part, role string) {
	v.state.Lock()
	defer v.state.Unlock()
	path, ok := strings.CutPrefix(r.URL.Path, "/v1/")
	if !ok {
		return "", ""
	}
	namespace, rest, _ := v.split(r, path)
	mount, kind, below := v.find(namespace + rest)
	switch {
	case strings.HasPrefix(rest, "sys/"):
		return System, ""
	case kind.kind == "token":
		return Token, ""
	case strings.HasPrefix(strings.TrimPrefix(mount, namespace), "auth/"):
		return Login, ""
	case kind.kind == "aws" || kind.kind == "identity":
		if what, name, _ := strings.Cut(strings.TrimPrefix(below, "oidc/"), "/"); slices.Contains([]string{"creds", "sts", "static-creds", "token"}, what) {
			return Credentials, name
		}
	case kind.kind == "kv" && kind.version == "2":
		return Credentials, strings.TrimPrefix(below, "data/")
	case kind.kind == "kv":
		return Credentials, below
	}
	return "", ""
}

// find returns the mount of a path, and what is below it. The caller holds state.
func (v *Vault) find(path string) (mount string, kind vaultMount, below string) {
	for one := range v.mounts {
		if strings.HasPrefix(path, one) && len(one) > len(mount) {
			mount = one
		}
	}
	return mount, v.mounts[mount], strings.TrimPrefix(path, mount)
}

// split separates the namespace of a request, with a slash at its end, from its path.
// It reports false for a namespace that is not there. The caller holds state.
func (v *Vault) split(r *http.Request, path string) (namespace, rest string, ok bool) {
	if !v.o.OpenBao {
		return "", path, true
	}
	header := strings.Trim(r.Header.Get("X-Vault-Namespace"), "/")
	if header == "root" {
		header = ""
	}
	if header != "" {
		if !slices.Contains(v.o.Namespaces, header) {
			return "", path, false
		}
		path = header + "/" + path
	}
	namespace = v.namespaceOf(path)
	return namespace, strings.TrimPrefix(path, namespace), true
}

// namespaceOf returns the namespace that a whole path is in, with a slash at its end.
func (v *Vault) namespaceOf(path string) string {
	longest := ""
	for _, one := range v.o.Namespaces {
		if one += "/"; strings.HasPrefix(path, one) && len(one) > len(longest) {
			longest = one
		}
	}
	return longest
}
