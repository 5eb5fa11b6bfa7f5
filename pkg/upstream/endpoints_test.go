package upstream

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A cluster answers for several addresses; what is not in faults works.
type cluster struct {
	faults map[string]*Error
	asked  []string
}

func (c *cluster) ask(_ context.Context, address string) error {
	c.asked = append(c.asked, address)
	if fault := c.faults[address]; fault != nil {
		fault.Tried = "GET " + address
		return fault
	}
	return nil
}

// try asks once and returns the addresses that were asked.
func (c *cluster) try(t *testing.T, e *Endpoints) ([]string, error) {
	t.Helper()
	c.asked = nil
	err := e.Try(t.Context(), c.ask)
	return c.asked, err
}

func fault(kind Class) *Error { return &Error{Kind: kind, Err: errors.New(string(kind))} }

func TestEndpointsStayWithTheAddressThatWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := NewEndpoints([]string{"a", "b", "c"})
		c := &cluster{faults: map[string]*Error{"a": fault(ClassTransport)}}
		expect := func(want ...string) {
			t.Helper()
			if got, err := c.try(t, e); err != nil || !slices.Equal(got, want) {
				t.Errorf("asked %v (%v), want %v", got, err, want)
			}
		}
		expect("a", "b")
		expect("b")
		time.Sleep(time.Hour)
		expect("b")
		c.faults["b"] = fault(ClassServer)
		c.faults["a"] = nil
		expect("b", "a")
		expect("a")
	})
}

func TestEndpointsLetAFailedAddressRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := NewEndpoints([]string{"a", "b", "c"})
		c := &cluster{faults: map[string]*Error{"a": fault(ClassTransport), "b": fault(ClassTimeout)}}
		steps := []struct {
			wait time.Duration
			want []string
		}{
			{0, []string{"a", "b", "c"}},
			{time.Second, []string{"c"}},
		}
		for _, step := range steps {
			time.Sleep(step.wait)
			if got, err := c.try(t, e); err != nil || !slices.Equal(got, step.want) {
				t.Errorf("asked %v (%v), want %v", got, err, step.want)
			}
		}
		c.faults["c"] = fault(ClassServer)
		if got, _ := c.try(t, e); !slices.Equal(got, []string{"c"}) {
			t.Errorf("asked %v although a and b rest", got)
		}
		// All rest now: each attempt takes one, the first to have rested.
		for _, want := range []string{"a", "b", "c"} {
			if got, _ := c.try(t, e); !slices.Equal(got, []string{want}) {
				t.Errorf("asked %v, want %s", got, want)
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(longestRest)
		c.faults = nil
		if got, err := c.try(t, e); err != nil || !slices.Equal(got, []string{"c"}) {
			t.Errorf("asked %v (%v) after the rest, want c, which worked last", got, err)
		}
	})
}

func TestEndpointsRestLongerWithEachFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := NewEndpoints([]string{"a", "b"})
		c := &cluster{faults: map[string]*Error{"a": fault(ClassTransport)}}
		asked := 0
		for range 24 * 60 * 6 {
			e.last = 0 // as if a were preferred
			if got, err := c.try(t, e); err != nil {
				t.Fatal(err)
			} else if slices.Contains(got, "a") {
				asked++
			}
			time.Sleep(10 * time.Second)
		}
		if asked < 280 || asked > 300 {
			t.Errorf("a dead address was asked %d times in a day, want about one per %v", asked, longestRest)
		}
	})
}

func TestEndpointsCountOneOutageOnce(t *testing.T) {
	e := NewEndpoints([]string{"a", "b"})
	asked := time.Now()
	for range 20 {
		e.failed(0, asked, 0)
	}
	if got := e.health[0].failures; got != 1 {
		t.Errorf("%d failures, want 1", got)
	}
}

func TestEndpointsTakeADefiniteErrorForAnAnswer(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault *Error
		want  []string
	}{
		{"refused", fault(ClassRefused), []string{"a"}},
		{"other 4xx", fault(ClassRequest), []string{"a"}},
		{"429", &Error{Kind: ClassThrottled, Status: 429, Err: errors.New("x")}, []string{"a"}},
		{"no such role", fault(ClassEmpty), []string{"a"}},
		{"canceled", fault(ClassCanceled), []string{"a"}},
		{"503 with Retry-After", &Error{Kind: ClassThrottled, Status: 503, Err: errors.New("x")}, []string{"a", "b"}},
		{"5xx", fault(ClassServer), []string{"a", "b"}},
		{"redirect", fault(ClassRedirect), []string{"a", "b"}},
		{"rubbish", fault(ClassMalformed), []string{"a", "b"}},
		{"expired", fault(ClassExpired), []string{"a", "b"}},
		{"TLS", fault(ClassTLS), []string{"a", "b"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &cluster{faults: map[string]*Error{"a": test.fault}}
			got, err := c.try(t, NewEndpoints([]string{"a", "b"}))
			if !slices.Equal(got, test.want) {
				t.Errorf("asked %v, want %v", got, test.want)
			}
			if len(test.want) == 1 && !errors.Is(err, test.fault) {
				t.Errorf("got %v, want the address's own error", err)
			}
		})
	}
}

func TestEndpointsReportEveryAddressAndTheMildestError(t *testing.T) {
	c := &cluster{faults: map[string]*Error{
		"a": {Kind: ClassRedirect, Err: errors.New("answered 301")},
		"b": {Kind: ClassThrottled, Status: 503, Wait: time.Minute, Err: errors.New("answered 503")},
		"c": {Kind: ClassThrottled, Status: 503, Wait: time.Hour, Err: errors.New("answered 503")},
	}}
	_, err := c.try(t, NewEndpoints([]string{"a", "b", "c"}))
	fault, _ := errors.AsType[*Error](err)
	if fault == nil || fault.Permanent() || fault.Kind != ClassThrottled {
		t.Fatalf("got %v, want the class of the 503", err)
	}
	if fault.RetryAfter() != 0 {
		t.Errorf("a wait of %v, but address a asked for none", fault.RetryAfter())
	}
	for _, want := range []string{"GET a: answered 301", "GET b: answered 503", "GET c: answered 503"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not mention %q", err, want)
		}
	}
	delete(c.faults, "a")
	c.faults["a"] = &Error{Kind: ClassThrottled, Status: 503, Wait: 10 * time.Minute, Err: errors.New("answered 503")}
	_, err = c.try(t, NewEndpoints([]string{"a", "b", "c"}))
	if fault, _ := errors.AsType[*Error](err); fault.RetryAfter() != time.Minute {
		t.Errorf("a wait of %v, want the shortest", fault.RetryAfter())
	}
}

func TestEndpointsStopWhenTheTimeIsOver(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var asked []string
	err := NewEndpoints([]string{"a", "b"}).Try(ctx, func(_ context.Context, address string) error {
		asked = append(asked, address)
		cancel()
		return fault(ClassTimeout)
	})
	if len(asked) != 1 || err == nil {
		t.Errorf("asked %v (%v), want one address and its error", asked, err)
	}
}
