package mock

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// IAMOptions say what an IAM knows.
type IAMOptions struct {
	Keys  *Keys          // those that may sign, and where the keys that it makes go; needed
	Users []string       // those there are from the start
	Log   zerolog.Logger // one line per request; the zero value writes none
}

// An IAM keeps users, their keys and their policies like Identity and Access
// Management, as far as Vault's AWS engine asks it to: everyone with good keys may do
// everything. In the record of requests, and in a fault, the role is the action's
// name.
type IAM struct {
	Control

	keys *Keys

	mu    sync.Mutex // guards users
	users map[string]*iamUser
}

type iamUser struct {
	id       string
	keys     []string // access key IDs, the oldest first
	attached []string // ARNs of managed policies
	inline   []string // names of its own policies
}

// Bounds of an IAM.
const (
	maxUsers    = 10_000
	maxUserKeys = 2  // as in AWS
	maxPolicies = 10 // as in AWS, of each of the two kinds
)

// NewIAM returns an IAM, an http.Handler.
func NewIAM(o IAMOptions) *IAM {
	i := &IAM{Control: Control{log: o.Log}, keys: o.Keys, users: map[string]*iamUser{}}
	for _, name := range o.Users {
		i.users[name] = &iamUser{id: newUserID()}
	}
	return i
}

// Users returns the names of the users that exist, sorted.
func (i *IAM) Users() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Sorted(maps.Keys(i.users))
}

