package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// manner are the keys that say how an upstream is asked, and for how long: at any depth
// of its section. Whose credentials it gives does not depend on them.
var manner = []string{
	"required", "refresh", "proxy", "proxy_user", "proxy_password", "no_proxy", "timeouts", "timeout", "revoke_on_stop",
	"reread", "duration", "ttl",
}

// collections are the keys whose sections hold something for each credential by its
// name.
var collections = []string{"roles", "keys", "identity_tokens", "profiles", "credentials"}

// patterns is the key whose section says what may be asked for on demand, which are
// roles by their ARN.
const patterns = "on_demand"

// named are the keys whose sections have names for keys, which are not to be mistaken.
var named = append([]string{patterns, "tags", "env"}, collections...)

// addresses are the keys of one service's addresses. Those after the first are for when
// it does not answer.
var addresses = []string{"url", "address"}

// An identity is what the section of an upstream says about whose credentials it gives.
// Every value is a digest: there may be secrets among them.
type identity map[string]any

// newIdentity takes a section as it was written, not as it was understood: a default
// that comes with another version changes nothing.
func newIdentity(section map[string]any) identity {
	kept := maps.Clone(section)
	if tls, ok := kept["tls"].(map[string]any); ok { // of which only our own certificate counts
		kept["tls"] = map[string]any{"certificate": tls["certificate"]}
	}
	return digests(kept, false)
}

// digests leaves out the keys of manner, unless the keys are names.
func digests(section map[string]any, names bool) identity {
	kept := identity{}
	for key, value := range section {
		if !names && slices.Contains(manner, key) {
			continue
		}
		if list, ok := value.([]any); ok && (len(list) == 1 || len(list) > 1 && slices.Contains(addresses, key)) {
			value = list[0]
		}
		switch value := value.(type) {
		case nil:
		case map[string]any:
			kept[key] = digests(value, !names && slices.Contains(named, key))
		default:
			kept[key] = digest(value)
		}
	}
	return kept
}

func digest(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return "" // there is no such value in a section
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// of leaves out what belongs to other credentials than the one of this name, and what
// says no more than its absence. Elsewhere is true if there are collections, none of
// which has the name.
func (i identity) of(name string) (kept identity, elsewhere bool) {
	kept = identity{}
	found := false
	for key, value := range i {
		section, ok := value.(identity)
		switch {
		case !ok:
			kept[key] = value
		case key == patterns:
			if strings.HasPrefix(name, "arn:") {
				kept[key] = value
			}
		case slices.Contains(collections, key):
			entry, has := section[name]
			found, elsewhere = found || has, true
			if own := entryOf(entry, name); own != nil {
				kept[key] = own
			}
		default:
			if part, elsewhere := section.of(name); !elsewhere && len(part) > 0 {
				kept[key] = part
			}
		}
	}
	return kept, elsewhere && !found
}

// entryOf is what a collection says of a name, nil if nothing: that it is called by the
// same name there goes without saying.
func entryOf(entry any, name string) any {
	section, ok := entry.(identity)
	if !ok {
		return entry
	}
	section = maps.Clone(section)
	if section["role"] == digest(name) {
		delete(section, "role")
	}
	if len(section) == 0 {
		return nil
	}
	return section
}

// Identity is a digest of what the section says about whose credential it gives by a
// name. Another one means that what was fetched before is not to be served any more.
// It leaves out how the upstream is asked, and what the section says of other names.
func (u Upstream) Identity(name string) string {
	of, _ := u.identity.of(name)
	return digest(of)
}
