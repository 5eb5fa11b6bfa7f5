package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/mock"
	"github.com/purser-agent/purser/pkg/upstream"
)

const webARN = "arn:aws:iam::123456789012:role/web"

// Cases 1 and 10: what an assumed role gives, and what is asked for it.
func TestKeysOfAnAssumedRole(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		t.Run(method, func(t *testing.T) {
			s := newSite(t, one(mock.VaultAWSRole{ARNs: []string{webARN}}), func(o *Options) {
				o.AWS.Roles["web"] = Role{Path: "creds/web", RoleARN: webARN, TTL: 30 * time.Minute, SessionName: "{{ .Credential }} on {{ .Hostname }}", Method: method}
			})
			keys := s.fetch(t, "web")
			lives(t, keys, 30*time.Minute)
			if keys.AccountID != "123456789012" || keys.RoleARN != webARN || !strings.Contains(keys.SessionToken.Reveal(), mock.Marker) || !strings.Contains(keys.SecretAccessKey.Reveal(), mock.Marker) {
				t.Errorf("got account %q, role %q", keys.AccountID, keys.RoleARN)
			}
			latest := s.vault.Record().Latest
			last := latest[len(latest)-1]
			if last.Method != method || last.Path != "aws/creds/web" || !last.Marked {
				t.Errorf("Vault was asked %+v", last)
			}
			hostname, _ := os.Hostname()
			if want := "role_arn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fweb&role_session_name=web-on-" + hostname + "&ttl=1800s"; method == "GET" && last.Query != want {
				t.Errorf("the query is %q, want %q", last.Query, want)
			}
		})
	}
}

// script answers what a test says, in order, without a server.
type script struct {
	secrets []*secret // nil is a policy that forbids it
	age     time.Duration
	end     time.Time
	token   int // the number of the present one
	logins  int // that come right after an answer
	asked   []request
}

func (s *script) ask(_ context.Context, r request) (*answer, error) {
	s.asked = append(s.asked, r)
	next := s.secrets[0]
	s.secrets = s.secrets[1:]
	defer func() { s.token += s.logins }()
	if next == nil {
		return nil, &upstream.Error{Kind: upstream.ClassRefused, Status: 403, Err: denied{errors.New("no")}}
	}
	return &answer{secret: next, sent: time.Now(), age: s.age, raw: &upstream.Answer{Status: 200}, by: s.present()}, nil
}

func (s *script) present() *token {
	return &token{value: credential.NewSecret(fmt.Sprint("token ", s.token)), until: s.end}
}

// Cases 1 to 4 and 11: which fields are taken of what different servers answer.
func TestFieldsOfEachCredentialType(t *testing.T) {
	base := map[string]any{"access_key": "ASIA1", "secret_key": "s", "ttl": json.Number("3599")}
	with := func(more map[string]any) map[string]any {
		all := maps.Clone(base)
		maps.Copy(all, more)
		return all
	}
	for _, test := range []struct {
		name string
		data map[string]any
		want string // the session token, or an error
	}{
		{"1: assumed_role of Vault 1.14 and OpenBao", with(map[string]any{"security_token": "old", "arn": "arn:aws:sts::123456789012:assumed-role/web/host"}), "old"},
		{"2: assumed_role of a newer server", with(map[string]any{"security_token": "old", "session_token": "new"}), "new"},
		{"3: session_token", with(map[string]any{"session_token": "new"}), "new"},
		{"4: federation_token without arn", with(map[string]any{"security_token": "old"}), "old"},
		{"11: fields that nobody knows", with(map[string]any{"security_token": "old", "more": []any{true}, "arn": 7}), "old"},
		{"11: a life as a text", with(map[string]any{"security_token": "old", "ttl": "3599"}), "old"},
		{"no session token", base, `the answer has no field "session_token"`},
		{"an empty key", with(map[string]any{"access_key": "", "session_token": "new"}), `the answer has no field "access_key"`},
		{"a key that is no text", with(map[string]any{"secret_key": json.Number("1"), "session_token": "new"}), `the field "secret_key" is not a text`},
		{"a key with a line end", with(map[string]any{"secret_key": "a\nb", "session_token": "new"}), `the field "secret_key" has characters that do not belong in it`},
		{"a key without end", with(map[string]any{"secret_key": strings.Repeat("x", 2000), "session_token": "new"}), `the field "secret_key" is longer than 1024 bytes`},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := &awsRole{session: &script{secrets: []*secret{{Data: test.data, LeaseDuration: "3600"}}}, leases: newLeases(nil, quiet), mount: "aws", path: "sts/web", log: quiet}
			c, err := r.fetch(t.Context())
			if err != nil {
				if got := strings.TrimPrefix(err.Error(), ": "); got != test.want {
					t.Errorf("got error %q, want %q", got, test.want)
				}
				return
			}
			if got := c.(*credential.AWS).SessionToken.Reveal(); got != test.want {
				t.Errorf("got the token %q, want %q", got, test.want)
			}
			lives(t, c, 3599*time.Second)
		})
	}
}

