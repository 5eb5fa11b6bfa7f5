package mock

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// system answers below sys/, for a call that has its token.
func (v *Vault) system(c *vaultCall, below string) (*envelope, *vaultError) {
	group, what, _ := strings.Cut(below, "/")
	switch {
	case group == "wrapping":
		return v.wrapping(c, what)
	case group == "leases" && slices.Contains([]string{"lookup", "renew", "revoke"}, what):
		return v.leaseCall(c, what)
	case below == "capabilities-self":
		return v.capabilitiesSelf(c)
	case strings.HasPrefix(below, "internal/ui/mounts/"):
		return v.mountOf(c, strings.TrimPrefix(below, "internal/ui/mounts/"))
	}
	return nil, errPath
}

// capabilitiesSelf tells what the caller may do at some paths.
func (v *Vault) capabilitiesSelf(c *vaultCall) (*envelope, *vaultError) {
	if refusal := c.only(canUpdate); refusal != nil {
		return nil, refusal
	}
	paths := append(c.texts("paths"), c.texts("path")...)
	if len(paths) == 0 {
		return nil, refuse(http.StatusBadRequest, "paths must be supplied")
	}
	data := map[string]any{}
	for _, path := range paths {
		data[path] = v.capabilities(c.token, strings.TrimPrefix(c.namespace+strings.TrimPrefix(path, "/"), c.token.namespace))
	}
	if len(paths) == 1 {
		data["capabilities"] = data[paths[0]]
	}
	env := with(data)
	env.inject = true
	return env, nil
}

// mountOf tells what is mounted at a path, to a caller that may do anything there.
func (v *Vault) mountOf(c *vaultCall, path string) (*envelope, *vaultError) {
	if refusal := c.only(canRead); refusal != nil {
		return nil, refusal
	}
	found, mount, _ := v.find(c.namespace + strings.Trim(path, "/") + "/")
	inside := strings.TrimPrefix(found, c.token.namespace)
	if found == "" || !v.reaches(c.token, inside) {
		return nil, refuse(http.StatusForbidden, "preflight capability check returned 403, please ensure client's policies grant access to path %q", strings.Trim(path, "/")+"/")
	}
	options, plugin := map[string]string{}, "v"+v.o.Version+"+builtin.vault"
	if mount.version != "" {
		options["version"], plugin = mount.version, "v0.15.0+builtin"
	}
	return with(map[string]any{
		"accessor": mount.kind + "_00000000", "config": map[string]any{"default_lease_ttl": 0, "force_no_cache": false, "max_lease_ttl": 0},
		"description": "", "external_entropy_access": false, "local": false, "options": options, "path": strings.TrimPrefix(found, c.namespace),
		"plugin_version": "", "running_plugin_version": plugin, "running_sha256": "", "seal_wrap": false, "type": mount.kind, "uuid": vaultID(),
	}), nil
}

// reaches reports whether a policy of the token is about a mount at all.
func (v *Vault) reaches(t *vaultToken, mount string) bool {
	return t.root || slices.ContainsFunc(t.policies, func(name string) bool {
		return slices.ContainsFunc(v.policies[name], func(rule VaultRule) bool {
			_, fits := rule.matches(mount)
			return fits || strings.HasPrefix(rule.Path, mount)
		})
	})
}

// healthStatus is the status of sys/health for a state, and the parameter that changes
// it.
func (v *Vault) healthStatus(c *vaultCall) (status int, parameter string) {
	forced := map[int]string{
		http.StatusOK: "activecode", http.StatusTooManyRequests: "standbycode", 472: "drsecondarycode", 473: "performancestandbycode",
		474: "haunhealthycode", http.StatusNotImplemented: "uninitcode", http.StatusServiceUnavailable: "sealedcode", 530: "removedcode",
	}
	status = http.StatusOK
	switch {
	case v.health != 0:
		status = v.health
	case v.blank || c.hits.has(Uninitialized):
		status = http.StatusNotImplemented
	case v.sealed || c.hits.has(Sealed):
		status = http.StatusServiceUnavailable
	case v.standby:
		status = http.StatusTooManyRequests
	}
	return status, forced[status]
}

// healthOf answers sys/health, which needs no token and works in every state.
func (v *Vault) healthOf(c *vaultCall) *envelope {
	status, parameter := v.healthStatus(c)
	query := c.r.URL.Query()
	sealed, blank := status == http.StatusServiceUnavailable, status == http.StatusNotImplemented
	data := map[string]any{
		"initialized": !blank, "sealed": sealed || blank, "standby": status != http.StatusOK, "replication_performance_mode": "unknown",
		"replication_dr_mode": "unknown", "server_time_utc": c.now.Unix(), "version": v.o.Version,
	}
	if !sealed && !blank {
		data["cluster_name"], data["cluster_id"] = "vault-cluster-mock", v.clusterID
		data["replication_performance_mode"], data["replication_dr_mode"] = "disabled", "disabled"
	}
	if !v.o.OpenBao {
		data["performance_standby"] = status == 473
	}
	if v.o.Newer {
		data["enterprise"], data["clock_skew_ms"], data["echo_duration_ms"] = false, 0, 0
		data["replication_primary_canary_age_ms"], data["removed_from_cluster"], data["ha_connection_healthy"] = 0, status == 530, status != 474
	}
	switch {
	case status == http.StatusTooManyRequests && yes(query.Get("standbyok")), status == 473 && yes(query.Get("perfstandbyok")):
		status, parameter = http.StatusOK, "activecode"
	}
	if code, err := strconv.Atoi(query.Get(parameter)); err == nil && code >= 200 && code <= 599 {
		status = code
	}
	env := with(data)
	env.bare, env.status = true, status
	return env
}

// yes reports whether a parameter is set; one without a value is.
func yes(text string) bool { return text != "" && text != "false" && text != "0" }

// sealStatus answers sys/seal-status.
func (v *Vault) sealStatus(c *vaultCall) *envelope {
	blank := v.blank || c.hits.has(Uninitialized)
	sealed, shares := v.sealed || blank || c.hits.has(Sealed), 1
	if blank {
		shares = 0
	}
	data := map[string]any{
		"type": "shamir", "initialized": !blank, "sealed": sealed, "t": shares, "n": shares, "progress": 0, "nonce": "",
		"version": v.o.Version, "build_date": "", "migration": false, "recovery_seal": false, "storage_type": "raft",
	}
	if !sealed {
		data["cluster_name"], data["cluster_id"] = "vault-cluster-mock", v.clusterID
	}
	env := with(data)
	env.bare = true
	return env
}
