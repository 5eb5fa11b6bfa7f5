package imds

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/frontend"
)

var (
	iamWithInfo    = listing("info", "security-credentials/")
	iamWithoutInfo = listing("security-credentials/")
)

const noRole = "this caller has no role"

// setProfile keeps a configured instance profile.
func (f *Frontend) setProfile(p InstanceProfile) error {
	if p.ARN == "" {
		if p.ID != "" {
			return errors.New("instance_profile: has an id but no arn; set both or only the arn")
		}
		return nil
	}
	arn, ok := credential.ParseARN(p.ARN)
	if !ok || !arn.IsInstanceProfile() {
		return fmt.Errorf("instance_profile.arn: %q is not like arn:aws:iam::123456789012:instance-profile/NAME", p.ARN)
	}
	if p.ID == "" {
		p.ID = profileID(p.ARN)
	}
	f.profile, f.account = p, arn.Account
	return nil
}

// profileID makes up an ID of the right form that stays the same for one ARN.
func profileID(arn string) string {
	sum := sha256.Sum256([]byte(arn))
	return "AIPA" + base32.StdEncoding.EncodeToString(sum[:])[:17]
}

// An attachedProfile is what iam/info shows to one caller. It has no account where
// none is known, and then there is nothing to show.
type attachedProfile struct {
	InstanceProfile
	account string
	updated time.Time
}

// attached returns the instance profile that a caller sees. A tool like Terraform
// takes the account of the credentials from there, so it is the account of the
// caller's first role; the configured profile counts where that is the same account
// or is not known.
func (f *Frontend) attached(e *exchange) attachedProfile {
	names := e.view.Names()
	if len(names) == 0 {
		return attachedProfile{}
	}
	updated, account, partition := f.started, "", f.partition()
	if keys, err := frontend.AWS(e.r.Context(), e.view, names[0]); err == nil {
		updated, account = keys.Issued, frontend.AccountID(keys)
		if arn, ok := credential.ParseARN(keys.RoleARN); ok {
			partition = arn.Partition
		}
	}
	switch {
	case f.account != "" && (account == "" || account == f.account):
		return attachedProfile{f.profile, f.account, updated}
	case account == "":
		return attachedProfile{}
	default:
		arn := "arn:" + partition + ":iam::" + account + ":instance-profile/" + names[0]
		return attachedProfile{InstanceProfile{ARN: arn, ID: profileID(arn)}, account, updated}
	}
}

// partition is the part of the AWS cloud this host claims to be in.
func (f *Frontend) partition() string {
	region := f.metadata.text("placement/region")
	switch configured := f.metadata.text("services/partition"); {
	case configured != "":
		return configured
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	default:
		return "aws"
	}
}

func (f *Frontend) iamListing(e *exchange) {
	if len(e.view.Names()) == 0 {
		e.notFound(noRole)
		return
	}
	body := iamWithoutInfo
	if f.attached(e).account != "" {
		body = iamWithInfo
	}
	e.text(body, f.modified, frontend.Listed)
}

func (f *Frontend) iamInfo(e *exchange) {
	profile := f.attached(e)
	if profile.account == "" {
		e.notFound("no role, or no account known for it")
		return
	}
	b := frontend.NewBuffer()
	defer b.Free()
	b.Text = document(b.Text).info(profile)
	e.text(b.Text, lastModified(profile.updated), frontend.Listed)
}

// roleList answers with exactly one name and no line end: botocore and the
// JavaScript SDK take the whole body for the role's name.
func (f *Frontend) roleList(e *exchange, extended bool) {
	names := e.view.Names()
	if len(names) == 0 {
		e.notFound(noRole)
		return
	}
	e.outcome.Credential = names[0]
	if extended {
		keys, err := frontend.AWS(e.r.Context(), e.view, names[0])
		if err != nil || frontend.AccountID(keys) == "" {
			e.notFound("the extended form needs an account ID")
			return
		}
	}
	b := frontend.NewBuffer()
	defer b.Free()
	b.Text = append(b.Text, names[0]...)
	e.text(b.Text, f.modified, frontend.Listed)
}

// role answers with the credentials of one role, which need not be the one that is
// listed. In the extended form an SDK takes a 404 as a sign to use the plain one, so
// that is the answer whenever the account is not known.
func (f *Frontend) role(e *exchange, name string, extended bool) {
	e.outcome.Credential = name
	b := frontend.NewBuffer()
	defer b.Free()
	keys, err := frontend.AWS(e.r.Context(), e.view, name)
	if err != nil {
		decision, reason := frontend.Explain(err)
		if decision == frontend.NotFound || extended {
			e.page(http.StatusNotFound, decision, reason)
			return
		}
		now := time.Now()
		code, message := "Failed", "no valid credentials"
		if errors.Is(err, credential.ErrRefused) {
			code, message = "AssumeRoleUnauthorizedAccess", "EC2 cannot assume the role "+name+"."
		}
		b.Text = document(b.Text).failure(code, message, now)
		e.outcome.Reason = reason
		e.text(b.Text, lastModified(now), decision)
		return
	}
	account := ""
	if extended {
		if account = frontend.AccountID(keys); account == "" {
			e.notFound("the extended form needs an account ID")
			return
		}
	}
	b.Text = document(b.Text).credentials(keys, account)
	e.text(b.Text, lastModified(keys.Issued), frontend.Served)
}
