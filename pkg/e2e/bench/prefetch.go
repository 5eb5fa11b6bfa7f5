package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Prefetching is measured with so many roles and an upstream that takes so long for
// each answer.
const (
	prefetched = 1000
	slowness   = 50 * time.Millisecond
)

// prefetch measures how long it takes from the start to having a thousand roles on one
// base in stock, what the upstream was asked for that, and whether clients add to it.
func prefetch(root, work string) (rows []row, err error) {
	for _, c := range []struct {
		kind, section string // of the upstream, with ADDRESS and ROLES
		role          string // of each, with NAME
		flags         []string
		each          string // a flag for each role
	}{
		{"Vault", `kind: vault, address: "http://ADDRESS", auth: {method: token, token: hvs.BENCH}, aws: {roles: {ROLES}}`,
			"path: creds/NAME", []string{"--vault", "ADDRESS", "--vault-token", "hvs.BENCH", "--vault-fault", "latency=" + slowness.String()}, "--vault-role"},
		{"STS", `kind: sts, base: {upstream: bench}, region: eu-central-1, endpoint: "http://ADDRESS", roles: {ROLES}`,
			`role_arn: "arn:aws:iam::123456789012:role/NAME"`, []string{"--sts", "ADDRESS", "--sts-fault", "latency=" + slowness.String()}, ""},
	} {
		address, err := freeAddress()
		if err != nil {
			return nil, err
		}
		var roles strings.Builder
		var flags []string
		for _, flag := range c.flags {
			flags = append(flags, strings.ReplaceAll(flag, "ADDRESS", address))
		}
		for i := range prefetched {
			name := fmt.Sprint("role", i)
			fmt.Fprintf(&roles, "%s: {%s}, ", name, strings.ReplaceAll(c.role, "NAME", name))
			if c.each != "" {
				flags = append(flags, c.each, name)
			}
		}
		upstreams := "bench: {kind: ims, url: %q}, many: {" + strings.NewReplacer("ADDRESS", address, "ROLES", roles.String()).Replace(c.section) + "}"
		s, err := setScene(root, work, upstreams, flags...)
		if err != nil {
			return nil, err
		}
		measured, err := s.prefetched(address)
		s.stop()
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{fmt.Sprintf("%d roles of %s, %v for each answer, until READY", prefetched, c.kind, slowness), "one call for each role, none for a client", measured})
	}
	return rows, nil
}

// prefetched tells how a scene came to its stock from the upstream at address. A few
// roles have been refreshed by then: the second fetch of each comes at its own moment
// of the interval after the first.
func (s *scene) prefetched(address string) (string, error) {
	before, err := asked(address)
	if err != nil {
		return "", err
	}
	token, err := call(http.MethodPut, "http://"+s.address+"/latest/api/token", http.Header{"X-aws-ec2-metadata-token-ttl-seconds": {"21600"}}, nil)
	if err != nil {
		return "", err
	}
	const role = "role7"
	clients, err := load(newTarget(s.address, strings.Replace(rolePath, "test_role", role, 1), token), false, time.Second)
	if err != nil {
		return "", err
	}
	after, err := asked(address)
	if err != nil {
		return "", err
	}
	again := 0
	for _, n := range before {
		again += n - 1
	}
	mib, err := s.purser.resident()
	return fmt.Sprintf("%.1f s, %d calls for %d roles and %d second ones by schedule; %d more while clients asked %.0f times; %.1f MiB",
		s.started.Seconds(), len(before), prefetched, again, after[role]-before[role], clients.perSecond, mib), err
}

// asked is how often a mock was asked for each role.
func asked(address string) (map[string]int, error) {
	body, err := call(http.MethodGet, "http://"+address+"/_mock/requests", nil, nil)
	if err != nil {
		return nil, err
	}
	var requests struct{ Fetches map[string]int }
	err = json.Unmarshal([]byte(body), &requests)
	return requests.Fetches, err
}
