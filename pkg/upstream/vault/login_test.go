package vault

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/mock"
	"github.com/purser-agent/purser/pkg/testkit"
	"github.com/purser-agent/purser/pkg/upstream"
)

var jwtKey = []byte("the key of an issuer of JWTs for tests")

// jwt makes one that is valid for an hour from a moment before now.
func jwt(t *testing.T, change func(claims map[string]any)) string {
	t.Helper()
	claims := map[string]any{
		"aud": "vault", "sub": "web01",
		"iat": time.Now().Add(-time.Minute).Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	if change != nil {
		change(claims)
	}
	text, err := mock.SignJWT(jwtKey, claims)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func text(s string) credential.SecretRef { return credential.SecretRef{Value: credential.NewSecret(s)} }

var (
	jwtRole   = mock.VaultJWTRole{Name: "web", Key: jwtKey, Audiences: []string{"vault"}}
	kubeRole  = mock.VaultJWTRole{Name: "web", Key: jwtKey, Kubernetes: true}
	passwords = []mock.VaultUser{{Name: "web", Password: "CONFIDENTIAL"}, {Name: "web", Password: "CONFIDENTIAL", LDAP: true}}
)

func TestEachMethodLogsIn(t *testing.T) {
	given := mock.VaultToken{ID: "hvs." + mock.Marker + "given"}
	keys := &mock.Keys{}
	id, secret := keys.User("base")
	base := testkit.NewBase("base", &credential.AWS{AccessKeyID: id, SecretAccessKey: credential.NewSecret(secret)}, nil)
	for name, s := range map[string]setting{
		"approle":       {},
		"token":         {vault: mock.VaultOptions{Tokens: []mock.VaultToken{given}}, auth: Auth{Method: "token", Token: secretFile(t, given.ID)}},
		"jwt":           {vault: mock.VaultOptions{JWTRoles: []mock.VaultJWTRole{jwtRole}}, auth: Auth{Method: "jwt", Role: "web", JWT: secretFile(t, jwt(t, nil)+" \n")}},
		"jwt, early":    {vault: mock.VaultOptions{JWTRoles: []mock.VaultJWTRole{jwtRole}}, auth: Auth{Method: "jwt", Role: "web", JWT: text(jwt(t, func(c map[string]any) { c["nbf"] = time.Now().Add(40 * time.Second).Unix() }))}}, // case 63
		"kubernetes":    {vault: mock.VaultOptions{JWTRoles: []mock.VaultJWTRole{kubeRole}}, auth: Auth{Method: "kubernetes", Role: "web", JWT: secretFile(t, jwt(t, nil))}},
		"ldap":          {vault: mock.VaultOptions{Users: passwords}, auth: Auth{Method: "ldap", Username: "web", Password: text("CONFIDENTIAL")}},
		"userpass":      {vault: mock.VaultOptions{Users: passwords}, auth: Auth{Method: "userpass", Username: "web", Password: text("CONFIDENTIAL")}},
		"aws":           {vault: mock.VaultOptions{Keys: keys, AWSLogins: []mock.VaultAWSLogin{{Name: "web", By: []string{"base"}}}}, auth: Auth{Method: "aws", Role: "web", Base: BaseOptions{Credential: "base"}}, base: base},
		"aws guarded":   {vault: mock.VaultOptions{Keys: keys, AWSLogins: []mock.VaultAWSLogin{{Name: "web", ServerID: "vault.example.com"}}}, auth: Auth{Method: "aws", Role: "web", Header: "vault.example.com", Region: "eu-central-1", Base: BaseOptions{Upstream: "x"}}, base: base},
		"exec jwt":      {vault: mock.VaultOptions{JWTRoles: []mock.VaultJWTRole{jwtRole}}, auth: Auth{Method: "exec", As: "jwt", Role: "web", Command: []string{"/bin/x"}}, programs: &printer{text: jwt(t, nil) + "\n"}},
		"exec token":    {vault: mock.VaultOptions{Tokens: []mock.VaultToken{given}}, auth: Auth{Method: "exec", As: "token", Command: []string{"/bin/x"}}, programs: &printer{text: given.ID + "\n"}},
		"exec kerberos": {vault: mock.VaultOptions{KerberosFor: []mock.VaultKerberos{{Negotiate: "CONFIDENTIAL=="}}}, auth: Auth{Method: "exec", As: "kerberos", Command: []string{"/bin/x", "-a"}}, programs: &printer{text: "CONFIDENTIAL==\n"}},
		"elsewhere":     {vault: mock.VaultOptions{JWTRoles: []mock.VaultJWTRole{{Mount: "auth/ci/jwt", Name: "web", Key: jwtKey, Audiences: []string{"vault"}}}}, auth: Auth{Method: "jwt", Mount: "ci/jwt", Role: "web", JWT: text(jwt(t, nil))}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newGate(t, s)
			if err := p.keys(t); err != nil {
				t.Fatal(err)
			}
			if got := p.detail(); !strings.HasPrefix(got, "logged in until ") {
				t.Errorf("detail says %q", got)
			}
			if err := p.check(); err != nil {
				t.Errorf("check finds %v", err)
			}
			p.close(t.Context())
			want := 1
			if name == "token" || name == "exec token" { // case 57: somebody else's
				want = 0
			}
			if got := p.vault.Record().TokensRevoked; got != want {
				t.Errorf("%d tokens were revoked, want %d", got, want)
			}
		})
	}
}

// A refusedLogin is a login that fails, and the sentence that says why.
type refusedLogin struct {
	name  string
	s     setting
	fault *mock.Fault
	want  string
}

func sayWhy(t *testing.T, all []refusedLogin) {
	t.Helper()
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			g := newGate(t, c.s)
			if c.fault != nil {
				g.vault.SetFaults(*c.fault)
			}
			if _, got := says(t, g.keys(t)); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// case 58, 64, 66 and 67
func TestALoginByAppRoleThatIsRefusedSaysWhy(t *testing.T) {
	appRoles := func(change func(r *mock.VaultAppRole)) mock.VaultOptions {
		r := mock.VaultAppRole{Name: "web", RoleID: roleID, SecretIDs: []mock.VaultSecretID{{ID: secretID}}}
		change(&r)
		return mock.VaultOptions{AppRoles: []mock.VaultAppRole{r}}
	}
	sayWhy(t, []refusedLogin{
		{"a role ID that nobody has", setting{vault: appRoles(func(r *mock.VaultAppRole) { r.RoleID = "other" })}, nil,
			"answered 400: Vault knows no such role ID at auth/approle; correct auth.role_id or auth.mount"},
		{"a secret ID that is used up", setting{vault: appRoles(func(r *mock.VaultAppRole) { r.SecretIDs = []mock.VaultSecretID{} })}, nil,
			"answered 400: Vault does not take the role ID or the secret ID: a secret ID may be mistyped, expired, used up or of another role; have a new one issued"},
		{"a secret ID for other addresses", setting{vault: appRoles(func(r *mock.VaultAppRole) { r.SecretIDs[0].CIDRs = []string{"192.0.2.0/24"} })}, nil,
			"answered 400: Vault does not let this host in from the address it has: the role or the secret ID is bound to other addresses (CIDR)"},
		{"no secret ID", setting{auth: Auth{Method: "approle", RoleID: text(roleID)}}, nil,
			"answered 400: the role wants a secret ID; set auth.secret_id"},
		{"no such mount", setting{auth: Auth{Method: "approle", Mount: "elsewhere", RoleID: text(roleID)}}, nil,
			"answered 403: Vault does not let this host log in: nothing may be mounted at auth/elsewhere, the role may be bound to other addresses (CIDR), or the user be locked"},
		{"a second factor", setting{}, &mock.Fault{Kind: mock.MFA, On: mock.Login},
			"Vault wants a second factor for this login, which no service can give; take this entity out of the MFA enforcement, or choose another method"},
		{"no token in the answer", setting{}, &mock.Fault{Kind: mock.Incomplete, On: mock.Login},
			"the answer to the login has no client_token"},
		{"a seal", setting{}, &mock.Fault{Kind: mock.Sealed},
			"answered 503: Vault is sealed; somebody must unseal it"},
		{"no leader", setting{}, &mock.Fault{Kind: mock.NoLeader},
			"answered 500: Vault's cluster has no leader at present; it is choosing one"},
		{"a missing file", setting{auth: Auth{Method: "approle", RoleID: text(roleID), SecretID: credential.SecretRef{File: "/nonexistent/secret_id"}}}, nil,
			"auth.secret_id: open /nonexistent/secret_id: no such file or directory"},
	})
}

// case 62, 63 and 65
func TestALoginByAProofThatIsRefusedSaysWhy(t *testing.T) {
	withJWT := func(change func(claims map[string]any)) setting {
		return setting{vault: mock.VaultOptions{JWTRoles: []mock.VaultJWTRole{jwtRole}}, auth: Auth{Method: "jwt", Role: "web", JWT: text(jwt(t, change))}}
	}
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	sayWhy(t, []refusedLogin{
		{"a JWT for somebody else", withJWT(func(c map[string]any) { c["aud"] = "other" }), nil,
			"answered 400: the JWT is made for another audience than the role at auth/jwt wants"},
		{"a JWT of tomorrow", withJWT(func(c map[string]any) { c["nbf"] = in(200 * time.Second) }), nil,
			"answered 400: the JWT is not valid yet; compare the clocks of its issuer and of Vault"},
		{"a JWT with a broken signature", setting{vault: mock.VaultOptions{JWTRoles: []mock.VaultJWTRole{jwtRole}}, auth: Auth{Method: "jwt", Role: "web", JWT: text(jwt(t, nil) + "x")}}, nil,
			"answered 400: Vault does not take the JWT: it has expired, or its issuer, signature or form is not what auth/jwt is set to trust"},
		{"a JWT for no role", setting{vault: mock.VaultOptions{JWTRoles: []mock.VaultJWTRole{jwtRole}}, auth: Auth{Method: "jwt", Role: "db", JWT: text(jwt(t, nil))}}, nil,
			"answered 400: Vault knows no such role at auth/jwt; correct auth.role"},
		{"no JWT at all", setting{auth: Auth{Method: "jwt", JWT: text("CONFIDENTIAL")}}, nil,
			"auth.jwt: is no JWT: three parts with a dot between them"},
		{"no default role", setting{vault: mock.VaultOptions{JWTRoles: []mock.VaultJWTRole{jwtRole}}, auth: Auth{Method: "jwt", JWT: text(jwt(t, nil))}}, nil,
			"answered 400: auth/jwt has no default role; set auth.role"},
		{"a wrong password", setting{vault: mock.VaultOptions{Users: passwords}, auth: Auth{Method: "userpass", Username: "web", Password: text("CONFIDENTIAL2")}}, nil,
			"answered 400: Vault does not take the password of this user"},
		{"a wrong password of a directory", setting{vault: mock.VaultOptions{Users: passwords}, auth: Auth{Method: "ldap", Username: "web", Password: text("CONFIDENTIAL2")}}, nil,
			"answered 400: the directory does not take the password of this user"},
		{"no TLS for a certificate", setting{vault: mock.VaultOptions{CertRoles: []mock.VaultCertRole{{Name: "web"}}}, auth: Auth{Method: "cert"}}, nil,
			"answered 400: Vault saw no client certificate: TLS must end at Vault itself"},
	})
}

// case 65
func TestALoginByKeysOrAProgramThatIsRefusedSaysWhy(t *testing.T) {
	keys := &mock.Keys{}
	id, secret := keys.User("base")
	base := testkit.NewBase("base", &credential.AWS{AccessKeyID: id, SecretAccessKey: credential.NewSecret(secret)}, nil)
	wrong := testkit.NewBase("base", &credential.AWS{AccessKeyID: id, SecretAccessKey: credential.NewSecret("CONFIDENTIAL")}, nil)
	byAWS := func(role mock.VaultAWSLogin, b *testkit.Base) setting {
		return setting{vault: mock.VaultOptions{Keys: keys, AWSLogins: []mock.VaultAWSLogin{role}}, auth: Auth{Method: "aws", Role: "web", Base: BaseOptions{Credential: "base"}}, base: b}
	}
	sayWhy(t, []refusedLogin{
		{"AWS without the guard", byAWS(mock.VaultAWSLogin{Name: "web", ServerID: "vault.example.com"}, base), nil,
			"answered 400: auth/aws wants its own value of X-Vault-AWS-IAM-Server-ID; correct auth.header"},
		{"AWS by somebody else", byAWS(mock.VaultAWSLogin{Name: "web", By: []string{"other"}}, base), nil,
			"answered 400: the role at auth/aws is not for the principal of the base credential"},
		{"AWS with wrong keys", byAWS(mock.VaultAWSLogin{Name: "web"}, wrong), nil,
			"answered 400: AWS does not take the signature that the login was made with; is the base credential still valid?"},
		{"AWS for no role", byAWS(mock.VaultAWSLogin{Name: "db"}, base), nil,
			"answered 400: Vault knows no such role at auth/aws; correct auth.role"},
		{"AWS with no base yet", byAWS(mock.VaultAWSLogin{Name: "web"}, testkit.NewBase("base", nil, credential.ErrUnavailable)), nil,
			`the base "base" is not in stock yet`},
		{"a program that fails", setting{auth: Auth{Method: "exec", As: "jwt", Command: []string{"/bin/x"}}, programs: &printer{err: errors.New("/bin/x ended with exit code 3")}}, nil,
			"auth.command: /bin/x ended with exit code 3"},
		{"a program that prints too much", setting{auth: Auth{Method: "exec", As: "jwt", Command: []string{"/bin/x"}}, programs: &printer{text: "CONFIDENTIAL and more"}}, nil,
			"auth.command: the program printed nothing, or more than one word"},
		{"a Negotiate value for nobody", setting{vault: mock.VaultOptions{KerberosFor: []mock.VaultKerberos{{Negotiate: "x"}}}, auth: Auth{Method: "exec", As: "kerberos", Command: []string{"/bin/x"}}, programs: &printer{text: "CONFIDENTIAL"}}, nil,
			"answered 401: Vault does not take the Negotiate value; look at the keytab, and at the service that auth/kerberos is set up for"},
	})
}

// case 63: an expired JWT, by the claim that says when.
func TestALoginSaysWhenTheJWTEnded(t *testing.T) {
	end := time.Now().Add(-10 * time.Minute).Truncate(time.Second)
	p := newGate(t, setting{
		vault: mock.VaultOptions{JWTRoles: []mock.VaultJWTRole{jwtRole}},
		auth:  Auth{Method: "jwt", Role: "web", JWT: secretFile(t, jwt(t, func(c map[string]any) { c["exp"] = end.Unix() }))},
	})
	_, got := says(t, p.keys(t))
	if want := "answered 400: the JWT has expired; whatever writes its file does so no more; by its own words the JWT ended at " + clock(end, time.Now()); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	// case 65: the file is replaced.
	writeFile(t, p.auth.JWT.File, jwt(t, nil))
	p.again()
	if err := p.keys(t); err != nil {
		t.Errorf("with another JWT: %v", err)
	}
}

// case 65: a directory locks an account after some wrong passwords.
func TestAWrongPasswordIsTriedThreeTimesAnHour(t *testing.T) {
	p := newGate(t, setting{vault: mock.VaultOptions{Users: passwords}, auth: Auth{Method: "ldap", Username: "web", Password: secretFile(t, "wrong")}})
	for range 10 {
		p.again()
		if p.keys(t) == nil {
			t.Fatal("the wrong password is taken")
		}
	}
	if got := p.vault.Record().LoginsRefused["auth/ldap/login/web"]; got != 3 {
		t.Errorf("the password was tried %d times, want 3", got)
	}
	p.again()
	err := p.keys(t)
	fault, _ := errors.AsType[*upstream.Error](err)
	if fault == nil || fault.Wait < 59*time.Minute || !strings.Contains(err.Error(), `the password of "web" was refused 3 times and is not tried before `) {
		t.Errorf("got %v", err)
	}
	writeFile(t, p.auth.Password.File, "CONFIDENTIAL")
	p.again()
	if err := p.keys(t); err != nil {
		t.Errorf("with the right password: %v", err)
	}
}

func TestAnAWSLoginFollowsItsBase(t *testing.T) {
	keys := &mock.Keys{}
	base := testkit.NewBase("base", nil, credential.ErrUnavailable)
	p := newGate(t, setting{
		vault: mock.VaultOptions{Keys: keys, AWSLogins: []mock.VaultAWSLogin{{Name: "web"}}},
		auth:  Auth{Method: "aws", Role: "web", Base: BaseOptions{Credential: "base"}}, base: base,
	})
	err := p.keys(t)
	if waiting, ok := errors.AsType[interface {
		error
		Waiting() bool
	}](err); !ok || !waiting.Waiting() {
		t.Errorf("%v does not say that it waits for its base", err)
	}
	if p.changed() {
		t.Error("there is no other base yet")
	}
	id, secret := keys.User("base")
	base.Set(&credential.AWS{AccessKeyID: id, SecretAccessKey: credential.NewSecret(secret)}, nil)
	if !p.changed() || p.changed() {
		t.Error("the base is not noticed, or not once")
	}
	if err := p.keys(t); err != nil { // at once: Vault was not asked before
		t.Errorf("with a base: %v", err)
	}
}

func TestAnAWSLoginAllowsForAWrongClock(t *testing.T) {
	keys := &mock.Keys{}
	id, secret := keys.User("base")
	g := newGate(t, setting{
		vault: mock.VaultOptions{Keys: keys, AWSLogins: []mock.VaultAWSLogin{{Name: "web"}}},
		auth:  Auth{Method: "aws", Role: "web", Base: BaseOptions{Credential: "base"}},
		base:  testkit.NewBase("base", &credential.AWS{AccessKeyID: id, SecretAccessKey: credential.NewSecret(secret)}, nil),
	})
	g.vault.SetFaults(mock.Fault{Kind: mock.Skew, Time: time.Hour})
	if g.keys(t) == nil {
		t.Fatal("a signature from an hour ago is taken")
	}
	g.again()
	if err := g.keys(t); err != nil {
		t.Errorf("the second login does not go by the clock of the first answer: %v", err)
	}
}
