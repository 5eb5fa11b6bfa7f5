package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"

	"github.com/purser-agent/purser/pkg/mock"
)

// vaultFlags are the flags of the Vault beside the IMS.
type vaultFlags struct {
	address string
	roles   []string
	appRole string
	token   string
	faults  []string
}

// What logs in if no flag says otherwise.
const (
	vaultRoleID   = "purser"
	vaultSecretID = mock.Marker + "-secret-id"
	vaultToken    = mock.Marker + "-token"
)

func (f *vaultFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.address, "vault", "", "address and port of a Vault whose AWS keys the STS knows (default none)")
	flags.StringArrayVar(&f.roles, "vault-role", nil, "a role of its AWS engine, with :TYPE for a credential type; repeat for more (default test_role:assumed_role)")
	flags.StringVar(&f.appRole, "vault-approle", vaultRoleID+":"+vaultSecretID, "ROLE_ID:SECRET_ID that may log in")
	flags.StringVar(&f.token, "vault-token", vaultToken, "a token that works")
	flags.StringArrayVar(&f.faults, "vault-fault", nil, "a fault of the Vault from the start; repeat for more")
}

// used reports whether a flag was given that needs --vault.
func (f *vaultFlags) used() bool {
	return len(f.roles)+len(f.faults) > 0 || f.appRole != vaultRoleID+":"+vaultSecretID || f.token != vaultToken
}

func (f *vaultFlags) handler(keys *mock.Keys, log zerolog.Logger) (*mock.Vault, error) {
	roleID, secretID, ok := strings.Cut(f.appRole, ":")
	switch {
	case !ok || roleID == "" || secretID == "":
		return nil, errors.New("--vault-approle: it is not a role ID and a secret ID with a colon between them")
	case f.token == "":
		return nil, errors.New("--vault-token: it is empty")
	}
	o := mock.VaultOptions{
		Keys:     keys,
		AppRoles: []mock.VaultAppRole{{Name: "purser", RoleID: roleID, SecretIDs: []mock.VaultSecretID{{ID: secretID}}}},
		Tokens:   []mock.VaultToken{{ID: f.token}},
		Log:      log,
	}
	for _, text := range f.roles {
		name, kind, given := strings.Cut(text, ":")
		if name == "" || strings.Contains(name, "/") || given && !slices.Contains(mock.CredentialTypes(), kind) {
			return nil, fmt.Errorf("--vault-role: %q is not a name, or a name and one of the types %s with a colon between them", text, strings.Join(mock.CredentialTypes(), ", "))
		}
		o.AWSRoles = append(o.AWSRoles, mock.VaultAWSRole{Name: name, Type: kind})
	}
	handler := mock.NewVault(o)
	if err := addFaults(&handler.Control, "--vault-fault", f.faults); err != nil {
		return nil, err
	}
	return handler, nil
}

// line is what is printed of the Vault: its URL, and what logs in there.
func (f *vaultFlags) line(server string) string {
	roleID, secretID, _ := strings.Cut(f.appRole, ":")
	return fmt.Sprintf("%s role_id=%s secret_id=%s token=%s", server, roleID, secretID, f.token)
}
