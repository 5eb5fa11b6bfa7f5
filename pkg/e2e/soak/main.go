// Command soak runs the real agent for a long time against upstreams that fail in every
// way that the mock knows, with clients that never stop asking, and looks whether
// anything grows: goroutines, descriptors, memory. It ends with 1 if a client was ever
// refused what was in stock, or if something grew.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/purser-agent/purser/pkg/e2e/harness"
)

// roles is how many credentials there are; they live so short that each is fetched
// again about every minute.
const (
	roles    = 50
	lifetime = "150s"
	clients  = 4
)

// faults are what goes wrong, one after the other, each for a few seconds.
var faults = []string{
	"status=503", "status=500", "status=429,retry-after=2s", "status=403", "reset", "garbage", "hang", "slow=20ms", "latency=2s",
	"empty", "malformed", "html", "huge", "gzip", "truncated", "incomplete", "failed", "expired", "redirect",
}

func main() {
	minutes := flag.Float64("minutes", 20, "how long")
	flag.Parse()
	if err := run(time.Duration(*minutes * float64(time.Minute))); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// A sample is what the process has at one moment.
type sample struct{ goroutines, descriptors, mebibytes float64 }

func (s sample) String() string {
	return fmt.Sprintf("%.0f goroutines, %.0f descriptors, %.1f MiB", s.goroutines, s.descriptors, s.mebibytes)
}

func run(span time.Duration) (err error) {
	var flags []string
	for i := range roles {
		flags = append(flags, "--role", fmt.Sprintf("role%d:%s", i, lifetime))
	}
	mock, err := harness.StartMockWithSTS(flags...)
	if err != nil {
		return err
	}
	defer func() { _, _ = mock.Stop() }()
	agent, err := harness.StartAgent(harness.AgentOptions{Config: fmt.Sprintf(`
upstreams:
  datacenter: {kind: ims, url: %q}
  hop: {kind: sts, base: {credential: role0}, region: eu-central-1, endpoint: "http://%s", roles: {hop: {role_arn: "arn:aws:iam::123456789012:role/hop", duration: 15m}}}
grants: {everyone: {credentials: ["*"]}}
log: {level: warn}
`, mock.URL(), mock.STS)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, agent.Close()) }()

	stop := make(chan struct{})
	var asking sync.WaitGroup
	var asked, failed atomic.Int64
	for range clients {
		asking.Go(func() { ask(agent, stop, &asked, &failed) })
	}
	begin := time.Now()
	var samples []sample
	for time.Since(begin) < span {
		if err := trouble(mock); err != nil {
			return err
		}
		s, err := look(agent)
		if err != nil {
			return err
		}
		samples = append(samples, s)
		fmt.Printf("%v: %v, %d requests, %d without a credential\n", time.Since(begin).Round(time.Second), s, asked.Load(), failed.Load())
	}
	close(stop)
	asking.Wait()
	if failed.Load() > 0 {
		fmt.Printf("the agent said:\n%s", agent.Output())
	}
	return judge(samples, failed.Load())
}

// trouble lets something fail for a few seconds, and then all be well for as long.
func trouble(mock *harness.Mock) error {
	one := faults[rand.N(len(faults))]
	if rand.N(2) == 0 {
		one += ",on=credentials"
	}
	if err := mock.SetFaults(one); err != nil {
		return err
	}
	time.Sleep(time.Duration(2+rand.N(8)) * time.Second)
	if err := mock.SetFaults(); err != nil {
		return err
	}
	time.Sleep(10 * time.Second)
	return nil
}

// ask reads roles in turn, every tenth time on a new connection.
func ask(agent *harness.Agent, stop <-chan struct{}, asked, failed *atomic.Int64) {
	client := (*harness.Namespace)(nil).HTTP()
	for n := 0; ; n++ {
		select {
		case <-stop:
			client.CloseIdleConnections()
			return
		case <-time.After(5 * time.Millisecond):
		}
		if n%10 == 0 {
			client.CloseIdleConnections()
		}
		r, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://%s/v2/credentials/role%d", agent.Address, 1+n%(roles-1)), nil)
		if err != nil {
			panic(err) // the address is ours
		}
		r.Header.Set("Authorization", agent.AuthorizationToken())
		asked.Add(1)
		answer, err := client.Do(r)
		if err != nil {
			failed.Add(1)
			continue
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			failed.Add(1)
		}
	}
}

// look reads what the process has. Garbage goes with the scrapes.
func look(agent *harness.Agent) (sample, error) {
	series, err := agent.Metrics()
	if err != nil {
		return sample{}, err
	}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", agent.PID()))
	if err != nil {
		return sample{}, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", agent.PID()))
	if err != nil {
		return sample{}, err
	}
	var kib float64
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			if _, err := fmt.Sscan(rest, &kib); err != nil {
				return sample{}, err
			}
		}
	}
	return sample{series["go_goroutines"], float64(len(open)), kib / 1024}, nil
}

// judge compares the second quarter with the last: what leaks has grown by then. A
// connection or an attempt more at one moment is no leak.
func judge(samples []sample, failed int64) error {
	quarter := len(samples) / 4
	if quarter == 0 {
		return errors.New("too short to tell")
	}
	early, late := middle(samples[quarter:2*quarter]), middle(samples[len(samples)-quarter:])
	fmt.Printf("early: %v\nlate:  %v\n", early, late)
	var all []error
	if late.goroutines > early.goroutines+10 || late.descriptors > early.descriptors+10 || late.mebibytes > 1.2*early.mebibytes+2 {
		all = append(all, errors.New("something grows"))
	}
	if failed > 0 {
		all = append(all, fmt.Errorf("%d requests without a credential", failed))
	}
	return errors.Join(all...)
}

// middle is the median of each figure.
func middle(samples []sample) sample {
	median := func(of func(sample) float64) float64 {
		var all []float64
		for _, s := range samples {
			all = append(all, of(s))
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	return sample{
		median(func(s sample) float64 { return s.goroutines }),
		median(func(s sample) float64 { return s.descriptors }),
		median(func(s sample) float64 { return s.mebibytes }),
	}
}
