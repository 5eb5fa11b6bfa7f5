package vault

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/mock"
)

var quiet = zerolog.Nop()

// Cases 5 and 6: nobody gets the keys of an IAM user unasked, and none is left behind.
func TestIAMUserIsRefusedAndGivenBack(t *testing.T) {
	for _, newer := range []bool{false, true} {
		o := one(mock.VaultAWSRole{Type: mock.IAMUser})
		o.Newer = newer
		s := newSite(t, o, func(o *Options) { o.AWS.Roles["web"] = Role{Path: "creds/web"} })
		want := `GET /v1/aws/creds/web: the role "web" in Vault has the credential type iam_user: each question creates an IAM user, which is deleted when the token ends; this one was created and was given back. Choose a role of type assumed_role, or set allow_iam_user`
		for range 3 {
			if _, err := s.get(t, "web"); err == nil || s.says(t, err) != want {
				t.Errorf("newer %v: got %v, want %s", newer, err, want)
			}
		}
		if r := s.vault.Record(); r.LeasesMade != 1 || r.LeasesRevoked != 1 || r.Leases != 0 {
			t.Errorf("newer %v: %d users made, %d revoked", newer, r.LeasesMade, r.LeasesRevoked)
		}
	}
}

func TestIAMUserThatCannotBeGivenBackIsSaid(t *testing.T) {
	s := newSite(t, one(mock.VaultAWSRole{Type: mock.IAMUser}), func(o *Options) { o.AWS.Roles["web"] = Role{Path: "creds/web"} })
	s.vault.SetPolicy("purser", mock.VaultRule{Path: "aws/creds/*", Capabilities: []string{"read"}})
	_, err := s.get(t, "web")
	if want := "this one was created and cannot be given back (a policy must allow update on sys/leases/revoke)."; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q in it", err, want)
	}
}

// userKeys is the answer that has the keys of a new user.
func userKeys(id string) *secret {
	return &secret{LeaseID: "aws/creds/web/" + id, Renewable: true, LeaseDuration: "2764800", Data: map[string]any{"access_key": id, "secret_key": "s", "security_token": nil}}
}

// userOn is a role that makes users, and what fetches it and looks at what comes.
func userOn(t *testing.T, s *script) func(id string, ends time.Duration, asked int) {
	r := &awsRole{options: Role{AllowIAMUser: true}, mount: "aws", path: "creds/web", session: s, leases: newLeases(s, quiet), log: quiet}
	return func(id string, ends time.Duration, asked int) {
		t.Helper()
		c, err := r.fetch(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		keys := c.(*credential.AWS)
		if keys.AccessKeyID != id || len(s.asked) != asked || !keys.SessionToken.Empty() {
			t.Errorf("got %s after %d questions, want %s after %d", keys.AccessKeyID, len(s.asked), id, asked)
		}
		lives(t, keys, ends)
	}
}

// Case 54: the keys of a user end with the token, whatever the lease says; renewing
// the token, then the lease, keeps them.
func TestKeysOfAUserEndWithTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{end: time.Now().Add(time.Hour), secrets: []*secret{
			userKeys("AKIA1"), {LeaseDuration: "2764800"}, {LeaseDuration: "2764800"}, {LeaseDuration: "2700"}, {LeaseDuration: "2700"}, userKeys("AKIA2"),
		}}
		fetch := userOn(t, s)
		fetch("AKIA1", time.Hour, 1)
		time.Sleep(30 * time.Minute)
		fetch("AKIA1", 30*time.Minute, 2) // still there, and new ones would end no later
		fetch("AKIA1", 30*time.Minute, 2)
		s.end = time.Now().Add(2 * time.Hour)
		fetch("AKIA1", 2*time.Hour, 3) // renewed
		time.Sleep(90 * time.Minute)
		s.end = time.Now().Add(40 * 24 * time.Hour)
		fetch("AKIA1", 45*time.Minute, 4)  // renewed, and close to the lease's own limit
		fetch("AKIA2", 32*24*time.Hour, 6) // which it has reached
	})
}

// A policy without sys/leases/renew does not make a user each time: they last as long as
// the token, which is renewed, until their lease ends.
func TestKeysOfAUserThatMayNotBeRenewedLastAsLongAsTheirLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{end: time.Now().Add(time.Hour), secrets: []*secret{userKeys("AKIA1"), nil, nil, nil, nil, userKeys("AKIA2")}}
		fetch := userOn(t, s)
		fetch("AKIA1", time.Hour, 1)
		time.Sleep(30 * time.Minute)
		s.end = time.Now().Add(2 * time.Hour)
		fetch("AKIA1", 2*time.Hour, 2)
		s.end = time.Now().Add(31 * 24 * time.Hour)
		fetch("AKIA1", 31*24*time.Hour, 3)
		time.Sleep(30 * 24 * time.Hour)
		s.end = time.Now().Add(31 * 24 * time.Hour)
		fetch("AKIA1", 47*time.Hour+30*time.Minute, 4)
		fetch("AKIA2", 31*24*time.Hour, 6)
	})
}

