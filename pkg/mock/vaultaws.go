package mock

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"math"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The credential types of the AWS engine.
const (
	AssumedRole     = "assumed_role"
	FederationToken = "federation_token"
	SessionToken    = "session_token" // of newer servers only
	IAMUser         = "iam_user"
)

// CredentialTypes are all of them.
func CredentialTypes() []string { return []string{AssumedRole, FederationToken, SessionToken, IAMUser} }

// A VaultAWSRole makes AWS keys below creds/ and sts/ of an AWS engine.
type VaultAWSRole struct {
	Mount  string // aws if empty
	Name   string
	Type   string        // AssumedRole if empty
	ARNs   []string      // of an AssumedRole; with several, a reader must say which. One with the role's name if empty
	TTL    time.Duration // default_sts_ttl; an hour if zero. It may be less than AWS's quarter of an hour, which a reader may not ask for
	MaxTTL time.Duration // max_sts_ttl; that of the server if zero
}

// A VaultStaticRole has the keys of an IAM user below static-creds/.
type VaultStaticRole struct {
	Mount  string // aws if empty
	Name   string
	User   string        // the name if empty
	Period time.Duration // newer servers tell with it when the keys are changed next; zero for not
}

// aws answers below an AWS engine.
func (v *Vault) aws(c *vaultCall) (*envelope, *vaultError) {
	kind, name, _ := strings.Cut(c.below, "/")
	switch kind {
	case "creds", "sts":
		if c.does == canList || name == "" {
			return nil, errPath
		}
		if refusal := c.only(canRead, canUpdate); refusal != nil {
			return nil, refusal
		}
		return v.awsKeys(c, name)
	case "static-creds":
		if refusal := c.only(canRead); refusal != nil {
			return nil, refusal
		}
		return v.staticKeys(c, name)
	case "roles":
		return v.awsRoles(c, name)
	}
	return nil, errPath
}

// awsRole finds a role.
func (v *Vault) awsRole(mount, name string) (VaultAWSRole, bool) {
	at := slices.IndexFunc(v.o.AWSRoles, func(r VaultAWSRole) bool { return r.Mount == mount && r.Name == name })
	if at < 0 {
		return VaultAWSRole{}, false
	}
	role := v.o.AWSRoles[at]
	role.Type = cmp.Or(role.Type, AssumedRole)
	if len(role.ARNs) == 0 && role.Type == AssumedRole {
		role.ARNs = []string{"arn:aws:iam::123456789012:role/" + name}
	}
	return role, true
}

// awsRoles answers roles/NAME and the list of names.
func (v *Vault) awsRoles(c *vaultCall, name string) (*envelope, *vaultError) {
	if name == "" && c.does == canList {
		names := []string{}
		for _, role := range v.o.AWSRoles {
			if role.Mount == c.mount {
				names = append(names, role.Name)
			}
		}
		if len(names) == 0 {
			return nil, errNone
		}
		slices.Sort(names)
		return with(map[string]any{"keys": names}), nil
	}
	role, ok := v.awsRole(c.mount, name)
	switch {
	case c.does != canRead:
		return nil, errVerb
	case !ok:
		return nil, errNone
	}
	return with(map[string]any{
		"credential_type": role.Type, "role_arns": role.ARNs, "policy_arns": nil, "policy_document": "", "iam_groups": nil, "iam_tags": nil,
		"default_sts_ttl": int64(role.TTL / time.Second), "max_sts_ttl": int64(role.MaxTTL / time.Second),
		"user_path": "", "permissions_boundary_arn": "",
	}), nil
}

// notInSessionNames is what the engine replaces by an underscore.
var notInSessionNames = regexp.MustCompile(`[^\w+=,.@-]`)

// awsKeys makes keys of any type.
func (v *Vault) awsKeys(c *vaultCall, name string) (*envelope, *vaultError) {
	role, ok := v.awsRole(c.mount, name)
	if !ok || c.hits.has(Vanished) {
		return nil, refuse(http.StatusBadRequest, "Role %q not found", name)
	}
	v.record.Reads[c.namespace+c.path]++
	arn := c.text("role_arn")
	if role.Type == AssumedRole {
		switch {
		case arn == "" && len(role.ARNs) > 1:
			return nil, refuse(http.StatusBadRequest, "did not supply a role_arn parameter and unable to determine one")
		case arn == "":
			arn = role.ARNs[0]
		case !slices.Contains(role.ARNs, arn):
			return nil, refuse(http.StatusBadRequest, "role_arn %q not in allowed role arns for Vault role %q", arn, name)
		}
	}
	if refusal := stsRefusal(c, role, arn); refusal != nil {
		return nil, refusal
	}
	if role.Type == IAMUser {
		return v.userKeys(c, role), nil
	}
	return v.sessionKeys(c, role, arn)
}

