package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/caller"
	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/policy"
	"github.com/purser-agent/purser/pkg/refresh"
	"github.com/purser-agent/purser/pkg/store"
)

const rolePath = "/latest/meta-data/iam/security-credentials/test_role"

// serving compares a warm credential GET, with session token and policy, with the
// bare server, in good times and while every upstream hangs.
func serving(root, work string) ([]row, error) {
	s, err := newScene(root, work, 50)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	token, err := call(http.MethodPut, "http://"+s.address+"/latest/api/token", http.Header{"X-aws-ec2-metadata-token-ttl-seconds": {"21600"}}, nil)
	if err != nil {
		return nil, err
	}
	answer, err := exchange(http.MethodGet, "http://"+s.address+rolePath, http.Header{"X-aws-ec2-metadata-token": {token}}, nil)
	if err != nil {
		return nil, err
	}
	bare, address, err := launchBare(root, work, rolePath, answer)
	if err != nil {
		return nil, err
	}
	defer bare.stop()
	ours, theirs := newTarget(s.address, rolePath, token), newTarget(address, rolePath, token)

	var rows []row
	measure := func(what, bar string, reconnect bool) error {
		throughput, p99, median, err := compare(ours, theirs, reconnect)
		rows = append(rows, row{what, bar, fmt.Sprintf("%.2f of its throughput, %.2f of its p99 (%.0f/s, p99 %v)",
			throughput, p99, median.perSecond, median.p99.Round(time.Microsecond))})
		return err
	}
	if err := measure("warm GET, 8 keep-alive clients, against bare net/http", "throughput >= 0.90, p99 <= 1.25", false); err != nil {
		return nil, err
	}
	if err := measure("the same, a new connection each with caller look-up", "throughput >= 0.75", true); err != nil {
		return nil, err
	}
	if _, err := call(http.MethodPut, "http://"+s.upstream+"/_mock/faults", http.Header{"Content-Type": {"application/json"}}, strings.NewReader(`["hang"]`)); err != nil {
		return nil, err
	}
	refreshing, err := launch(exec.Command(filepath.Join(root, "bin/purser"), "refresh", "--socket", s.socket))
	if err != nil {
		return nil, err
	}
	defer refreshing.stop()
	if err := measure("warm GET while every upstream hangs", "no difference", false); err != nil {
		return nil, err
	}
	if err := measure("a new connection each while every upstream hangs", "no difference", true); err != nil {
		return nil, err
	}
	mib, err := s.purser.resident()
	return append(rows, row{"resident memory after this load, with 50 credentials", "<= 25 MiB", fmt.Sprintf("%.1f MiB", mib)}), err
}

// nobody is a user database without accounts.
type nobody struct{}

func (nobody) UID(context.Context, string) (uint32, error) { return 0, caller.ErrUnknownAccount }
func (nobody) Members(context.Context, string) ([]uint32, error) {
	return nil, caller.ErrUnknownAccount
}

// reading measures what a request pays in store and policy alone.
func reading(string, string) ([]row, error) {
	s := &store.Store{}
	var keys []credential.Key
	for i := range 50 {
		keys = append(keys, credential.Key{Name: fmt.Sprint("role", i)})
	}
	s.Announce(keys...)
	for _, key := range keys {
		s.Put(key, &credential.AWS{Expires: time.Now().Add(time.Hour)})
	}
	gate := policy.NewGate(s, nil, nobody{})
	ctx := context.Background()
	gate.Commit(gate.Prepare(ctx, policy.Rules{Grants: []policy.Grant{{Name: policy.Everyone, Credentials: []string{"*"}}}}))
	who := caller.Identity{UID: 33, Known: true, Unit: "nginx.service"}
	result := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := gate.View(who).Get(ctx, keys[7]); err != nil {
				b.Fatal(err)
			}
		}
	})
	return []row{{"a read in store and policy", "0 allocations", fmt.Sprintf("%d allocations, %d ns", result.AllocsPerOp(), result.NsPerOp())}}, nil
}

// memory looks at the resident memory after everything was fetched.
func memory(root, work string) ([]row, error) {
	var rows []row
	for _, c := range []struct{ roles, bar int }{{50, 25}, {10_000, 80}} {
		s, err := newScene(root, work, c.roles)
		if err != nil {
			return nil, err
		}
		time.Sleep(5 * time.Second) // let the garbage of the start go
		mib, err := s.purser.resident()
		s.stop()
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{fmt.Sprintf("resident memory with %d credentials", c.roles), fmt.Sprintf("<= %d MiB", c.bar), fmt.Sprintf("%.1f MiB", mib)})
	}
	return rows, nil
}

// start looks at the time from the start of the process to READY=1.
func start(root, work string) ([]row, error) {
	var took []time.Duration
	for range 9 {
		s, err := newScene(root, work, 1)
		if err != nil {
			return nil, err
		}
		s.stop()
		took = append(took, s.started)
	}
	slices.Sort(took)
	return []row{{"start to READY with a local mock", "< 150 ms", fmt.Sprintf("%v (median of %d)", took[len(took)/2].Round(time.Millisecond), len(took))}}, nil
}

func size(root, _ string) ([]row, error) {
	info, err := os.Stat(filepath.Join(root, "bin/purser"))
	if err != nil {
		return nil, err
	}
	return []row{{"binary", "<= 25 MB", fmt.Sprintf("%.1f MB", float64(info.Size())/1e6)}}, nil
}

var costLine = regexp.MustCompile(`cpu seconds per simulated hour: (\S+)`)

// refreshing runs the simulation of pkg/refresh.
func refreshing(root, _ string) ([]row, error) {
	test := exec.Command("go", "test", "-count=1", "-v", "-run", "TestManyCredentialsKeepFresh", "./pkg/refresh", "-args", "-credentials", "10000")
	test.Dir = root
	out, err := test.CombinedOutput()
	match := costLine.FindSubmatch(out)
	if err != nil || match == nil {
		return nil, fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return []row{{"refreshing 10,000 credentials of two hours (the loop without network)", "", fmt.Sprintf("%s CPU seconds per simulated hour", match[1])}}, nil
}

// fleet simulates hosts that all restart at one moment, with credentials of an hour.
func fleet(string, string) ([]row, error) {
	const hosts, minutes = 100_000, 6 * 60
	var schedule refresh.Schedule
	restart := time.Now()
	var perMinute [minutes]int
	for host := range hosts {
		draw := refresh.NewDraw(fmt.Sprint("machine-", host), "datacenter", "web")
		due := func(fetched time.Time) time.Time {
			return schedule.Due(fetched, fetched.Add(time.Hour), fetched, draw, 0)
		}
		for next := refresh.Second(restart, due(restart), draw); ; next = due(next) {
			minute := int(next.Sub(restart) / time.Minute)
			if minute >= minutes {
				break
			}
			perMinute[minute]++
		}
	}
	var sum, most int
	for _, n := range perMinute {
		sum += n
		most = max(most, n)
	}
	mean := float64(sum) / minutes
	return []row{{"100,000 agents after a common restart, from the second fetch on", "busiest minute <= 1.2 of the mean", fmt.Sprintf("%.2f (%d of %.0f)", float64(most)/mean, most, mean)}}, nil
}
