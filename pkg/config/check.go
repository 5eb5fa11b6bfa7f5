package config

import (
	"fmt"
	"maps"
	"net/netip"
	pathpkg "path"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/purser-agent/purser/pkg/credential"
)

// A validator is a kind's options that know more about their form than their types
// say. Each of the errors that it joins begins with its key and a colon, and shows
// no secret.
type validator interface{ Validate() error }

// check looks at everything that can be judged without asking the system. What was
// reported while decoding is not reported again as its consequence.
func (l *loader) check(c *Config) {
	l.checkListeners(c)
	if socket := (path{"admin", "socket"}); !strings.HasPrefix(c.Admin.Socket, "/") || len(c.Admin.Socket) > 107 {
		l.reject(socket, "%s: %s is not an absolute path of at most 107 bytes", socket, quote(c.Admin.Socket))
	}
	l.account(path{"admin", "group"}, c.Admin.Group, true)
	l.account(path{"user"}, c.User, false)
	l.account(path{"group"}, c.Group, true) // empty only if user is
	l.oneOf(path{"log", "level"}, c.Log.Level, []string{"trace", "debug", "info", "warn", "error"})
	l.oneOf(path{"log", "format"}, c.Log.Format, []string{"json", "console"})
	l.checkAWS(c.AWS)
	l.between(path{"ready", "timeout"}, c.Ready.Timeout, 0, 24*time.Hour)
	l.between(path{"on_demand", "wait"}, c.OnDemand.Wait, 0, 5*time.Second) // pkg/server gives an answer 10 s
	l.checkConnections(c.Connections)
	for _, name := range slices.Sorted(maps.Keys(c.Upstreams)) {
		l.checkUpstream(path{"upstreams", name}, c.Upstreams[name])
	}
	for _, name := range slices.Sorted(maps.Keys(c.Grants)) {
		l.checkGrant(path{"grants", name}, c.Grants[name])
	}
	if l.options.Check != nil && len(l.problems) == 0 {
		for _, err := range flatten(l.options.Check(c)) {
			l.rejectOption(nil, err)
		}
	}
}

// reject notes a problem at a path unless decoding had one there already. Several
// rules may reject the same value.
func (l *loader) reject(at path, format string, args ...any) {
	if !l.leavesOut(at) && !l.spoiled.has(at) {
		l.problem(l.origins.of(at), nil, format, args...)
	}
}

// oneOf demands one of a few words.
func (l *loader) oneOf(at path, value string, known []string) bool {
	if slices.Contains(known, value) {
		return true
	}
	l.reject(at, "unknown value %s for %s%s; known: %s",
		quote(value), at, DidYouMean(value, known), strings.Join(known, ", "))
	return false
}

func (l *loader) between(at path, value, least, most time.Duration) {
	if value < least || value > most {
		l.reject(at, "%s: %s is not between %s and %s", at, short(value), short(least), short(most))
	}
}

// name demands what can be one line of a listing and one segment of a path.
func (l *loader) name(at path, name string) {
	if err := credential.CheckName(name); err != nil {
		l.reject(at, "%s: %s", at, err)
	}
}

// account demands what may be the name of a user or a group.
func (l *loader) account(at path, name string, optional bool) {
	bad := func(r rune) bool { return r == ':' || r == '/' || unicode.IsSpace(r) || !unicode.IsPrint(r) }
	if name == "" && optional {
		return
	}
	if name == "" || len(name) > 256 || strings.ContainsFunc(name, bad) {
		l.reject(at, "%s: %s cannot be the name of an account", at, quote(name))
	}
}

func (l *loader) checkListeners(c *Config) {
	if len(c.Listen) == 0 {
		l.reject(path{"listen"}, "there is no listener under listen, so nobody could ask; add one such as main: {address: 127.0.0.1:25772}")
	}
	taken := map[netip.AddrPort]string{}
	if c.Telemetry.Listen.IsValid() {
		taken[c.Telemetry.Listen] = "telemetry.listen"
	}
	for _, name := range slices.Sorted(maps.Keys(c.Listen)) {
		at, listener := path{"listen", name}, c.Listen[name]
		l.name(at, name)
		l.checkListener(at, listener)
		if listener.Address.Port() == 0 { // the system will choose one that is free
			continue
		}
		if other, twice := taken[listener.Address]; twice {
			l.reject(at.with("address"), "%s is %s, which is taken by %s", at.with("address"), listener.Address, other)
		}
		taken[listener.Address] = at.with("address").String()
	}
}

func (l *loader) checkListener(at path, listener Listener) {
	if !listener.Address.IsValid() {
		l.reject(at.with("address"), "%s has no address; write one such as 127.0.0.1:25772", at)
	}
	if len(listener.Dialects) == 0 {
		l.reject(at.with("dialects"), "%s speaks no dialect; known: %s", at, strings.Join(l.options.Dialects, ", "))
	}
	for i, dialect := range listener.Dialects {
		l.oneOf(at.with("dialects").index(i), dialect, l.options.Dialects)
		if slices.Contains(listener.Dialects[:i], dialect) {
			l.reject(at.with("dialects").index(i), "%s: %s is there twice", at.with("dialects"), quote(dialect))
		}
	}
	for i, network := range listener.From {
		if network != network.Masked() {
			l.reject(at.with("from").index(i), "%s: %s is an address in a network; the network is %s",
				at.with("from"), network, network.Masked())
		}
	}
	for i, host := range listener.Hosts {
		if !hostname(host) {
			l.reject(at.with("hosts").index(i), "%s: %s is not a host name without port", at.with("hosts"), quote(host))
		}
	}
	if listener.HopLimit < 1 || listener.HopLimit > 255 {
		l.reject(at.with("hop_limit"), "%s: %d is not between 1 and 255", at.with("hop_limit"), listener.HopLimit)
	}
}

