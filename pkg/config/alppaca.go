package config

import (
	"maps"
	"net"
	"net/netip"
	pathpkg "path"
	"slices"
	"strconv"
	"strings"

	"github.com/purser-agent/purser/pkg/credential"
)

// alppacaKeys are alppaca's flat keys, but for user and group, which mean the same
// here.
var alppacaKeys = []string{
	"assume_role", "aws_proxy_host", "aws_proxy_port", "aws_region", "bind_ip", "bind_port",
	"ims_host", "ims_port", "ims_protocol", "log_format", "log_level", "logging_handler",
}

// The names of the upstreams that alppaca's keys describe.
const (
	alppacaUpstream = "alppaca"
	alppacaRole     = "alppaca-assume-role"
)

// An alppaca translates alppaca's flat keys.
type alppaca struct {
	*loader
	old   map[string]any // the keys as they were set
	layer map[string]any // the same in the new form
}

// alppaca takes alppaca's keys out of the tree of the files and returns what they
// mean as a layer below it: where both say something, the new form wins.
//
// ims_host, which alppaca cannot do without, is what makes a configuration one of
// alppaca: it also turns on what alppaca's clients rely on, IMDSv1 and every
// credential for everyone. Any other of the keys without it is a mistake.
func (l *loader) alppaca(tree map[string]any) map[string]any {
	a := alppaca{loader: l, old: map[string]any{}, layer: map[string]any{}}
	for _, key := range alppacaKeys {
		if value := tree[key]; value != nil {
			a.old[key] = value
		}
		delete(tree, key)
	}
	if a.old["ims_host"] == nil {
		for _, key := range slices.Sorted(maps.Keys(a.old)) {
			l.wrong(path{key}, "%s is a key of alppaca and needs its ims_host; Purser's own is %s", key, newForm[key])
		}
		return nil
	}
	before := len(l.problems)
	a.ims()
	if len(l.problems) > before { // what the kind would say of it is a consequence
		l.spoiled.add(path{"upstreams", alppacaUpstream})
	}
	a.bind()
	a.logging()
	a.aws()
	a.set("ims_host", true, "aws", "imds_v1")
	a.set("ims_host", []any{"*"}, "grants", Everyone, "credentials")
	a.notice("ims_host", "these are keys of alppaca; in the new form: "+flow(a.layer))
	l.newForm = &l.notices[len(l.notices)-1]
	return a.layer
}

// newForm tells what replaces a key of alppaca.
var newForm = map[string]string{
	"assume_role":     "an upstream of kind sts",
	"aws_proxy_host":  "proxy of an upstream of kind sts",
	"aws_proxy_port":  "proxy of an upstream of kind sts",
	"aws_region":      "region of an upstream of kind sts, and aws.metadata.placement.region",
	"bind_ip":         "listen.main.address",
	"bind_port":       "listen.main.address",
	"ims_port":        "url of an upstream of kind ims",
	"ims_protocol":    "url of an upstream of kind ims",
	"log_format":      "log.format",
	"log_level":       "log.level",
	"logging_handler": "none: the log goes to stderr",
}

// set sets a key of the new form, which keeps the origin of the old one.
func (a *alppaca) set(key string, value any, names ...string) {
	section := a.layer
	for n, name := range names {
		at := path(names[:n+1])
		if _, own := a.origins[at.id()]; !own {
			a.origins[at.id()] = a.origins.of(path{key})
		}
		if n == len(names)-1 {
			section[name] = value
			return
		}
		below, ok := section[name].(map[string]any)
		if !ok {
			below = map[string]any{}
			section[name] = below
		}
		section = below
	}
}

func (a *alppaca) notice(key, text string) {
	a.notices = append(a.notices, Problem{Origin: a.origins.of(path{key}), Text: key + ": " + text})
}

// word returns the text of a key, or the fallback if it is not set. A number is a
// text too: Python did not mind.
func (a *alppaca) word(key, fallback string) string {
	switch value := a.old[key].(type) {
	case nil:
	case string:
		return value
	case int:
		return strconv.Itoa(value)
	default:
		a.wrongType(path{key}, value, "a text")
	}
	return fallback
}

// port returns the text of a key that holds a port.
func (a *alppaca) port(key, fallback string) string {
	text := a.word(key, fallback)
	if n, err := strconv.Atoi(text); err != nil || n < 1 || n > 65535 {
		a.reject(path{key}, "%s: %s is not a port between 1 and 65535", key, quote(text))
		return fallback
	}
	return text
}

// ims describes the upstream.
func (a *alppaca) ims() {
	protocol := strings.ToLower(a.word("ims_protocol", "https"))
	a.oneOf(path{"ims_protocol"}, protocol, []string{"http", "https"})
	if a.old["ims_port"] == nil {
		a.wrong(path{"ims_host"}, "ims_host needs ims_port; without it alppaca does not start either")
	}
	port := a.port("ims_port", "443")
	host := strings.TrimSuffix(strings.TrimPrefix(a.word("ims_host", ""), "["), "]")
	if !hostname(host) {
		a.reject(path{"ims_host"}, "ims_host: %s is not a host name or an address; "+
			"for a URL with a path replace ims_host, ims_port and ims_protocol by upstreams: {%s: {kind: ims, url: URL}}",
			quote(host), alppacaUpstream)
	}
	a.set("ims_host", "ims", "upstreams", alppacaUpstream, "kind")
	a.set("ims_host", protocol+"://"+net.JoinHostPort(host, port)+"/latest", "upstreams", alppacaUpstream, "url")
}

