package mock

import (
	"net/http"
	"slices"
	"strings"
)

// Seal seals the server: it answers 503 until Unseal. Tokens and leases stay.
func (v *Vault) Seal() { v.change(func() { v.sealed = true }) }

// Unseal ends Seal.
func (v *Vault) Unseal() { v.change(func() { v.sealed = false }) }

// SetInitialized says whether the server is set up at all; it is from the start.
func (v *Vault) SetInitialized(initialized bool) { v.change(func() { v.blank = !initialized }) }

// SetStandby makes the server one that is not active. It leads to the active one,
// given by its URL without path; without any, it knows of none and answers 500.
func (v *Vault) SetStandby(leader string) {
	v.change(func() { v.standby, v.leader = true, strings.TrimRight(leader, "/") })
}

// SetActive ends SetStandby.
func (v *Vault) SetActive() { v.change(func() { v.standby = false }) }

// SetHealth makes sys/health answer with a status that no other state leads to, such
// as 472, 473, 474 or 530. Zero ends that.
func (v *Vault) SetHealth(status int) { v.change(func() { v.health = status }) }

// SealNamespace seals one namespace, as OpenBao can. UnsealNamespace ends it.
func (v *Vault) SealNamespace(name string) {
	v.change(func() { v.closed[strings.Trim(name, "/")+"/"] = true })
}

// UnsealNamespace ends SealNamespace.
func (v *Vault) UnsealNamespace(name string) {
	v.change(func() { delete(v.closed, strings.Trim(name, "/")+"/") })
}

// SetPolicy writes a policy; tokens that have its name feel it at once. Without rules
// it allows nothing.
func (v *Vault) SetPolicy(name string, rules ...VaultRule) {
	v.change(func() { v.policies[name] = slices.Clone(rules) })
}

func (v *Vault) change(do func()) {
	v.state.Lock()
	defer v.state.Unlock()
	do()
}

// serveOrder takes the orders below /_mock/vault:
//
//	GET /_mock/vault                      the record, see VaultRecord; DELETE begins anew
//	POST /_mock/vault/seal                and unseal, uninitialize, initialize
//	POST /_mock/vault/standby?leader=URL  and active
//	POST /_mock/vault/seal?namespace=NAME seals one namespace; unseal too
//	PUT /_mock/vault/policies/NAME        writes a policy, a JSON list of rules; DELETE takes all of it away
//	DELETE /_mock/vault/tokens            revokes all tokens but root's; the body may have one as JSON text
//	DELETE /_mock/vault/leases            revokes all leases
//	PUT /_mock/vault/secrets/MOUNT/PATH   writes a secret, a JSON object; DELETE deletes it
//	POST /_mock/vault/secret-ids/NAME     makes a secret ID of an AppRole, ?wrap=TIME wraps it; DELETE ends all
//	POST /_mock/vault/static/NAME         changes the keys of a static role
func (v *Vault) serveOrder(w http.ResponseWriter, r *http.Request, order string) {
	what, name, _ := strings.Cut(order, "/")
	switch r.Method + " " + what {
	case "GET ":
		writeJSON(w, v.Record())
		return
	case "DELETE ":
		v.ResetRecord()
	case "POST seal", "POST unseal", "POST initialize", "POST uninitialize", "POST standby", "POST active":
		v.orderState(what, r)
	case "PUT policies":
		var rules []VaultRule
		if !readJSON(w, r, &rules) {
			return
		}
		v.SetPolicy(name, rules...)
	case "DELETE policies":
		v.SetPolicy(name)
	case "DELETE tokens":
		if !v.orderTokens(w, r) {
			return
		}
	case "DELETE leases":
		v.RevokeLeases()
	case "PUT secrets", "DELETE secrets":
		if !v.orderSecret(w, r, name) {
			return
		}
	case "POST secret-ids":
		v.orderSecretID(w, r, name)
		return
	case "DELETE secret-ids":
		v.RevokeSecretIDs(name)
	case "POST static":
		v.RotateStatic(name)
	default:
		http.Error(w, "there is "+ControlPath+"vault, and below it seal, unseal, initialize, uninitialize, standby, active, policies, tokens, leases, secrets, secret-ids and static", http.StatusNotFound)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (v *Vault) orderState(what string, r *http.Request) {
	namespace := r.URL.Query().Get("namespace")
	switch {
	case what == "seal" && namespace != "":
		v.SealNamespace(namespace)
	case what == "unseal" && namespace != "":
		v.UnsealNamespace(namespace)
	case what == "seal":
		v.Seal()
	case what == "unseal":
		v.Unseal()
	case what == "standby":
		v.SetStandby(r.URL.Query().Get("leader"))
	case what == "active":
		v.SetActive()
	default:
		v.SetInitialized(what == "initialize")
	}
}

func (v *Vault) orderTokens(w http.ResponseWriter, r *http.Request) bool {
	if r.ContentLength == 0 {
		v.RevokeTokens()
		return true
	}
	var id string
	if !readJSON(w, r, &id) {
		return false
	}
	if !v.RevokeToken(id) {
		http.Error(w, "there is no such token", http.StatusNotFound)
		return false
	}
	return true
}

func (v *Vault) orderSecret(w http.ResponseWriter, r *http.Request, path string) bool {
	v.state.Lock()
	mount, kind, below := v.find(path)
	v.state.Unlock()
	if kind.kind != "kv" || below == "" {
		http.Error(w, "there is no key-value engine at this path", http.StatusNotFound)
		return false
	}
	if r.Method == http.MethodDelete {
		v.DeleteSecret(mount, below)
		return true
	}
	var data map[string]any
	if !readJSON(w, r, &data) {
		return false
	}
	v.PutSecret(mount, below, data)
	return true
}

func (v *Vault) orderSecretID(w http.ResponseWriter, r *http.Request, name string) {
	made, ok := "", false
	field := "secret_id"
	if ttl := vaultTime(r.URL.Query().Get("wrap")); ttl > 0 {
		field = "wrapping_token"
		made, ok = v.WrapSecretID(name, VaultSecretID{}, ttl)
	} else {
		made, ok = v.NewSecretID(name, VaultSecretID{})
	}
	if !ok {
		http.Error(w, "there is no such AppRole", http.StatusNotFound)
		return
	}
	writeJSON(w, map[string]string{field: made})
}
