package vault

import (
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/mock"
)

// kvSite has an engine of a version, and reads apps/web there.
func kvSite(t *testing.T, version int, keys KVKeys) *site {
	secrets := map[string]map[string]any{"apps/web": {
		"access_key": "AKIA1", "secret_key": mock.Marker, "id": "AKIA2", "key": mock.Marker + "2", "session": mock.Marker + "3",
	}}
	keys.Path = "apps/web"
	return newSite(t, mock.VaultOptions{KV: []mock.VaultKV{{Mount: "team/secret", Version: version, Secrets: secrets}}}, func(o *Options) {
		keys.Mount = "team/secret"
		o.KV.Keys = map[string]KVKeys{"web": keys}
	})
}

func TestKeysInAKVEngine(t *testing.T) {
	for _, test := range []struct {
		name    string
		engine  int
		keys    KVKeys
		id      string
		session string
		asked   int
	}{
		{"version 1, as Vault says", 1, KVKeys{}, "AKIA1", "", 2},
		{"version 2, as Vault says", 2, KVKeys{Version: 0}, "AKIA1", "", 2},
		{"version 1, as configured", 1, KVKeys{Version: 1}, "AKIA1", "", 1},
		{"version 2, as configured", 2, KVKeys{Version: 2}, "AKIA1", "", 1},
		{"fields of other names", 2, KVKeys{AccessKey: "id", SecretKey: "key", SessionToken: "session"}, "AKIA2", mock.Marker + "3", 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := kvSite(t, test.engine, test.keys)
			s.vault.ResetRecord()
			keys := s.fetch(t, "web")
			if keys.AccessKeyID != test.id || keys.SessionToken.Reveal() != test.session || !keys.Expires.IsZero() || time.Since(keys.Issued) > 5*time.Second {
				t.Errorf("got %s until %v", keys.AccessKeyID, keys.Expires)
			}
			s.fetch(t, "web") // the version is known now
			asked := 0
			for _, r := range s.vault.Record().Latest {
				if r.Path != "auth/token/lookup-self" {
					asked++
				}
			}
			if asked != test.asked+1 {
				t.Errorf("Vault was asked %d times for two readings, want %d", asked, test.asked+1)
			}
		})
	}
}

// Case 77: the engine is upgraded, and put back, while Purser runs.
func TestKVEngineThatChangesItsVersionIsNoticed(t *testing.T) {
	s := kvSite(t, 1, KVKeys{})
	s.fetch(t, "web")
	for _, version := range []int{2, 1} {
		s.vault.SetKVVersion("team/secret", version)
		s.fetch(t, "web")
	}
}

// New keys in the engine come with the next reading.
func TestKVKeysThatChangeAreReadAnew(t *testing.T) {
	s := kvSite(t, 2, KVKeys{Reread: 5 * time.Minute})
	s.fetch(t, "web")
	s.vault.PutSecret("team/secret", "apps/web", map[string]any{"access_key": "AKIA9", "secret_key": mock.Marker})
	if keys := s.fetch(t, "web"); keys.AccessKeyID != "AKIA9" {
		t.Errorf("got %s", keys.AccessKeyID)
	}
	if got := s.source.Reread(credential.Key{Name: "web"}); got != 5*time.Minute {
		t.Errorf("it is read every %v", got)
	}
}

// Case 7: static keys have no end, and are read again soon after the next rotation.
func TestStaticKeysFollowTheRotation(t *testing.T) {
	for _, test := range []struct {
		name   string
		newer  bool
		period time.Duration
		every  time.Duration
		want   time.Duration
	}{
		{"an older server", false, 30 * time.Minute, 0, 0},
		{"an older server, as configured", false, 30 * time.Minute, 5 * time.Minute, 5 * time.Minute},
		{"a newer server", true, 30 * time.Minute, 0, 30*time.Minute + afterRotation},
		{"a newer server, more often than it rotates", true, 30 * time.Minute, 5 * time.Minute, 5 * time.Minute},
		{"a rotation a day away", true, 24 * time.Hour, 0, time.Hour},
		{"a rotation that is due", true, time.Second, 0, time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t, mock.VaultOptions{Newer: test.newer, StaticRoles: []mock.VaultStaticRole{{Name: "mailer", Period: test.period}}}, func(o *Options) {
				o.AWS.Roles["mail"] = Role{Path: "static-creds/mailer", Reread: test.every}
			})
			keys := s.fetch(t, "mail")
			if !keys.Expires.IsZero() || !keys.SessionToken.Empty() || keys.AccessKeyID == "" {
				t.Errorf("got keys until %v", keys.Expires)
			}
			if got := s.source.Reread(credential.Key{Name: "mail"}); got > test.want || got < test.want-5*time.Second {
				t.Errorf("they are read again after %v, want %v", got, test.want)
			}
			s.vault.RotateStatic("mailer")
			if again := s.fetch(t, "mail"); again.AccessKeyID == keys.AccessKeyID {
				t.Error("the keys are those before the rotation")
			}
		})
	}
}

func TestIdentityTokenEndsWhenVaultSays(t *testing.T) {
	s := newSite(t, mock.VaultOptions{OIDCRoles: []mock.VaultOIDCRole{{Name: "hosts", TTL: time.Hour}}}, func(o *Options) {
		o.IdentityTokens = map[string]IdentityToken{"ci": {Role: "hosts"}}
	})
	c, err := s.get(t, "ci")
	if err != nil {
		t.Fatal(err)
	}
	token, ok := c.(*credential.Token)
	if !ok || token.Type != "JWT" || len(token.Value.Reveal()) < 100 || s.source.Reread(credential.Key{Name: "ci"}) != 0 {
		t.Fatalf("got %T of type %q", c, token.Type)
	}
	lives(t, c, time.Hour)
	s.vault.SetFaults(mock.Fault{Kind: mock.Age, Time: 2 * time.Hour, On: mock.Credentials})
	if _, err := s.get(t, "ci"); err == nil {
		t.Error("a token that has ended was given")
	}
}
