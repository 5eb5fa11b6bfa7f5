package vault

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/purser-agent/purser/pkg/awsapi"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// Auth says how this host logs in. Which keys there are depends on the method.
type Auth struct {
	// Method is one of the names in schemes.
	Method string `koanf:"method"`
	// Mount is where the method is mounted, without auth/; by its own name if empty.
	Mount string `koanf:"mount"`
	// Namespace is where the login takes place, if not in that of the upstream.
	Namespace string `koanf:"namespace"`

	// Token is the token itself. One from a file is read again when the file changes,
	// and never revoked.
	Token credential.SecretRef `koanf:"token"`

	RoleID   credential.SecretRef `koanf:"role_id"`
	SecretID credential.SecretRef `koanf:"secret_id"`
	// SecretIDWrapped says that the file of SecretID holds a wrapping token with the
	// secret ID behind it, which must have been made for Role.
	SecretIDWrapped bool `koanf:"secret_id_wrapped"`
	// RemoveSecretID has the file of SecretID removed after a login.
	RemoveSecretID bool `koanf:"remove_secret_id"`

	// Role is that of the method in Vault.
	Role string `koanf:"role"`
	// JWT is mostly a file; for kubernetes the one that a pod has if empty.
	JWT credential.SecretRef `koanf:"jwt"`

	Username string               `koanf:"username"`
	Password credential.SecretRef `koanf:"password"`

	// Base are the keys that a login by AWS is signed with, Region whose STS Vault shall
	// ask, and Header what it expects in X-Vault-AWS-IAM-Server-ID.
	Base   BaseOptions `koanf:"base"`
	Region string      `koanf:"region"`
	Header string      `koanf:"header"`

	// Command is a program, by its absolute path, and its arguments. It prints what As
	// says: a jwt, a token, or a Negotiate value for kerberos.
	Command []string `koanf:"command"`
	As      string   `koanf:"as"`
}

// BaseOptions say which stored credential a login by AWS is signed with: one key is
// set.
type BaseOptions struct {
	Credential string `koanf:"credential"` // its name
	Upstream   string `koanf:"upstream"`   // one that grants nothing else
}

// String is the form for messages while the credential's own name is not known.
func (b BaseOptions) String() string {
	if b.Upstream != "" {
		return fmt.Sprintf("the base from upstream %q", b.Upstream)
	}
	return "the base"
}

// A scheme is what one method needs of Auth, and what it takes as well.
type scheme struct{ needs, takes []string }

var schemes = map[string]scheme{
	"token":      {[]string{"token"}, nil},
	"approle":    {[]string{"role_id"}, []string{"mount", "role", "secret_id", "secret_id_wrapped", "remove_secret_id"}},
	"cert":       {nil, []string{"mount", "role"}},
	"jwt":        {[]string{"jwt"}, []string{"mount", "role"}},
	"kubernetes": {[]string{"role"}, []string{"mount", "jwt"}},
	"ldap":       {[]string{"username", "password"}, []string{"mount"}},
	"userpass":   {[]string{"username", "password"}, []string{"mount"}},
	"aws":        {[]string{"base"}, []string{"mount", "role", "region", "header"}},
	"exec":       {[]string{"command", "as"}, []string{"mount", "role"}},
}

// set tells which of the methods' keys are set.
func (a *Auth) set() map[string]bool {
	return map[string]bool{
		"mount": a.Mount != "", "role": a.Role != "", "token": !a.Token.IsZero(),
		"role_id": !a.RoleID.IsZero(), "secret_id": !a.SecretID.IsZero(),
		"secret_id_wrapped": a.SecretIDWrapped, "remove_secret_id": a.RemoveSecretID,
		"jwt": !a.JWT.IsZero(), "username": a.Username != "", "password": !a.Password.IsZero(),
		"base": a.Base != BaseOptions{}, "region": a.Region != "", "header": a.Header != "",
		"command": len(a.Command) > 0, "as": a.As != "",
	}
}

// Validate reports every error of form, each beginning with its key. It opens no file.
func (a *Auth) Validate() error {
	known, ok := schemes[a.Method]
	if names := strings.Join(slices.Sorted(maps.Keys(schemes)), ", "); a.Method == "" {
		return fmt.Errorf("auth.method: missing; there is %s", names)
	} else if !ok {
		return fmt.Errorf("auth.method: %q is not one of %s", a.Method, names)
	}
	var all []error
	fault := func(format string, args ...any) { all = append(all, fmt.Errorf("auth."+format, args...)) }
	set := a.set()
	for _, key := range slices.Sorted(maps.Keys(set)) {
		switch needed := slices.Contains(known.needs, key); {
		case needed && !set[key]:
			fault("%s: missing, the method %s needs it", key, a.Method)
		case set[key] && !needed && !slices.Contains(known.takes, key):
			fault("%s: is no key of the method %s", key, a.Method)
		}
	}
	for _, err := range slices.Concat(a.checkPaths(), a.checkAppRole(), a.checkOthers()) {
		fault("%w", err)
	}
	return errors.Join(all...)
}

