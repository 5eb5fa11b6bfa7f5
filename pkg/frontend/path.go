package frontend

import (
	"net/url"
	"strings"
)

// A Path is what is left of a request's path while a dialect takes it segment by
// segment. Several slashes count as one and those at the end as none, so that both
// slash forms of a path are one path and nothing is ever redirected. The segments
// "." and ".." have no meaning: no dialect has them, so they lead to its 404.
type Path string

// PathOf returns the decoded path of a request. It reports false for one that hides
// a dot or a slash behind an escape: whoever looked at the request before may have
// read it differently, and no client has a reason to send it.
func PathOf(u *url.URL) (Path, bool) {
	raw := strings.ToLower(u.RawPath) // empty unless the path was escaped in an unusual way
	if strings.Contains(raw, "%2e") || strings.Contains(raw, "%2f") {
		return "", false
	}
	return Path(u.Path), true
}

// Next takes the next segment; at the end it is empty.
func (p *Path) Next() string {
	segment, rest, _ := strings.Cut(strings.TrimLeft(string(*p), "/"), "/")
	*p = Path(rest)
	return segment
}

// End reports whether no segment is left.
func (p Path) End() bool { return strings.TrimLeft(string(p), "/") == "" }
