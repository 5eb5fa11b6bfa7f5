package mock

import (
	"crypto/rand"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"
)

// A VaultAppRole logs in with a role ID and a secret ID.
type VaultAppRole struct {
	Mount     string // auth/approle if empty
	Name      string // of the role, in the paths for operators
	RoleID    string
	SecretIDs []VaultSecretID // more are made with NewSecretID
	VaultGrant
}

// A VaultSecretID is one secret ID of an AppRole.
type VaultSecretID struct {
	ID    string        // should carry Marker; one is made if empty
	Uses  int           // any number if zero
	TTL   time.Duration // no end if zero
	CIDRs []string      // from where it may be used; anywhere if empty
}

// A vaultSecretID is one of them, in use.
type vaultSecretID struct {
	VaultSecretID
	mount, role string
	accessor    string
	ends        time.Time
}

// keepSecretIDs takes those of the options.
func (v *Vault) keepSecretIDs(role VaultAppRole) {
	for _, one := range role.SecretIDs {
		v.addSecretID(role, one)
	}
}

func (v *Vault) addSecretID(role VaultAppRole, o VaultSecretID) *vaultSecretID {
	if o.ID == "" {
		o.ID = secret(36)
	}
	made := &vaultSecretID{VaultSecretID: o, mount: role.Mount, role: role.Name, accessor: rand.Text()}
	if o.TTL > 0 {
		made.ends = time.Now().Add(o.TTL)
	}
	if len(v.secretIDs) < maxVault {
		v.secretIDs = append(v.secretIDs, made)
	}
	return made
}

// appRole answers login, and role/NAME/secret-id and role/NAME/role-id for those whose
// policy lets them.
func (v *Vault) appRole(c *vaultCall) (*envelope, *vaultError) {
	if c.below == "login" {
		return v.appRoleLogin(c)
	}
	parts := strings.Split(c.below, "/")
	at := slices.IndexFunc(v.o.AppRoles, func(r VaultAppRole) bool {
		return len(parts) == 3 && parts[0] == "role" && r.Mount == c.mount && r.Name == parts[1]
	})
	switch {
	case at < 0:
		return nil, errPath
	case parts[2] == "role-id" && c.does == canRead:
		return with(map[string]any{"role_id": v.o.AppRoles[at].RoleID}), nil
	case parts[2] == "secret-id" && c.does == canUpdate:
		made := v.addSecretID(v.o.AppRoles[at], VaultSecretID{Uses: int(c.time("num_uses") / time.Second), TTL: c.time("ttl")})
		return secretIDAnswer(made), nil
	}
	return nil, errPath
}

func secretIDAnswer(made *vaultSecretID) *envelope {
	return with(map[string]any{
		"secret_id": made.ID, "secret_id_accessor": made.accessor,
		"secret_id_num_uses": made.Uses, "secret_id_ttl": int64(made.TTL / time.Second),
	})
}

func (v *Vault) appRoleLogin(c *vaultCall) (*envelope, *vaultError) {
	if c.text("role_id") == "" {
		return nil, refuse(http.StatusInternalServerError, "failed to determine alias name from login request")
	}
	if refusal := c.only(canUpdate); refusal != nil {
		return nil, refusal
	}
	at := slices.IndexFunc(v.o.AppRoles, func(r VaultAppRole) bool { return r.Mount == c.mount && r.RoleID == c.text("role_id") })
	if at < 0 {
		return nil, refuse(http.StatusBadRequest, "invalid role ID")
	}
	if c.text("secret_id") == "" {
		return nil, refuse(http.StatusBadRequest, "missing secret_id")
	}
	role := v.o.AppRoles[at]
	found := slices.IndexFunc(v.secretIDs, func(s *vaultSecretID) bool {
		return s.mount == role.Mount && s.role == role.Name && s.ID == c.text("secret_id") && (s.ends.IsZero() || c.now.Before(s.ends))
	})
	if found < 0 {
		return nil, refuse(http.StatusBadRequest, "invalid secret id")
	}
	secretID := v.secretIDs[found]
	if !fromOneOf(c.r.RemoteAddr, secretID.CIDRs) {
		host, _, _ := strings.Cut(c.r.RemoteAddr, ":")
		return nil, refuse(http.StatusBadRequest, "source address %q unauthorized through CIDR restrictions on the secret ID", host)
	}
	if secretID.Uses > 0 {
		if secretID.Uses--; secretID.Uses == 0 {
			v.secretIDs = slices.Delete(v.secretIDs, found, found+1)
		}
	}
	return v.login(c, role.VaultGrant, path.Base(c.mount), map[string]string{"role_name": role.Name})
}

// WrapSecretID makes a secret ID for the AppRole of a name, wrapped as for the
// operator who asked for it, and returns the wrap's token. Its path of creation is
// auth/approle/role/NAME/secret-id. It reports false if there is no such AppRole.
func (v *Vault) WrapSecretID(name string, o VaultSecretID, ttl time.Duration) (string, bool) {
	v.state.Lock()
	defer v.state.Unlock()
	at := slices.IndexFunc(v.o.AppRoles, func(r VaultAppRole) bool { return r.Name == name })
	if at < 0 {
		return "", false
	}
	role := v.o.AppRoles[at]
	content := secretIDAnswer(v.addSecretID(role, o))
	env := v.wrapUp(&vaultWrap{content: content, path: role.Mount + "role/" + name + "/secret-id", made: time.Now(), ttl: ttl})
	return env.WrapInfo.Token, true
}

// NewSecretID makes a secret ID for the AppRole of a name. It reports false if there
// is none.
func (v *Vault) NewSecretID(name string, o VaultSecretID) (string, bool) {
	v.state.Lock()
	defer v.state.Unlock()
	at := slices.IndexFunc(v.o.AppRoles, func(r VaultAppRole) bool { return r.Name == name })
	if at < 0 {
		return "", false
	}
	return v.addSecretID(v.o.AppRoles[at], o).ID, true
}

// RevokeSecretIDs ends all secret IDs of the AppRole of a name.
func (v *Vault) RevokeSecretIDs(name string) {
	v.state.Lock()
	defer v.state.Unlock()
	v.secretIDs = slices.DeleteFunc(v.secretIDs, func(s *vaultSecretID) bool { return s.role == name })
}
