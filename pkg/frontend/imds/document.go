package imds

import (
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/frontend"
)

// A document is a JSON object being written the way the real service lays it out:
// one key per line, two spaces before it, a space on either side of the colon, no
// line end after the last brace. Shell scripts pick values out of it by that form.
type document []byte

func (d document) key(name string) document {
	if len(d) == 0 {
		d = append(d, "{\n"...)
	} else {
		d = append(d, ",\n"...)
	}
	d = append(d, `  "`...)
	d = append(d, name...)
	return append(d, `" : `...)
}

func (d document) text(name, value string) document {
	return frontend.AppendString(d.key(name), value)
}

func (d document) time(name string, value time.Time) document {
	return frontend.AppendTime(d.key(name), value)
}

func (d document) end() []byte { return append(d, "\n}"...) }

// credentials renders the document of a role. An account makes it the extended form.
func (d document) credentials(keys *credential.AWS, account string) []byte {
	d = d.text("Code", "Success").
		time("LastUpdated", keys.Issued).
		text("Type", "AWS-HMAC").
		text("AccessKeyId", keys.AccessKeyID).
		text("SecretAccessKey", keys.SecretAccessKey.Reveal()).
		text("Token", keys.SessionToken.Reveal()).
		time("Expiration", frontend.Expiration(keys))
	if account != "" {
		d = d.text("AccountId", account)
	}
	return d.end()
}

// failure renders what the real service says, with status 200, when a role is there
// but its keys are not. SDKs then report the message or move on at once, while a 404
// would mean "no role here" and a 5xx would be retried for seconds.
func (d document) failure(code, message string, now time.Time) []byte {
	return d.text("Code", code).text("Message", message).time("LastUpdated", now).end()
}

func (d document) info(profile attachedProfile) []byte {
	return d.text("Code", "Success").
		time("LastUpdated", profile.updated).
		text("InstanceProfileArn", profile.ARN).
		text("InstanceProfileId", profile.ID).
		end()
}
