package vault

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/purser-agent/purser/pkg/credential"
)

// Auth says how this host logs in. Which keys there are depends on the method.
type Auth struct {
	// Method is one of the names in methods.
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
	// secret ID behind it.
	SecretIDWrapped bool `koanf:"secret_id_wrapped"`
	// RemoveSecretID has the file of SecretID removed once it was read.
	RemoveSecretID bool `koanf:"remove_secret_id"`
}

// A scheme is what one method needs and takes of Auth.
type scheme struct {
	needs []string // keys
	takes []string // keys that may be set as well
}

var methods = map[string]scheme{
	"token":   {needs: []string{"token"}},
	"approle": {needs: []string{"role_id"}, takes: []string{"mount", "secret_id", "secret_id_wrapped", "remove_secret_id"}},
}

// mount is where the method is, without auth/.
func (a *Auth) mount() string { return cmp.Or(a.Mount, a.Method) }

// set lists the keys of the methods that are set.
func (a *Auth) set() map[string]bool {
	return map[string]bool{
		"mount": a.Mount != "",
		"token": !a.Token.IsZero(), "role_id": !a.RoleID.IsZero(), "secret_id": !a.SecretID.IsZero(),
		"secret_id_wrapped": a.SecretIDWrapped, "remove_secret_id": a.RemoveSecretID,
	}
}

// Validate reports every error of form, each beginning with its key below auth. It
// opens no file.
func (a *Auth) Validate() error {
	var all []error
	fault := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	known, ok := methods[a.Method]
	if !ok {
		if a.Method == "" {
			return fmt.Errorf("method: missing; there is %s", strings.Join(slices.Sorted(maps.Keys(methods)), ", "))
		}
		return fmt.Errorf("method: %q is not one of %s", a.Method, strings.Join(slices.Sorted(maps.Keys(methods)), ", "))
	}
	set := a.set()
	for _, key := range slices.Sorted(maps.Keys(set)) {
		switch needed := slices.Contains(known.needs, key); {
		case needed && !set[key]:
			fault("%s: missing, the method %s needs it", key, a.Method)
		case set[key] && !needed && !slices.Contains(known.takes, key):
			fault("%s: is not a key of the method %s", key, a.Method)
		}
	}
	if err := checkPath(a.Mount); err != nil {
		fault("mount: %w", err)
	}
	if strings.HasPrefix(a.Mount, "auth/") {
		fault("mount: %q begins with auth/, which is added by itself", a.Mount)
	}
	if err := checkPath(a.Namespace); err != nil {
		fault("namespace: %w", err)
	}
	if (a.SecretIDWrapped || a.RemoveSecretID) && a.SecretID.File == "" {
		fault("secret_id: must be a file for secret_id_wrapped and remove_secret_id")
	}
	return errors.Join(all...)
}

// checkPath looks whether a text can be a part of a path of Vault's, or a namespace.
func checkPath(path string) error {
	switch {
	case path != strings.Trim(path, "/") || strings.Contains(path, "//"):
		return fmt.Errorf("%q has a slash too many", path)
	case slices.ContainsFunc(strings.Split(path, "/"), func(part string) bool { return part == "." || part == ".." }):
		return fmt.Errorf("%q has a part that is no name", path)
	case strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`?#%\`, r) }):
		return fmt.Errorf("%q has a character that no path of Vault has", path)
	}
	return nil
}

// files lists the files that the login reads.
func (a *Auth) files() []string {
	var files []string
	for _, ref := range []credential.SecretRef{a.Token, a.RoleID, a.SecretID} {
		if ref.File != "" {
			files = append(files, ref.File)
		}
	}
	return files
}