// stsRefusal is what the engine makes of an error of AWS, scripted by the fault code.
func stsRefusal(c *vaultCall, role VaultAWSRole, arn string) *vaultError {
	fault, ok := c.hits.find(Code)
	if !ok {
		return nil
	}
	call, failed := awsCall(role.Type)
	status, message := statusOf(fault.Code), "scripted "+secret(40)
	switch fault.Code {
	case "AccessDenied":
		message = "User: arn:aws:iam::123456789012:user/vault is not authorized to perform: sts:" + call + " on resource: " + arn
	case "Throttling":
		return refuse(http.StatusBadGateway, "%s: Throttling: Rate exceeded\n\tstatus code: 400, request id: %s", failed, vaultID())
	case "Unreachable":
		return refuse(http.StatusBadRequest, "%s: RequestError: send request failed\ncaused by: Post \"https://sts.amazonaws.com/\": dial tcp 127.0.0.1:443: connect: connection refused", failed)
	}
	return refuse(http.StatusBadRequest, "%s: %s: %s\n\tstatus code: %d, request id: %s", failed, fault.Code, message, status, vaultID())
}

// awsCall is the call that the engine makes for a type, and how it says that it failed.
func awsCall(kind string) (name, failed string) {
	switch kind {
	case AssumedRole:
		return "AssumeRole", "Error assuming role"
	case IAMUser:
		return "CreateUser", "Error creating IAM user"
	case SessionToken:
		return "GetSessionToken", "Error generating STS keys"
	}
	return "GetFederationToken", "Error generating STS keys"
}

// tooSmall is what AWS's client says of a parameter before it calls.
func tooSmall(kind, what, name string) *vaultError {
	call, failed := awsCall(kind)
	return refuse(http.StatusBadRequest, "%s: InvalidParameter: 1 validation error(s) found.\n- minimum field %s, %sInput.%s.\n", failed, what, call, name)
}

// tooLarge is what AWS says of it.
func tooLarge(kind, name, given string) *vaultError {
	_, failed := awsCall(kind)
	return refuse(http.StatusBadRequest, "%s: ValidationError: 1 validation error detected: Value '%s' at '%s' failed to satisfy constraint\n\tstatus code: 400, request id: %s", failed, given, name, vaultID())
}

// sessionKeys makes keys that end, as STS does.
func (v *Vault) sessionKeys(c *vaultCall, role VaultAWSRole, arn string) (*envelope, *vaultError) {
	asked := c.time("ttl")
	ttl := min(cmp.Or(asked, role.TTL, time.Hour), cmp.Or(role.MaxTTL, longestLease))
	switch {
	case asked > 0 && ttl < 15*time.Minute:
		return nil, tooSmall(role.Type, "value of 900", "DurationSeconds")
	case asked > 0 && ttl > 36*time.Hour:
		return nil, tooLarge(role.Type, "durationSeconds", strconv.Itoa(int(ttl.Seconds())))
	}
	if brief, ok := c.hits.find(Short); ok {
		ttl = brief.Time
	}
	session := notInSessionNames.ReplaceAllString(c.text("role_session_name"), "_")
	if session == "" {
		session = fmt.Sprintf("vault-%s-%s-%d-%s", c.token.display, role.Name, c.now.Unix(), rand.Text()[:20])
		session = session[:min(len(session), 64)]
	}
	switch {
	case len(session) < 2:
		return nil, tooSmall(role.Type, "size of 2", "RoleSessionName")
	case len(session) > 64:
		return nil, tooLarge(role.Type, "roleSessionName", session)
	}
	of := role.Name
	if role.Type == AssumedRole {
		of = path.Base(arn)
	}
	ends := c.now.Add(ttl)
	if c.hits.has(Expired) {
		ends = c.now.Add(-5 * time.Minute)
	}
	made := v.o.Keys.session(of, ends)
	data := map[string]any{"access_key": made.id, "secret_key": made.secret, "ttl": int64((ttl - 1) / time.Second)}
	if role.Type != SessionToken {
		data["security_token"] = made.token
	}
	if v.o.Newer || role.Type == SessionToken {
		data["session_token"] = made.token
	}
	if role.Type == AssumedRole {
		parts := strings.Split(arn, ":")
		data["arn"] = fmt.Sprintf("arn:%s:sts::%s:assumed-role/%s/%s", parts[1], parts[4], of, session)
	}
	lease := ttl
	if left := c.token.left(c.now); c.token.grant.Batch && left < lease {
		lease = left - 1 // rounded down
	}
	env := with(data)
	env.LeaseDuration = new(int64(lease / time.Second))
	v.lease(c, env, &vaultLease{ends: c.now.Add(lease), ttl: lease})
	oddExpiry(c, env)
	return env, nil
}

