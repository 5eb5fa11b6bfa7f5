package frontend

import (
	"net/url"
	"strings"

	"github.com/purser-agent/purser/pkg/credential"
)

// A Path is what is left of a request's path while a dialect takes it segment by
// segment. Several slashes count as one and those at the end as none, so that both
// slash forms of a path are one path and nothing is ever redirected. The segments
// "." and ".." have no meaning: no dialect has them, so they lead to its 404.
type Path string

// PathOf returns the decoded path of a request. It reports false for one that hides
// a dot or a slash behind an escape: whoever looked at the request before may have
// read it differently, and no client has a reason to send it, but for what RoleOf
// takes.
func PathOf(u *url.URL) (Path, bool) {
	raw := strings.ToLower(u.RawPath) // empty unless the path was escaped in an unusual way
	if strings.Contains(raw, "%2e") || strings.Contains(raw, "%2f") {
		return "", false
	}
	return Path(u.Path), true
}

// RoleOf returns the ARN of a role that is the last segment of a request's path, and the
// path before it. The slashes of an ARN are escaped, so that it is one segment whatever
// the path of the role is. It reports false for everything else.
func RoleOf(u *url.URL) (before Path, arn string, ok bool) {
	if !strings.Contains(strings.ToLower(u.RawPath), "%2f") {
		return "", "", false
	}
	raw := strings.TrimRight(u.RawPath, "/")
	at := strings.LastIndexByte(raw, '/') + 1
	arn, err := url.PathUnescape(raw[at:])
	if err != nil || !credential.IsRoleARN(arn) {
		return "", "", false
	}
	folder, err := url.PathUnescape(raw[:at])
	if err != nil {
		return "", "", false
	}
	before, ok = PathOf(&url.URL{Path: folder, RawPath: raw[:at]})
	return before, arn, ok
}

// Next takes the next segment; at the end it is empty.
func (p *Path) Next() string {
	segment, rest, _ := strings.Cut(strings.TrimLeft(string(*p), "/"), "/")
	*p = Path(rest)
	return segment
}

// End reports whether no segment is left.
func (p Path) End() bool { return strings.TrimLeft(string(p), "/") == "" }
