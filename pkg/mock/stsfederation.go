package mock

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"time"
)

// federationToken is the action with which a user makes a session for somebody
// else, and Vault one for its federation_token roles.
const federationToken = "GetFederationToken"

var federatedName = regexp.MustCompile(`^[\w+=,.@-]{2,32}$`)

// judgeFederation checks the parameters of GetFederationToken, and that it is a user
// who calls.
func judgeFederation(signer key, form url.Values) *awsError {
	if signer.token != "" {
		return &awsError{http.StatusForbidden, "AccessDenied", "Cannot call GetFederationToken with session credentials"}
	}
	known := []string{"Action", "Version", "Name", "DurationSeconds", "Policy"}
	lists := map[string]bool{}
	if !checkMembers(form, lists, "PolicyArns", 10, ".arn") {
		return invalid("1 validation error detected: a list failed to satisfy constraint")
	}
	for name := range form {
		if !slices.Contains(known, name) && !lists[name] {
			return invalid("unknown parameter")
		}
	}
	if !federatedName.MatchString(form.Get("Name")) {
		return invalid("1 validation error detected: Value at 'name' failed to satisfy constraint")
	}
	if lifetime := duration(form); lifetime < 15*time.Minute || lifetime > 36*time.Hour {
		return invalid("1 validation error detected: Value at 'durationSeconds' failed to satisfy constraint")
	}
	return nil
}

// federated is the answer to a GetFederationToken that was granted.
func federated(made key, form url.Values) reply {
	name := escapeXML(form.Get("Name"))
	body := fmt.Appendf(nil, "<GetFederationTokenResponse xmlns=%q>\n  <GetFederationTokenResult>\n"+
		"    <FederatedUser><FederatedUserId>123456789012:%s</FederatedUserId><Arn>arn:aws:sts::123456789012:federated-user/%s</Arn></FederatedUser>\n"+
		"    %s\n  </GetFederationTokenResult>\n"+
		"  <ResponseMetadata><RequestId>00000000-0000-0000-0000-000000000000</RequestId></ResponseMetadata>\n</GetFederationTokenResponse>\n",
		stsNamespace, name, name, made.xml())
	return reply{status: http.StatusOK, contentType: "text/xml", body: body}
}
