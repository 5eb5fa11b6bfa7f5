package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
)

// manner are the keys of an upstream's section that say how it is asked. Whose
// credentials it gives does not depend on them.
var manner = []string{"required", "refresh", "proxy", "proxy_user", "proxy_password", "no_proxy", "timeouts", "revoke_on_stop"}

// An identity is what the section of an upstream says about whose credentials it gives.
// Every value is a digest: there may be secrets among them.
type identity map[string]any

// newIdentity takes a section as it was written, not as it was understood: a default
// that comes with another version changes nothing.
func newIdentity(section map[string]any) identity {
	kept := maps.Clone(section)
	for _, key := range manner {
		delete(kept, key)
	}
	if tls, ok := kept["tls"].(map[string]any); ok { // of which only our own certificate counts
		kept["tls"] = map[string]any{"certificate": tls["certificate"]}
	}
	return digests(kept)
}

func digests(section map[string]any) identity {
	kept := identity{}
	for key, value := range section {
		switch value := value.(type) {
		case nil:
		case map[string]any:
			kept[key] = digests(value)
		default:
			text, err := json.Marshal(value)
			if err != nil {
				text = []byte(key) // there is nothing else in a section
			}
			sum := sha256.Sum256(text)
			kept[key] = hex.EncodeToString(sum[:])
		}
	}
	return kept
}

// collections are the keys whose sections hold something for each credential by its
// name.
var collections = []string{"roles", "keys", "identity_tokens", "profiles", "credentials"}

// of leaves out what belongs to other credentials than the one of this name.
func (i identity) of(name string) identity {
	kept := identity{}
	for key, value := range i {
		if section, ok := value.(identity); ok {
			if slices.Contains(collections, key) {
				value = section[name]
			} else {
				value = section.of(name)
			}
		}
		kept[key] = value
	}
	return kept
}

// Identity is a digest of what the section says about whose credential it gives by a
// name. Another one means that what was fetched before is not to be served any more.
// It leaves out how the upstream is asked, and what the section says of other names.
func (u Upstream) Identity(name string) string {
	text, err := json.Marshal(u.identity.of(name))
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
