package vault

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/upstream"
)

// kvKeys are keys that somebody wrote into a KV engine. They have no end.
type kvKeys struct {
	options KVKeys
	mount   string
	session asker

	found atomic.Int32 // the engine's version as it was last seen, 0 if it was not
}

func (k *kvKeys) reread() time.Duration { return k.options.Reread }

func (k *kvKeys) fetch(ctx context.Context) (credential.Credential, error) {
	version, guessed, err := k.version(ctx)
	if err != nil {
		return nil, err
	}
	a, err := k.read(ctx, version)
	if missing(err) && guessed { // perhaps the engine was upgraded
		k.found.Store(0)
		now, _, probed := k.version(ctx)
		if probed == nil && now != version {
			version = now
			a, err = k.read(ctx, version)
		}
	}
	if err != nil {
		return nil, k.tell(err, version)
	}
	data := a.secret.Data
	if version == 2 {
		data, _ = a.secret.Data["data"].(map[string]any)
	}
	keys, err := keysIn(a, data, k.options.accessKey(), k.options.secretKey(), k.options.SessionToken)
	if err != nil {
		return nil, err
	}
	return keys, nil
}

func (k *kvKeys) read(ctx context.Context, version KVVersion) (*answer, error) {
	path := k.mount + "/" + k.options.Path
	if version == 2 {
		path = k.mount + "/data/" + k.options.Path
	}
	return k.session.ask(ctx, request{path: path})
}

// version is the engine's: as configured, as it was seen before, or as Vault says.
func (k *kvKeys) version(ctx context.Context) (version KVVersion, guessed bool, err error) {
	if set := k.options.Version; set != 0 {
		return set, false, nil
	}
	if found := k.found.Load(); found != 0 {
		return KVVersion(found), true, nil
	}
	a, err := k.session.ask(ctx, request{path: "sys/internal/ui/mounts/" + k.mount + "/" + k.options.Path})
	if isCause(err, noEngine) {
		err = instead(err, "no KV engine that the token may see is mounted at %q: correct mount, or have a policy allow \"read\" below it", k.mount)
	}
	if err != nil {
		return 0, true, err
	}
	if kind, _ := a.secret.Data["type"].(string); kind != "kv" && kind != "generic" {
		return 0, true, a.raw.Errorf(upstream.ClassRequest, "what is mounted at %q is no KV engine; correct mount", k.mount)
	}
	version = 1
	options, _ := a.secret.Data["options"].(map[string]any)
	if set, ok := options["version"].(string); ok && set == "2" {
		version = 2
	}
	k.found.Store(int32(version))
	return version, true, nil
}

// missing reports whether Vault has nothing at a path.
func missing(err error) bool {
	fault, ok := errors.AsType[*upstream.Error](err)
	return ok && fault.Status == http.StatusNotFound
}

// tell says of a secret that is not there why that is, as far as the answer shows it.
func (k *kvKeys) tell(err error, version KVVersion) error {
	said, ok := errors.AsType[*refusal](err)
	if !ok || said.cause != nothingThere {
		return err
	}
	var answer struct {
		Data struct {
			Metadata struct {
				Version   json.Number `json:"version"`
				Destroyed bool        `json:"destroyed"`
			} `json:"metadata"`
		} `json:"data"`
		Warnings []string `json:"warnings"`
	}
	_ = json.Unmarshal([]byte(said.body.Reveal()), &answer) // else it shows nothing
	metadata := answer.Data.Metadata
	number, isVersion := inSeconds(metadata.Version)
	switch {
	case isVersion && metadata.Destroyed:
		return instead(err, "version %d of the secret %q was destroyed; write the keys anew", number/time.Second, k.options.Path)
	case isVersion:
		return instead(err, "version %d of the secret %q was deleted; undelete it, or write the keys anew", number/time.Second, k.options.Path)
	case len(answer.Warnings) > 0:
		return instead(err, "the KV engine at %q is not of version %d; correct version, or leave it out", k.mount, version)
	}
	return instead(err, "the KV engine at %q has no secret %q; correct path, which is without data/, or write the secret", k.mount, k.options.Path)
}
