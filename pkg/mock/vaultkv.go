package mock

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A VaultKV is a key-value engine.
type VaultKV struct {
	Mount   string // secret if empty
	Version int    // 1 or 2; 2 if zero
	Secrets map[string]map[string]any
}

// A vaultVersion is a secret, or one version of it.
type vaultVersion struct {
	data    map[string]any
	made    time.Time
	deleted time.Time
}

// fillKV takes the secrets of the options.
func (v *Vault) fillKV(o VaultKV) {
	version := "2"
	if o.Version == 1 {
		version = "1"
	}
	v.mounts[o.Mount] = vaultMount{kind: "kv", version: version}
	for path, data := range o.Secrets {
		v.put(o.Mount, path, data, time.Now())
	}
}

// put adds a version. An engine of version 1 shows the latest only.
func (v *Vault) put(mount, path string, data map[string]any, now time.Time) {
	secrets := v.kv[mount]
	if secrets == nil {
		secrets = map[string][]vaultVersion{}
		v.kv[mount] = secrets
	}
	versions := append(secrets[path], vaultVersion{data: maps.Clone(data), made: now})
	if len(versions) > maxLatest {
		versions = slices.Delete(versions, 0, 1)
	}
	if len(secrets) < maxVault {
		secrets[path] = versions
	}
}

// PutSecret writes a secret, as a new version where there are versions.
func (v *Vault) PutSecret(mount, path string, data map[string]any) {
	v.state.Lock()
	defer v.state.Unlock()
	v.put(strings.Trim(mount, "/")+"/", path, data, time.Now())
}

// DeleteSecret deletes a secret: all of it in version 1, the latest version in 2.
func (v *Vault) DeleteSecret(mount, path string) {
	v.state.Lock()
	defer v.state.Unlock()
	v.remove(strings.Trim(mount, "/")+"/", path, time.Now())
}

func (v *Vault) remove(mount, path string, now time.Time) {
	versions := v.kv[mount][path]
	switch {
	case v.mounts[mount].version == "1":
		delete(v.kv[mount], path)
	case len(versions) > 0:
		versions[len(versions)-1].deleted = now
	}
}

// SetKVVersion changes the version of a key-value engine, 1 or 2.
func (v *Vault) SetKVVersion(mount string, version int) {
	v.state.Lock()
	defer v.state.Unlock()
	v.mounts[strings.Trim(mount, "/")+"/"] = vaultMount{kind: "kv", version: strconv.Itoa(version)}
}

// readKV answers below a key-value engine.
func (v *Vault) readKV(c *vaultCall, version string) (*envelope, *vaultError) {
	path, kind := c.below, "data"
	if version == "2" {
		kind, path, _ = strings.Cut(c.below, "/")
		if kind != "data" && kind != "metadata" || path == "" && c.does != canList {
			return wrongKVPath(c.does), nil
		}
	}
	switch {
	case c.does == canList && (version == "1" || kind == "metadata"):
		return v.listKV(c.mount, path)
	case kind == "metadata" && c.does == canRead:
		return metadataOf(v.kv[c.mount][path])
	case c.does == canList || kind == "metadata":
		return nil, errVerb
	case c.does == canUpdate:
		return v.writeKV(c, version, path)
	case c.does == canDelete:
		v.remove(c.mount, path, c.now)
		return nil, nil
	}
	v.record.Reads[c.namespace+c.path]++
	versions := v.kv[c.mount][path]
	if len(versions) == 0 || c.hits.has(Vanished) {
		return nil, errNone
	}
	if version == "1" {
		env := with(maps.Clone(versions[len(versions)-1].data))
		env.LeaseDuration = seconds(longestLease)
		oddKV(c, env)
		return env, nil
	}
	return versionOf(c, versions)
}

// wrongKVPath is the answer to a path that a version 2 has not.
func wrongKVPath(does string) *envelope {
	command := "get"
	if does == canList {
		command = "list"
	}
	env := with(nil)
	env.status = http.StatusNotFound
	env.Warnings = []string{"Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API endpoints to use. " +
		"If using the Vault CLI, use 'vault kv " + command + "' for this operation."}
	return env
}

// versionOf answers the version that was asked for, or the latest.
func versionOf(c *vaultCall, versions []vaultVersion) (*envelope, *vaultError) {
	number := len(versions)
	if asked, err := strconv.Atoi(c.text("version")); err == nil && asked > 0 {
		number = asked
	}
	if number > len(versions) {
		return nil, errNone
	}
	one := versions[number-1]
	metadata := map[string]any{
		"created_time": stamp(one.made), "custom_metadata": nil, "deletion_time": stamp(one.deleted), "destroyed": false, "version": number,
	}
	data := map[string]any{"data": maps.Clone(one.data), "metadata": metadata}
	env := with(data)
	if !one.deleted.IsZero() {
		data["data"] = nil
		env.status = http.StatusNotFound
	}
	oddKV(c, env)
	return env, nil
}

// metadataOf tells of all versions of a secret.
func metadataOf(versions []vaultVersion) (*envelope, *vaultError) {
	if len(versions) == 0 {
		return nil, errNone
	}
	all := map[string]any{}
	for i, one := range versions {
		all[strconv.Itoa(i+1)] = map[string]any{"created_time": stamp(one.made), "deletion_time": stamp(one.deleted), "destroyed": false}
	}
	return with(map[string]any{
		"cas_required": false, "created_time": stamp(versions[0].made), "current_version": len(versions), "custom_metadata": nil,
		"delete_version_after": "0s", "max_versions": 0, "oldest_version": 0, "updated_time": stamp(versions[len(versions)-1].made), "versions": all,
	}), nil
}

// oddKV changes the hint of when to read again.
func oddKV(c *vaultCall, env *envelope) {
	if lease, ok := c.hits.find(Lease); ok {
		env.LeaseDuration = seconds(lease.Time)
	}
}

func (v *Vault) listKV(mount, path string) (*envelope, *vaultError) {
	if path != "" && !strings.HasSuffix(path, "/") {
		path += "/"
	}
	var names []string
	for one := range v.kv[mount] {
		if rest, ok := strings.CutPrefix(one, path); ok {
			name, _, below := strings.Cut(rest, "/")
			if below {
				name += "/"
			}
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, errNone
	}
	slices.Sort(names)
	return with(map[string]any{"keys": slices.Compact(names)}), nil
}

func (v *Vault) writeKV(c *vaultCall, version, path string) (*envelope, *vaultError) {
	if version == "1" {
		v.put(c.mount, path, c.fields, c.now)
		return nil, nil
	}
	data, ok := c.fields["data"].(map[string]any)
	if !ok {
		return nil, refuse(http.StatusBadRequest, "no data provided")
	}
	v.put(c.mount, path, data, c.now)
	return with(map[string]any{
		"created_time": stamp(c.now), "custom_metadata": nil, "deletion_time": "", "destroyed": false,
		"version": len(v.kv[c.mount][path]),
	}), nil
}