// The same with a Vault: a policy is told from a token that is dead.
func TestUserIsKeptWhereAPolicyForbidsToRenewIt(t *testing.T) {
	s := newSite(t, one(mock.VaultAWSRole{Type: mock.IAMUser}), func(o *Options) { o.AWS.Roles["web"] = Role{Path: "creds/web", AllowIAMUser: true} })
	s.vault.SetPolicy("default", mock.VaultRule{Path: "auth/token/lookup-self", Capabilities: []string{"read"}})
	first := s.fetch(t, "web")
	s.source.Hurry()
	if again := s.fetch(t, "web"); again.AccessKeyID != first.AccessKeyID {
		t.Error("another user was made")
	}
	if r := s.vault.Record(); r.LeasesMade != 1 || r.LeasesRenewed != 0 {
		t.Errorf("%d users made, %d leases renewed", r.LeasesMade, r.LeasesRenewed)
	}
	s.vault.RevokeTokens()
	s.source.Hurry()
	if _, err := s.get(t, "web"); err == nil {
		t.Error("keys that went with the token were given again")
	}
}

// Case 52: what went with another token is not renewed.
func TestKeysOfAUserWhoseTokenIsGoneAreMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{end: time.Now().Add(time.Hour), secrets: []*secret{userKeys("AKIA1"), userKeys("AKIA2")}}
		fetch := userOn(t, s)
		fetch("AKIA1", time.Hour, 1)
		s.token++
		s.end = time.Now().Add(2 * time.Hour)
		fetch("AKIA2", 2*time.Hour, 2)
	})
}

// The keys of a user whose lease an operator revoked are dead, so that new ones count
// which end earlier: with a token, say.
func TestKeysOfAUserWhoseLeaseIsGoneGiveWayToNewOnes(t *testing.T) {
	o := one(mock.VaultAWSRole{Type: mock.IAMUser})
	s := newSite(t, o, func(o *Options) { o.AWS.Roles["web"] = Role{Path: "creds/web", AllowIAMUser: true} })
	web := credential.Key{Name: "web"}
	for _, supersedes := range []bool{false, false} {
		s.fetch(t, "web")
		if got := s.source.Supersedes(web); got != supersedes {
			t.Errorf("made or renewed: supersedes %v, want %v", got, supersedes)
		}
	}
	s.vault.RevokeLeases()
	s.source.Hurry()
	s.fetch(t, "web")
	if !s.source.Supersedes(web) {
		t.Error("new keys do not count, and the dead ones stay")
	}
	s.source.Hurry()
	s.fetch(t, "web")
	if s.source.Supersedes(web) {
		t.Error("keys that were renewed count as others")
	}
	if s.source.Supersedes(credential.Key{Name: "other"}) {
		t.Error("so does what nobody declared")
	}
}

// Somebody who asks for it now is not told that all is well while nobody knows: not
// while a user cannot live longer at present, nor after one that nobody wants.
func TestHurryAsksVaultAlsoWhereThatLooksPointless(t *testing.T) {
	s := newSite(t, one(mock.VaultAWSRole{Type: mock.IAMUser}), func(o *Options) { o.AWS.Roles["web"] = Role{Path: "creds/web", AllowIAMUser: true} })
	first := s.fetch(t, "web")
	s.vault.RevokeLeases()
	if s.fetch(t, "web") != first {
		t.Error("nobody hurries, and Vault was asked")
	}
	s.source.Hurry()
	if s.fetch(t, "web") == first {
		t.Error("the keys of a lease that was revoked were given again")
	}
	refused := newSite(t, one(mock.VaultAWSRole{Type: mock.IAMUser}), func(o *Options) { o.AWS.Roles["web"] = Role{Path: "creds/web"} })
	for range 2 {
		if _, err := refused.get(t, "web"); err == nil {
			t.Fatal("the keys of a user were given unasked")
		}
		refused.source.Hurry()
	}
	if made := refused.vault.Record().LeasesMade; made != 2 {
		t.Errorf("a role that may have been changed was asked %d times", made)
	}
}

// The token that counts is the one with which keys were made, also if a login has put
// another in its place by the time that the answer is there.
func TestKeysOfAUserEndWithTheTokenThatMadeThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{end: time.Now().Add(time.Hour), logins: 1, secrets: []*secret{userKeys("AKIA1"), userKeys("AKIA2")}}
		fetch := userOn(t, s)
		fetch("AKIA1", time.Hour, 1)
		s.logins, s.end = 0, time.Now().Add(2*time.Hour)
		fetch("AKIA2", 2*time.Hour, 2)
	})
}

// A user is asked for once, and while its lease is there renewed.
func TestUserIsRenewedRatherThanMadeAgain(t *testing.T) {
	o := one(mock.VaultAWSRole{Type: mock.IAMUser})
	o.Tokens = []mock.VaultToken{{ID: mock.Marker, Root: true}}
	s := newSite(t, o, func(o *Options) {
		o.Auth.Token.Value = credential.NewSecret(mock.Marker)
		o.AWS.Roles["web"] = Role{Path: "creds/web", AllowIAMUser: true}
	})
	first := s.fetch(t, "web")
	lives(t, first, 768*time.Hour)
	s.fetch(t, "web")
	s.fetch(t, "web")
	if r := s.vault.Record(); r.LeasesMade != 1 || r.LeasesRenewed != 2 {
		t.Errorf("%d users made, leases renewed %d times", r.LeasesMade, r.LeasesRenewed)
	}
	s.vault.RevokeLeases()
	if again := s.fetch(t, "web"); again.AccessKeyID == first.AccessKeyID {
		t.Error("keys of a lease that was revoked were given again")
	}
}
