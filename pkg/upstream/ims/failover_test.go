package ims

import (
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/mock"
	"github.com/purser-agent/purser/pkg/upstream"
)

func TestFailOverAndBack(t *testing.T) {
	first, firstURL := newServer(t, mock.IMSOptions{})
	second, secondURL := newServer(t, mock.IMSOptions{})
	source := newSource(t, at(firstURL, secondURL))
	expect := func(what string, want1, want2 int) {
		t.Helper()
		if _, err := fetch(t, source, "test_role"); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if got1, got2 := first.Requests().Total, second.Requests().Total; got1 != want1 || got2 != want2 {
			t.Errorf("%s: asked %d and %d times, want %d and %d", what, got1, got2, want1, want2)
		}
	}
	expect("both work", 1, 0)
	first.SetFaults(mock.Fault{Kind: mock.Status, Status: 502})
	expect("the first fails", 2, 1)
	expect("the first rests", 2, 2)
	first.SetFaults()
	expect("the second works on", 2, 3)
	second.SetFaults(mock.Fault{Kind: mock.Status, Status: 404})
	if _, err := fetch(t, source, "test_role"); err == nil || first.Requests().Total != 2 {
		t.Errorf("a 404 led to the other address (%v)", err)
	}
	second.SetFaults(mock.Fault{Kind: mock.Reset})
	_, err := fetch(t, source, "test_role")
	if err == nil || second.Requests().Total != 5 || first.Requests().Total != 2 {
		t.Errorf("got %v; the first was asked %d times although it rests", err, first.Requests().Total)
	}
}

func TestAllAddressesShareOneTimeLimit(t *testing.T) {
	o := at()
	for range 5 {
		ims, url := newServer(t, mock.IMSOptions{})
		ims.SetFaults(mock.Fault{Kind: mock.Hang})
		o.URL = append(o.URL, url)
	}
	o.Timeouts.Header, o.Timeouts.Total = 300*time.Millisecond, 700*time.Millisecond
	start := time.Now()
	_, err := fetch(t, newSource(t, o), "test_role")
	if took := time.Since(start); err == nil || took < 600*time.Millisecond || took > 2*time.Second {
		t.Errorf("it took %v: %v", took, err)
	}
	if got := strings.Count(err.Error(), "GET http://"); got != 3 {
		t.Errorf("%d addresses were asked, want 3: %v", got, err)
	}
}

func TestManyFetchesAtOnce(t *testing.T) {
	ims, url := newServer(t, mock.IMSOptions{Roles: mock.Roles(50)})
	source := newSource(t, at("http://127.0.0.9:1", url))
	var fetches sync.WaitGroup
	for _, role := range mock.Roles(50) {
		fetches.Go(func() {
			if _, err := source.Fetch(t.Context(), credential.Key{Name: role.Name}); err != nil {
				t.Error(err)
			}
		})
	}
	fetches.Wait()
	if got := ims.Requests(); got.Total != 50 || len(got.Fetches) != 50 {
		t.Errorf("%d requests for %d roles, want 50 for 50", got.Total, len(got.Fetches))
	}
}

func TestADeadAddressIsATransportError(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = newSource(t, at("http://"+address)).List(t.Context())
	fault, ok := errors.AsType[*upstream.Error](err)
	if !ok || fault.Kind != upstream.ClassTransport || fault.Permanent() {
		t.Errorf("got %v", err)
	}
}
