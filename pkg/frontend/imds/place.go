package imds

import (
	"net/url"
	"slices"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/frontend"
)

const latest = "latest"

// versions are the API versions that the real service listed in 2024. All of them
// answer as latest does, except that only latest makes session tokens.
var versions = []string{
	"1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01",
	"2008-09-01", "2009-04-04", "2011-01-01", "2011-05-01", "2012-01-12", "2014-02-25", "2014-11-05",
	"2015-10-20", "2016-04-19", "2016-06-30", "2016-09-02", "2018-03-28", "2018-08-17", "2018-09-24",
	"2019-10-01", "2020-10-27", "2021-01-03", "2021-03-23", "2021-07-15", "2022-09-24", "2024-04-11",
	latest,
}

var versionList = lines(versions)

func isVersion(segment string) bool { return segment == latest || slices.Contains(versions, segment) }

// kind says what answers at a place.
type kind int

const (
	nothing kind = iota
	fixed        // place.body
	sessionToken
	datedToken
	userData
	metadataRoot
	identityDocument
	iamRoot
	iamInfo
	roleList
	roleKeys // place.role
)

// A place is where a path leads.
type place struct {
	kind     kind
	pattern  string // for the metrics
	body     []byte
	role     string
	extended bool // the form of the role's documents that has the account ID
}

// elsewhere is where nothing is.
var elsewhere = place{pattern: "other"}

// find routes a request. It is a walk rather than an http.ServeMux because that one
// answers a missing slash, a double one or a dot segment with a redirect, which some
// SDKs do not follow and which the real service does not send.
func (f *Frontend) find(u *url.URL) place {
	if before, role, ok := frontend.RoleOf(u); ok {
		return f.findRole(before, role)
	}
	path, ok := frontend.PathOf(u)
	if !ok {
		return elsewhere
	}
	return f.walk(path)
}

// findRole is where the ARN of a role leads, which no listing shows.
func (f *Frontend) findRole(before frontend.Path, arn string) place {
	at := f.walk(before)
	if at.kind != roleList {
		return elsewhere
	}
	at.kind, at.role, at.pattern = roleKeys, arn, at.pattern+"{role}"
	return at
}

func (f *Frontend) walk(path frontend.Path) place {
	version := path.Next()
	if version == "" {
		return place{kind: fixed, pattern: "/", body: versionList}
	}
	if !isVersion(version) {
		return elsewhere
	}
	switch path.Next() {
	case "":
		return place{kind: fixed, pattern: "/{version}/", body: f.top}
	case "meta-data":
		return f.findMetadata(path)
	case "dynamic":
		return f.findDynamic(path)
	case "user-data":
		if path.End() && len(f.userData) > 0 {
			return place{kind: userData, pattern: "/{version}/user-data"}
		}
	case "api":
		switch {
		case path.Next() != "token" || !path.End():
		case version == latest:
			return place{kind: sessionToken, pattern: "/latest/api/token"}
		default:
			return place{kind: datedToken, pattern: "/{version}/api/token"}
		}
	}
	return elsewhere
}

func (f *Frontend) findMetadata(path frontend.Path) place {
	if path.End() {
		return place{kind: metadataRoot, pattern: "/{version}/meta-data/"}
	}
	rest := path
	if rest.Next() == "iam" {
		return findIAM(rest)
	}
	body, found := f.metadata.lookUp(path)
	if !found {
		return elsewhere
	}
	return place{kind: fixed, pattern: "/{version}/meta-data/{path}", body: body}
}

func findIAM(path frontend.Path) place {
	const base = "/{version}/meta-data/iam/"
	extended := false
	switch path.Next() {
	case "":
		return place{kind: iamRoot, pattern: base}
	case "info":
		if path.End() {
			return place{kind: iamInfo, pattern: base + "info"}
		}
		return elsewhere
	case "security-credentials":
	case "security-credentials-extended":
		extended = true
	default:
		return elsewhere
	}
	at := place{kind: roleList, pattern: base + "security-credentials/", extended: extended}
	if extended {
		at.pattern = base + "security-credentials-extended/"
	}
	if path.End() {
		return at
	}
	at.kind, at.role, at.pattern = roleKeys, path.Next(), base+"security-credentials/{role}"
	if extended {
		at.pattern = base + "security-credentials-extended/{role}"
	}
	// A name that nothing can have is not worth a look-up or a place in the log.
	if !path.End() || credential.CheckName(at.role) != nil {
		return elsewhere
	}
	return at
}

func (f *Frontend) findDynamic(path frontend.Path) place {
	const pattern = "/{version}/dynamic/{path}"
	if !f.identity.exists() {
		return elsewhere
	}
	switch path.Next() {
	case "":
		return place{kind: fixed, pattern: pattern, body: f.dynamic}
	case "instance-identity":
		switch leaf := path.Next(); {
		case leaf == "":
			return place{kind: fixed, pattern: pattern, body: identityListing}
		case leaf == "document" && path.End():
			return place{kind: identityDocument, pattern: "/{version}/dynamic/instance-identity/document"}
		}
	}
	return elsewhere
}