func (a *Auth) checkPaths() (all []error) {
	fault := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	for _, path := range []struct{ key, value string }{{"mount", a.Mount}, {"namespace", a.Namespace}} {
		if path.value != "" && !isPath(path.value) {
			fault("%s: %q is not a path such as team/web, without slashes around", path.key, path.value)
		}
	}
	if strings.HasPrefix(a.Mount, "auth/") {
		fault("mount: %q begins with auth/, which is added by itself", a.Mount)
	}
	for _, name := range []struct{ key, value string }{{"role", a.Role}, {"username", a.Username}} {
		odd := func(r rune) bool { return r < ' ' || r == '/' || r == 0x7f }
		if name.value != "" && (strings.ContainsFunc(name.value, odd) || strings.Trim(name.value, ".") == "") {
			fault("%s: %q cannot be a name in Vault", name.key, name.value)
		}
	}
	return all
}

func (a *Auth) checkAppRole() (all []error) {
	if (a.SecretIDWrapped || a.RemoveSecretID) && a.SecretID.File == "" {
		all = append(all, errors.New("secret_id: must be a file for secret_id_wrapped and remove_secret_id"))
	}
	if a.Method == "approle" && a.SecretIDWrapped != (a.Role != "") {
		all = append(all, errors.New("role: belongs to secret_id_wrapped: it is the role that the wrapped secret ID must have been made for"))
	}
	return all
}

func (a *Auth) checkOthers() (all []error) {
	fault := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	if a.Base.Credential != "" && a.Base.Upstream != "" {
		fault("base: has both credential and upstream; one of them says which credential to use")
	}
	if a.Base.Credential != "" {
		if err := credential.CheckName(a.Base.Credential); err != nil {
			fault("base.credential: %w", err)
		}
	}
	if place := (awsapi.Place{Region: a.Region}); a.Region != "" {
		if _, err := place.Partition(); err != nil {
			fault("%w", err)
		}
	}
	if strings.ContainsFunc(a.Header, func(r rune) bool { return r < ' ' || r > '~' }) {
		fault("header: has a character that no header has")
	}
	if len(a.Command) > 0 && !filepath.IsAbs(a.Command[0]) {
		fault("command: %q is not an absolute path", a.Command[0])
	}
	if a.As != "" && !slices.Contains([]string{asJWT, asToken, asKerberos}, a.As) {
		fault("as: %q is not one of jwt, token, kerberos", a.As)
	}
	if a.As != "" && a.As != asJWT && a.Role != "" {
		fault("role: is for a program that prints a jwt")
	}
	if a.As == asToken && a.Mount != "" {
		fault("mount: a program that prints a token leaves nothing to log in at")
	}
	return all
}

// checkTLS reports what the method needs of the keys that every upstream has.
func (a *Auth) checkTLS(o *upstream.TLS) error {
	if a.Method == "cert" && o.Certificate == "" {
		return errors.New("tls.certificate: missing, the login by certificate presents it")
	}
	return nil
}

// mount is where the method is, without auth/.
func (a *Auth) mount() string {
	if a.Method == "exec" {
		return cmp.Or(a.Mount, a.As)
	}
	return cmp.Or(a.Mount, a.Method)
}

// loginPath is what a login is sent to.
func (a *Auth) loginPath() string {
	path := "auth/" + a.mount() + "/login"
	if a.Username != "" {
		path += "/" + a.Username
	}
	return path
}

// secretIDPath is what a wrapped secret ID must have been made by.
func (a *Auth) secretIDPath() string {
	return "auth/" + a.mount() + "/role/" + a.Role + "/secret-id"
}

// files lists the files that the login reads.
func (a *Auth) files() []string { return filesOf(a.secrets()) }

func filesOf(secrets map[string]credential.SecretRef) (files []string) {
	for _, ref := range secrets {
		if ref.File != "" {
			files = append(files, ref.File)
		}
	}
	return files
}

// spends names what a login uses up, so that no other one can follow; nothing for most.
func (a *Auth) spends() string {
	switch {
	case a.RemoveSecretID:
		return "the secret ID in " + a.SecretID.File + ", which is removed after a login"
	case a.SecretIDWrapped:
		return "the wrapping token in " + a.SecretID.File + ", which can be opened once"
	}
	return ""
}

// secrets are those of Auth, by their keys.
func (a *Auth) secrets() map[string]credential.SecretRef {
	all := map[string]credential.SecretRef{
		"token": a.Token, "role_id": a.RoleID, "secret_id": a.SecretID, "jwt": a.JWT, "password": a.Password,
	}
	if a.Method == "kubernetes" && a.JWT.IsZero() {
		all["jwt"] = credential.SecretRef{File: serviceAccount}
	}
	maps.DeleteFunc(all, func(_ string, ref credential.SecretRef) bool { return ref.IsZero() })
	return all
}

// exposed lists the files of secrets that every account of this host may read. A role ID
// is none, and a JWT ends soon.
func (a *Auth) exposed() (files []string) {
	for _, ref := range []credential.SecretRef{a.Token, a.SecretID, a.Password} {
		if ref.File != "" && openToAll(ref.File) {
			files = append(files, ref.File)
		}
	}
	return files
}

// openToAll reports whether every account may read a file, and enter each folder on the
// way to it.
func openToAll(file string) bool {
	path, err := filepath.EvalSymlinks(file)
	if err != nil {
		return false
	}
	for need := fs.FileMode(0o004); ; need = 0o001 {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm()&need == 0 {
			return false
		}
		if path == filepath.Dir(path) {
			return true
		}
		path = filepath.Dir(path)
	}
}