// Cases 9, 14 to 21 against a server that answers so; the table of lifespan has the
// numbers.
func TestEndOfKeysIsTheOneThatTheyHave(t *testing.T) {
	for _, test := range []struct {
		name  string
		role  mock.VaultAWSRole
		ttl   time.Duration
		fault mock.Fault
		want  time.Duration
	}{
		{"9: more is asked for than there is", mock.VaultAWSRole{MaxTTL: 30 * time.Minute}, 5 * time.Hour, mock.Fault{}, 30 * time.Minute},
		{"14: no lease", mock.VaultAWSRole{}, 0, mock.Fault{Kind: mock.Lease, Time: 0}, time.Hour},
		{"15: the end is in the past of Vault's clock", mock.VaultAWSRole{}, 0, mock.Fault{Kind: mock.Expired}, 15 * time.Minute},
		{"17: a lease longer than asked for", mock.VaultAWSRole{}, time.Hour, mock.Fault{Kind: mock.Lease, Time: 2 * time.Hour}, time.Hour},
		{"19: no word of it", mock.VaultAWSRole{}, 0, mock.Fault{Kind: mock.NoExpiry}, 15 * time.Minute},
		{"20: from a cache", mock.VaultAWSRole{}, 0, mock.Fault{Kind: mock.Age, Time: 20 * time.Minute}, 40 * time.Minute},
		{"11: as a text", mock.VaultAWSRole{}, 0, mock.Fault{Kind: mock.TTLText}, time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t, one(test.role), func(o *Options) { o.AWS.Roles["web"] = Role{TTL: test.ttl} })
			if test.fault.Kind != "" {
				test.fault.On = mock.Credentials
				s.vault.SetFaults(test.fault)
			}
			lives(t, s.fetch(t, "web"), test.want)
		})
	}
}

// Case 16: the lease of a batch token's keys ends with the token.
func TestKeysOfABatchTokenAreTakenToEndWithIt(t *testing.T) {
	s := newSite(t, one(mock.VaultAWSRole{}), nil)
	s.source.server.auth.Token.Value = credential.NewSecret(s.vault.IssueToken(mock.VaultGrant{Batch: true, TTL: 10 * time.Minute}))
	lives(t, s.fetch(t, "web"), 10*time.Minute)
}