// bind describes the listener.
func (a *alppaca) bind() {
	key := "bind_ip"
	if a.old[key] == nil {
		key = "bind_port"
	}
	if a.old[key] == nil {
		return
	}
	ip, port := a.word("bind_ip", "127.0.0.1"), a.port("bind_port", "25772")
	if ip == "localhost" {
		ip = "127.0.0.1"
	}
	if _, err := netip.ParseAddr(ip); err != nil {
		a.reject(path{"bind_ip"}, "bind_ip: %s is not an IP address", quote(ip))
		return
	}
	a.set(key, net.JoinHostPort(ip, port), "listen", "main", "address")
}

func (a *alppaca) logging() {
	if a.old["log_level"] != nil {
		level := strings.ToLower(a.word("log_level", "warning"))
		if a.oneOf(path{"log_level"}, level, []string{"debug", "info", "warning", "error"}) {
			if level == "warning" {
				level = "warn"
			}
			a.set("log_level", level, "log", "level")
		}
	}
	if a.old["log_format"] != nil {
		a.notice("log_format", "Python's format is not honoured; log.format is json or console")
	}
	handler, ok := a.old["logging_handler"].(map[string]any)
	if !ok {
		if a.old["logging_handler"] != nil {
			a.wrongType(path{"logging_handler"}, a.old["logging_handler"], "a section")
		}
		return
	}
	a.handler(handler)
}

// handler accepts the two handlers that alppaca documented. Which one it is makes
// no difference: under systemd both mean the journal.
func (a *alppaca) handler(handler map[string]any) {
	at := path{"logging_handler"}
	known := []string{"args", "class", "kwargs", "module"}
	for _, key := range slices.Sorted(maps.Keys(handler)) {
		if !slices.Contains(known, key) {
			a.wrong(at.with(key), "unknown key %s%s%s", quote(key), in(at), DidYouMean(key, known))
		}
	}
	module, class := handler["module"], handler["class"]
	if module != "logging.handlers" || class != "SysLogHandler" && class != "WatchedFileHandler" {
		a.reject(at, "logging_handler: only SysLogHandler and WatchedFileHandler of logging.handlers are understood; "+
			"remove it, as the log goes to stderr and from there to the journal")
		return
	}
	a.notice("logging_handler", "the log goes to stderr, which systemd passes on to the journal")
}

// aws describes alppaca's AssumeRole call. Its base leaves the view of everyone, as
// no * covers a base: alppaca listed the assumed role only, too.
func (a *alppaca) aws() {
	region := a.word("aws_region", "eu-central-1")
	if a.old["aws_region"] != nil {
		a.set("aws_region", region, "aws", "metadata", "placement", "region")
		a.notice("aws_region", "clients now find this region as aws.metadata.placement.region")
	}
	if a.old["assume_role"] == nil {
		for _, key := range []string{"aws_proxy_host", "aws_proxy_port"} {
			if a.old[key] != nil {
				a.notice(key, "has no effect without assume_role")
			}
		}
		return
	}
	before := len(a.problems)
	arn := a.word("assume_role", "")
	name := pathpkg.Base(arn)
	if credential.CheckName(name) != nil || !strings.HasPrefix(arn, "arn:") || !strings.Contains(arn, "/") {
		a.reject(path{"assume_role"}, "assume_role: %s is not the ARN of a role, such as arn:aws:iam::123456789012:role/demoRole", quote(arn))
	}
	at := []string{"upstreams", alppacaRole}
	a.set("assume_role", "sts", append(at, "kind")...)
	a.set("assume_role", alppacaUpstream, append(at, "base", "upstream")...)
	origin := "assume_role"
	if a.old["aws_region"] != nil {
		origin = "aws_region"
	}
	a.set(origin, region, append(at, "region")...)
	a.set("assume_role", arn, append(at, "roles", name, "role_arn")...)
	a.set("assume_role", "alppaca-on-{{ .Hostname }}", append(at, "roles", name, "session_name")...)
	a.proxy(at)
	if len(a.problems) > before { // what the kind would say of it is a consequence
		a.spoiled.add(path(at))
	}
}

// proxy describes the proxy of the AssumeRole call.
func (a *alppaca) proxy(at []string) {
	if a.old["aws_proxy_host"] == nil {
		if a.old["aws_proxy_port"] != nil {
			a.notice("aws_proxy_port", "has no effect without aws_proxy_host")
		}
		return
	}
	host := strings.TrimSuffix(strings.TrimPrefix(a.word("aws_proxy_host", ""), "["), "]")
	if !hostname(host) {
		a.reject(path{"aws_proxy_host"}, "aws_proxy_host: %s is not a host name or an address", quote(host))
	}
	if a.old["aws_proxy_port"] == nil {
		a.wrong(path{"aws_proxy_host"}, "aws_proxy_host needs aws_proxy_port")
	}
	a.set("aws_proxy_host", "http://"+net.JoinHostPort(host, a.port("aws_proxy_port", "3128")), append(at, "proxy")...)
}