// hostname accepts what a Host header may hold: a name or an address.
func hostname(name string) bool {
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return name != "" && len(name) <= 253 && !strings.ContainsFunc(name, func(r rune) bool {
		return r != '-' && r != '.' && r != '_' && (r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r))
	})
}

func (l *loader) checkAWS(aws AWS) {
	at := path{"aws", "metadata"}
	if _, reserved := aws.Metadata["iam"]; reserved {
		l.reject(at.with("iam"), "%s is Purser's own and cannot be set", at.with("iam"))
	}
	l.checkMetadata(at, aws.Metadata)

	at = path{"aws", "instance_profile"}
	profile := aws.InstanceProfile
	if profile.ID != "" && profile.ARN == "" {
		l.reject(at, "%s has an id but no arn", at)
	}
	if arn, ok := credential.ParseARN(profile.ARN); profile.ARN != "" && (!ok || !arn.IsInstanceProfile()) {
		l.reject(at.with("arn"), "%s: %s is not an ARN such as arn:aws:iam::123456789012:instance-profile/web",
			at.with("arn"), quote(profile.ARN))
	}
	const most = 16 << 10 // bytes, as on EC2
	at = path{"aws", "user_data"}
	if len(aws.UserData) > most {
		l.reject(at, "%s is longer than %d bytes", at, most)
	}
}

func (l *loader) checkMetadata(at path, tree map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		l.name(at.with(name), name)
		if below, ok := tree[name].(map[string]any); ok {
			l.checkMetadata(at.with(name), below)
		}
	}
}

func (l *loader) checkConnections(connections Connections) {
	const most = 1 << 20
	at := path{"connections", "most"}
	if connections.Most < 1 || connections.Most > most {
		l.reject(at, "%s: %d is not between 1 and %d", at, connections.Most, most)
	}
	at = path{"connections", "per_user"}
	if connections.PerUser < 1 || connections.PerUser > connections.Most {
		l.reject(at, "%s: %d is not between 1 and connections.most, which is %d", at, connections.PerUser, connections.Most)
	}
}

func (l *loader) checkUpstream(at path, upstream Upstream) {
	l.name(at, at[len(at)-1])
	refresh := at.with("refresh")
	if upstream.Refresh.Longest != 0 { // 0 is no limit
		l.between(refresh.with("longest"), upstream.Refresh.Longest, time.Minute, 48*time.Hour)
	}
	l.between(refresh.with("splay"), upstream.Refresh.Splay, 0, time.Hour)
	l.between(refresh.with("list_every"), upstream.Refresh.ListEvery, time.Minute, 48*time.Hour)
	if options, ok := upstream.Options.(validator); ok {
		for _, err := range flatten(options.Validate()) {
			l.rejectOption(at, err)
		}
	}
}

// rejectOption notes what a kind says of its options, or a dialect of the whole
// configuration, at the line of the key that the error begins with.
func (l *loader) rejectOption(at path, err error) {
	text := err.Error()
	key, _, _ := strings.Cut(text, ":")
	if len(at) > 0 {
		text = at.String() + "." + text
	}
	l.reject(slices.Concat(at, strings.Split(key, ".")), "%s", text)
}

// flatten lists the errors that errors.Join put together.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, one := range joined.Unwrap() {
		all = append(all, flatten(one)...)
	}
	return all
}

func (l *loader) checkGrant(at path, grant Grant) {
	name := at[len(at)-1]
	l.name(at, name)
	conditions := len(grant.User) + len(grant.Group) + len(grant.Unit)
	switch {
	case name == Everyone && conditions > 0:
		l.reject(at, "%s cannot have a user, group or unit: it is for everyone; give the grant another name", at)
	case name != Everyone && conditions == 0:
		l.reject(at, "%s needs a user, group or unit; only grants.%s is for everyone", at, Everyone)
	case len(grant.Credentials) == 0 && grant.IMDSv1 == nil:
		l.reject(at, `%s grants nothing; list credentials, ["*"] for all`, at)
	}
	for i, user := range grant.User {
		l.account(at.with("user").index(i), user, false)
	}
	for i, group := range grant.Group {
		l.account(at.with("group").index(i), group, false)
	}
	for i, unit := range grant.Unit {
		if why := badUnit(unit); why != "" {
			l.reject(at.with("unit").index(i), "%s: %s %s", at.with("unit"), quote(unit), why)
		}
	}
	for i, pattern := range grant.Credentials {
		switch {
		case credential.IsRoleARN(pattern): // of roles on demand, which no other pattern can match
		case strings.HasPrefix(pattern, "arn:") && strings.Contains(pattern, "/"):
			l.reject(at.with("credentials").index(i), "%s: %s is not like arn:aws:iam::123456789012:role/app-*, for roles of one account", at.with("credentials").index(i), quote(pattern))
		default:
			l.name(at.with("credentials").index(i), pattern)
		}
		if _, err := pathpkg.Match(pattern, ""); err != nil {
			l.reject(at.with("credentials").index(i), "%s: %s is not a valid pattern", at.with("credentials"), quote(pattern))
		}
	}
}

// badUnit says why a pattern cannot match the name of a systemd unit that runs
// processes.
func badUnit(pattern string) string {
	if _, err := pathpkg.Match(pattern, ""); err != nil || credential.CheckName(pattern) != nil {
		return "is not a valid pattern"
	}
	for _, suffix := range []string{".service", ".scope", ".socket", ".mount", ".swap", "*"} {
		if strings.HasSuffix(pattern, suffix) {
			return ""
		}
	}
	return fmt.Sprintf("does not end like the name of a unit; did you mean %s?", quote(pattern+".service"))
}

// short is a duration without the zeros at its end: 6h instead of 6h0m0s.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