// ServeHTTP implements http.Handler.
func (i *IAM) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, ControlPath) {
		i.serveControl(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	form, formErr := url.ParseQuery(string(body))
	if err != nil || formErr != nil {
		form = url.Values{}
	}
	i.serve(w, r, Credentials, form.Get("Action"), func(hits faults) reply { return i.answer(r, body, form, hits) })
}

func (i *IAM) answer(r *http.Request, body []byte, form url.Values, hits faults) reply {
	if r.Method != http.MethodPost || r.URL.Path != "/" && r.URL.Path != "" {
		return failure(http.StatusNotFound)
	}
	signer, refusal := verify(r, body, i.keys, "iam", "", time.Now().Add(hits.skew()))
	if refusal != nil {
		return refusal.reply()
	}
	if fault, ok := hits.find(Code); ok {
		return (&awsError{statusOf(fault.Code), fault.Code, "scripted " + secret(40)}).reply()
	}
	action := form.Get("Action")
	result, refusal := i.act(action, cmp.Or(form.Get("UserName"), signer.of), form)
	if refusal != nil {
		return refusal.reply()
	}
	text := fmt.Appendf(nil, "<%sResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\">\n  <%sResult>%s</%sResult>\n"+
		"  <ResponseMetadata><RequestId>00000000-0000-0000-0000-000000000000</RequestId></ResponseMetadata>\n</%sResponse>\n",
		action, action, result, action, action)
	return reply{status: http.StatusOK, contentType: "text/xml", body: text}
}

// act does what an action says, and returns the inside of its result.
func (i *IAM) act(action, name string, form url.Values) (string, *awsError) {
	i.mu.Lock()
	defer i.mu.Unlock()
	user := i.users[name]
	if action == "CreateUser" {
		return i.create(name)
	}
	if user == nil {
		return "", &awsError{http.StatusNotFound, "NoSuchEntity", fmt.Sprintf("The user with name %s cannot be found.", name)}
	}
	switch action {
	case "GetUser":
		return user.xml(name), nil
	case "DeleteUser":
		if len(user.keys)+len(user.attached)+len(user.inline) > 0 {
			return "", &awsError{http.StatusConflict, "DeleteConflict", "Cannot delete entity, must remove what belongs to it first."}
		}
		delete(i.users, name)
	case "AttachUserPolicy":
		return "", addName(&user.attached, form.Get("PolicyArn"))
	case "DetachUserPolicy":
		return "", dropName(&user.attached, form.Get("PolicyArn"))
	case "PutUserPolicy":
		return "", addName(&user.inline, form.Get("PolicyName"))
	case "DeleteUserPolicy":
		return "", dropName(&user.inline, form.Get("PolicyName"))
	case "ListAttachedUserPolicies":
		return members("AttachedPolicies", user.attached, "<PolicyArn>", "</PolicyArn>"), nil
	case "ListUserPolicies":
		return members("PolicyNames", user.inline, "", ""), nil
	case "ListGroupsForUser":
		return members("Groups", nil, "", ""), nil
	case "CreateAccessKey":
		return i.createKey(user, name)
	case "DeleteAccessKey":
		refusal := dropName(&user.keys, form.Get("AccessKeyId"))
		if refusal == nil {
			i.keys.Revoke(form.Get("AccessKeyId"))
		}
		return "", refusal
	case "ListAccessKeys":
		return members("AccessKeyMetadata", user.keys, "<UserName>"+escapeXML(name)+"</UserName><Status>Active</Status><AccessKeyId>", "</AccessKeyId>"), nil
	default:
		return "", &awsError{http.StatusBadRequest, "InvalidAction", "Could not find operation"}
	}
	return "", nil
}

func (i *IAM) create(name string) (string, *awsError) {
	switch {
	case name == "" || len(name) > 64:
		return "", invalid("1 validation error detected: Value at 'userName' failed to satisfy constraint")
	case i.users[name] != nil:
		return "", &awsError{http.StatusConflict, "EntityAlreadyExists", fmt.Sprintf("User with name %s already exists.", name)}
	case len(i.users) >= maxUsers:
		return "", &awsError{http.StatusConflict, "LimitExceeded", "Cannot exceed quota for Users"}
	}
	i.users[name] = &iamUser{id: newUserID()}
	return i.users[name].xml(name), nil
}

func (i *IAM) createKey(user *iamUser, name string) (string, *awsError) {
	if len(user.keys) >= maxUserKeys {
		return "", &awsError{http.StatusConflict, "LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: 2"}
	}
	id, secretKey := i.keys.User(name)
	user.keys = append(user.keys, id)
	return fmt.Sprintf("<AccessKey><UserName>%s</UserName><AccessKeyId>%s</AccessKeyId><Status>Active</Status><SecretAccessKey>%s</SecretAccessKey></AccessKey>",
		escapeXML(name), id, secretKey), nil
}

func newUserID() string { return "AIDA" + rand.Text()[:17] }

func (u *iamUser) xml(name string) string {
	return fmt.Sprintf("<User><Path>/</Path><UserName>%s</UserName><UserId>%s</UserId><Arn>arn:aws:iam::123456789012:user/%s</Arn></User>",
		escapeXML(name), u.id, escapeXML(name))
}

// members is a list that is complete.
func members(list string, of []string, before, after string) string {
	var b strings.Builder
	for _, one := range of {
		b.WriteString("<member>" + before + escapeXML(one) + after + "</member>")
	}
	return fmt.Sprintf("<%s>%s</%s><IsTruncated>false</IsTruncated>", list, b.String(), list)
}

// addName adds the name of a policy, which may be there already.
func addName(all *[]string, one string) *awsError {
	switch {
	case one == "" || len(one) > 2048:
		return invalid("1 validation error detected: a policy's name failed to satisfy constraint")
	case slices.Contains(*all, one):
		return nil
	case len(*all) >= maxPolicies:
		return &awsError{http.StatusConflict, "LimitExceeded", "Cannot exceed quota for PoliciesPerUser: 10"}
	}
	*all = append(*all, one)
	return nil
}

// dropName removes a text that has to be there.
func dropName(all *[]string, one string) *awsError {
	at := slices.Index(*all, one)
	if at < 0 {
		return &awsError{http.StatusNotFound, "NoSuchEntity", fmt.Sprintf("%s cannot be found.", one)}
	}
	*all = slices.Delete(*all, at, at+1)
	return nil
}