// userKeys makes the keys of a new IAM user. They go with their lease, and with the
// token that asked for them.
func (v *Vault) userKeys(c *vaultCall, role VaultAWSRole) *envelope {
	ends := c.now.Add(longestLease)
	made := v.o.Keys.user("vault-"+role.Name, earlier(ends, c.token.ends))
	field := "security_token"
	if v.o.Newer {
		field = "session_token"
	}
	env := with(map[string]any{"access_key": made.id, "secret_key": made.secret, field: nil})
	env.Renewable = true
	lease := longestLease
	if left := c.token.left(c.now); c.token.grant.Batch && left < lease {
		lease = left - 1
	}
	env.LeaseDuration = new(int64(lease / time.Second))
	v.lease(c, env, &vaultLease{ends: c.now.Add(lease), ttl: lease, renewable: true, key: made.id})
	oddExpiry(c, env)
	return env
}

// staticKeys shows the keys of a static role.
func (v *Vault) staticKeys(c *vaultCall, name string) (*envelope, *vaultError) {
	at := slices.IndexFunc(v.o.StaticRoles, func(r VaultStaticRole) bool { return r.Mount == c.mount && r.Name == name })
	if at < 0 || c.hits.has(Vanished) {
		return nil, errNone
	}
	v.record.Reads[c.namespace+c.path]++
	role := v.o.StaticRoles[at]
	made := v.staticKey(role)
	data := map[string]any{"access_key": made.id, "secret_key": made.secret}
	if role.Period > 0 && v.o.Newer {
		data["expiration"] = c.now.Add(role.Period).UTC().Format(time.RFC3339)
	}
	if c.hits.has(Incomplete) {
		delete(data, "secret_key")
	}
	return with(data), nil
}

// staticKey makes the keys of a static role at their first use.
func (v *Vault) staticKey(role VaultStaticRole) key {
	made, ok := v.static[role.Mount+role.Name]
	if !ok {
		made = v.o.Keys.user(cmp.Or(role.User, role.Name), time.Now().AddDate(100, 0, 0))
		v.static[role.Mount+role.Name] = made
	}
	return made
}

// RotateStatic changes the keys of all static roles of a name; the old ones open
// nothing from now on.
func (v *Vault) RotateStatic(name string) {
	v.state.Lock()
	defer v.state.Unlock()
	for _, role := range v.o.StaticRoles {
		if role.Name == name {
			v.o.Keys.Revoke(v.static[role.Mount+name].id)
			delete(v.static, role.Mount+name)
		}
	}
}

// oddExpiry is what servers have been seen to answer about the end of keys.
func oddExpiry(c *vaultCall, env *envelope) {
	for _, fault := range c.hits {
		switch fault.Kind {
		case Expired: // the keys ended in the past of Vault's clock
			env.Data["ttl"], env.LeaseDuration = uint64(math.MaxUint64-299), seconds(longestLease)
		case Lease:
			env.LeaseDuration = seconds(fault.Time)
		case TTL:
			env.Data["ttl"] = int64(fault.Time / time.Second)
		case NoExpiry:
			delete(env.Data, "ttl")
			env.LeaseDuration = nil
		case TTLText:
			env.Data["ttl"] = fmt.Sprint(env.Data["ttl"])
		case Incomplete:
			delete(env.Data, "secret_key")
		}
	}
}