// An answer that is older than its keys live gives nothing.
func TestKeysThatHaveEndedInACacheAreAnError(t *testing.T) {
	s := newSite(t, one(mock.VaultAWSRole{}), nil)
	s.vault.SetFaults(mock.Fault{Kind: mock.Age, Time: 2 * time.Hour, On: mock.Credentials})
	_, err := s.get(t, "web")
	if got, want := s.says(t, err), "GET /v1/aws/sts/web: what Vault gave ended 1h0m1s ago; compare the clocks, and what keeps answers on the way"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Case 18: keys that live shorter than the schedule waits are not asked for in a loop.
func TestKeysOfAFewSecondsAreNotAskedForAgainAtOnce(t *testing.T) {
	s := newSite(t, one(mock.VaultAWSRole{}), nil)
	s.vault.SetFaults(mock.Fault{Kind: mock.Short, Time: 30 * time.Second, On: mock.Credentials})
	first := s.fetch(t, "web")
	for range 5 {
		if again := s.fetch(t, "web"); again != first {
			t.Error("other keys came within a second")
		}
	}
	if n := s.vault.Record().Reads["aws/sts/web"]; n != 1 {
		t.Errorf("Vault made keys %d times", n)
	}
	s.vault.SetFaults()
	longer := newSite(t, one(mock.VaultAWSRole{}), nil)
	if one := longer.fetch(t, "web"); one == longer.fetch(t, "web") {
		t.Error("a refresh of keys that live an hour gave the same ones")
	}
}

// Case 8: which role of AWS it shall be.
func TestRoleARNIsLookedUpWhereVaultWantsIt(t *testing.T) {
	other := "arn:aws:iam::123456789012:role/other"
	needs := "GET /v1/aws/sts/web: answered 400: "
	for _, test := range []struct {
		name string
		arns []string
		set  string
		deny bool
		want string
	}{
		{"one", []string{webARN}, "", false, ""},
		{"one of several, by configuration", []string{webARN, other}, other, false, ""},
		{"several", []string{webARN, other}, "", false, needs + `the role "web" in Vault may assume several roles; set role_arn to one of ` + other + ", " + webARN},
		{"several, and no look", []string{webARN, other}, "", true, needs + `the role "web" in Vault may assume several roles; say which by role_arn`},
		{"one that is not allowed", []string{webARN}, other, false, needs + "the role behind aws/sts/web may not assume the role of AWS that role_arn names"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t, one(mock.VaultAWSRole{ARNs: test.arns}), func(o *Options) { o.AWS.Roles["web"] = Role{RoleARN: test.set} })
			if test.deny {
				s.vault.SetPolicy("purser", mock.VaultRule{Path: "aws/sts/*", Capabilities: []string{"read"}})
			}
			_, err := s.get(t, "web")
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && err == nil:
				t.Error("keys came")
			case test.want != "" && s.says(t, err) != test.want:
				t.Errorf("got %q, want %q", s.says(t, err), test.want)
			}
		})
	}
}

// A server that wants the ARN although there is only one gets it, as from Attaché.
func TestRoleARNThatIsTheOnlyOneIsSaid(t *testing.T) {
	r, s := &awsRole{mount: "aws", path: "sts/web"}, &script{secrets: []*secret{{Data: map[string]any{"role_arns": []any{webARN, "nonsense", 7}}}}}
	r.session = s
	got, err := r.findARN(t.Context(), nil)
	if err != nil || got != webARN || s.asked[0].path != "aws/roles/web" {
		t.Errorf("got %q, %v after asking %+v", got, err, s.asked)
	}
}

// Case 24: what Vault takes to answer is not added to the life of keys.
func TestLifeOfKeysBeginsBeforeTheQuestion(t *testing.T) {
	s := newSite(t, one(mock.VaultAWSRole{}), nil)
	s.vault.SetFaults(mock.Fault{Kind: mock.Latency, Time: 1500 * time.Millisecond, On: mock.Credentials})
	begin := time.Now()
	keys := s.fetch(t, "web")
	if most := begin.Add(time.Hour); keys.Expires.After(most.Add(100 * time.Millisecond)) {
		t.Errorf("keys that were asked for at %v are taken to live until %v", begin, keys.Expires)
	}
}

// Case 19: how often it happened is said, too.
func TestLifeThatIsUnknownIsWarnedOfAndCounted(t *testing.T) {
	var said strings.Builder
	s := newSite(t, one(mock.VaultAWSRole{}), nil)
	var err error
	if s.source, err = New("vault", s.source.options, nil, nil, zerolog.New(&said)); err != nil {
		t.Fatal(err)
	}
	s.vault.SetFaults(mock.Fault{Kind: mock.NoExpiry, On: mock.Credentials})
	s.fetch(t, "web")
	s.fetch(t, "web")
	for _, want := range []string{`"so_far":1`, `"so_far":2`, `"taken_for":"15m0s"`, `"path":"aws/sts/web"`} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("%s is not in the log:\n%s", want, said.String())
		}
	}
}

// Case 92: fetching for weeks leaves nothing behind in this process.
func TestHundredsOfFetchesLeaveNothingBehind(t *testing.T) {
	s := newSite(t, one(mock.VaultAWSRole{}), nil)
	s.fetch(t, "web")
	before := runtime.NumGoroutine()
	for range 300 {
		s.fetch(t, "web")
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before+5; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}
