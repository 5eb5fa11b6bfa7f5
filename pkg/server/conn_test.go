package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/caller"
)

func TestHandlerKnowsItsCaller(t *testing.T) {
	resolver := &fakeResolver{change: func(o *caller.Origin) {
		o.Destination = netip.MustParseAddrPort("169.254.169.254:80")
	}}
	peers := make(chan Peer, 3)
	f := startOn(t, Options{
		Resolver: resolver,
		Handler: func(w http.ResponseWriter, r *http.Request, peer Peer) Access {
			peers <- peer
			return answer(w, r, peer)
		},
	}, Spec{Name: "main", Address: loopback, Destinations: []netip.AddrPort{netip.MustParseAddrPort("169.254.169.254:80")}})
	c := f.dial(7)
	for range 3 {
		c.get()
		want := Peer{
			Identity:    caller.Identity{UID: 1007, Known: true, Unit: "client-1007.service"},
			Address:     addrPort(c.LocalAddr()),
			Destination: netip.MustParseAddrPort("169.254.169.254:80"),
			Listener:    "main",
		}
		if got := <-peers; got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if got := resolver.calls.Load(); got != 1 {
		t.Errorf("%d look-ups for one connection, want 1", got)
	}
}

func TestCallerIsFoundBeforeItSendsAnything(t *testing.T) {
	resolver := new(fakeResolver)
	f := start(t, Options{Resolver: resolver})
	f.dial(1)
	eventually(t, "a look-up for a silent connection", func() bool { return resolver.calls.Load() == 1 })
}

func TestCallersFromElsewhereAreRefused(t *testing.T) {
	metadata := netip.MustParseAddrPort("169.254.169.254:80")
	remote := netip.MustParseAddrPort("198.51.100.9:4711")
	container := netip.MustParseAddrPort("172.17.0.2:4711")
	from := []netip.Prefix{netip.MustParsePrefix("172.17.0.0/16")}
	for _, test := range []struct {
		name   string
		change func(*caller.Origin)
		from   []netip.Prefix
		want   string
	}{
		{"a local caller", func(*caller.Origin) {}, nil, ""},
		{"a local caller of the metadata address", func(o *caller.Origin) { o.Destination = metadata }, nil, ""},
		{"a local caller of another address", func(o *caller.Origin) { o.Destination = netip.MustParseAddrPort("203.0.113.1:80") }, nil, "original destination"},
		{"a local caller of another port", func(o *caller.Origin) { o.Destination = netip.MustParseAddrPort("169.254.169.254:81") }, nil, "original destination"},
		{"an unknown destination", func(o *caller.Origin) { o.Destination = netip.AddrPort{} }, nil, "original destination"},
		{"a remote caller", func(o *caller.Origin) { o.Peer, o.Local = remote, false }, nil, "no address of this host"},
		{"a remote caller of the metadata address", func(o *caller.Origin) { o.Peer, o.Local, o.Destination = remote, false, metadata }, nil, "no address of this host"},
		{"a container that may not", func(o *caller.Origin) { o.Peer, o.Local = container, false }, nil, "no address of this host"},
		{"a container that may", func(o *caller.Origin) { o.Peer, o.Local, o.Destination = container, false, metadata }, from, ""},
		{"a remote caller outside of the networks", func(o *caller.Origin) { o.Peer, o.Local = remote, false }, from, "no address of this host"},
	} {
		t.Run(test.name, func(t *testing.T) {
			refused := make(chan string, 1)
			f := startOn(t, Options{
				Resolver: &fakeResolver{change: test.change},
				Handler: func(w http.ResponseWriter, r *http.Request, peer Peer) Access {
					refused <- peer.Refused
					return answer(w, r, peer)
				},
			}, Spec{Name: "main", Address: loopback, From: test.from, Destinations: []netip.AddrPort{metadata}})
			f.dial(1).send(get).receive()
			if got := <-refused; !strings.Contains(got, test.want) || (got == "") != (test.want == "") {
				t.Errorf("refused for %q, want %q", got, test.want)
			}
		})
	}
}

func TestCallerWhoCannotBeFoundIsUnknown(t *testing.T) {
	identities := make(chan caller.Identity, 5)
	f := start(t, Options{
		Resolver: &fakeResolver{
			unknown: errors.New("netlink is down"),
			change:  func(o *caller.Origin) { o.Identity = caller.Identity{} },
		},
		Handler: func(w http.ResponseWriter, r *http.Request, peer Peer) Access {
			identities <- peer.Identity
			return answer(w, r, peer)
		},
	})
	for range 5 {
		f.dial(1).get()
		if got := <-identities; got != (caller.Identity{}) {
			t.Errorf("got %+v, want an unknown caller", got)
		}
	}
	lines := f.log.lines(t, "caller not identified, it gets what is granted to what is known of it")
	if len(lines) != 1 || lines[0]["error"] != "netlink is down" {
		t.Errorf("got %v, want one line for all five", lines)
	}
}

func TestSlowLookupDelaysNobodyElse(t *testing.T) {
	release := make(chan struct{})
	f := start(t, Options{Resolver: &fakeResolver{block: func(uid uint32) {
		if uid == 1007 {
			<-release
		}
	}}})
	slow := f.dial(7).send(get)
	f.dial(8).get()
	close(release)
	if status, _, _ := slow.receive(); status != http.StatusOK {
		t.Errorf("status %d, want 200", status)
	}
}

func TestOldestIdleConnectionOfTheUserCloses(t *testing.T) {
	f := start(t, Options{PerUser: 3})
	other := f.dial(8)
	other.get()
	first, second, third := f.dial(7), f.dial(7), f.dial(7)
	for _, c := range []*client{second, first, third} {
		c.get()
		f.rest()
	}
	f.dial(7).get()
	second.wantClosed()
	for _, c := range []*client{first, third, other} {
		c.get()
	}
	if got := f.log.lines(t, "idle connection closed to make room for another one"); len(got) != 1 || got[0]["caller"] != "uid 1007 in client-1007.service" {
		t.Errorf("got %v, want one line that names the caller", got)
	}
}

func TestSilentConnectionGivesWay(t *testing.T) {
	f := start(t, Options{PerUser: 1})
	quiet := f.dial(7)
	eventually(t, "a place for the first connection", func() bool { return f.opened() == 1 })
	f.dial(7).get()
	quiet.wantClosed()
}

// opened returns how many connections have a place.
func (f *fixture) opened() int {
	placed, _ := f.conns.count()
	return placed
}

// rest waits until the server is done with every answer: a client has it a moment
// before.
func (f *fixture) rest() {
	f.t.Helper()
	eventually(f.t, "every connection at rest", func() bool {
		busy := false
		f.conns.mu.Lock()
		defer f.conns.mu.Unlock()
		for _, u := range f.conns.users {
			for c := range u.conns {
				p, _ := unpack(c.state.Load())
				busy = busy || p != idle && p != silent
			}
		}
		return !busy
	})
}

// A gate is a handler that answers when it is opened.
type gate struct {
	inside atomic.Int64
	open   chan struct{}
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

func (g *gate) answer(w http.ResponseWriter, r *http.Request, peer Peer) Access {
	g.inside.Add(1)
	<-g.open
	return answer(w, r, peer)
}

func TestConnectionsAtWorkAreNeverClosedForOthers(t *testing.T) {
	handler := newGate()
	f := start(t, Options{PerUser: 2, Handler: handler.answer})
	working := []*client{f.dial(7).send(get), f.dial(7).send(get)}
	eventually(t, "two requests at work", func() bool { return handler.inside.Load() == 2 })
	f.dial(7).wantClosed()
	other := f.dial(8).send(get)
	close(handler.open)
	for _, c := range append(working, other) {
		if status, _, _ := c.receive(); status != http.StatusOK {
			t.Errorf("status %d, want 200", status)
		}
	}
	if got := f.log.lines(t, "connection closed: too many are at work at once"); len(got) != 1 {
		t.Errorf("got %v, want one line", got)
	}
}

func TestBoundForAllTakesFromTheUserWithTheMost(t *testing.T) {
	f := start(t, Options{Most: 4})
	modest := f.dial(8)
	modest.get()
	f.rest()
	greedy := []*client{f.dial(7), f.dial(7), f.dial(7)}
	for _, c := range greedy {
		c.get()
		f.rest()
	}
	f.dial(9).get()
	greedy[0].wantClosed()
	for _, c := range append(greedy[1:], modest) {
		c.get()
	}
}

func TestUnknownCallersCountAsOneUser(t *testing.T) {
	f := start(t, Options{PerUser: 1, Resolver: &fakeResolver{change: func(o *caller.Origin) { o.Identity.Known = false }}})
	first := f.dial(7)
	first.get()
	f.rest()
	f.dial(8).get()
	first.wantClosed()
}

func TestStrangersTakeNoPlaceFromContainers(t *testing.T) {
	f := startOn(t, Options{PerUser: 1, Resolver: &fakeResolver{change: func(o *caller.Origin) {
		o.Identity, o.Local = caller.Identity{}, false
	}}}, Spec{Name: "main", Address: loopback, From: []netip.Prefix{netip.MustParsePrefix("127.0.0.7/32")}})
	container := f.dial(7)
	container.get()
	for range 3 {
		if status, _, _ := f.dial(8).send(get).receive(); status != http.StatusForbidden {
			t.Errorf("status %d for a stranger, want 403", status)
		}
		f.rest() // the next stranger takes the place of one at rest only
	}
	container.get()
}

func TestConnectionsCloseAfterTheirTime(t *testing.T) {
	const short = 40 * time.Millisecond
	for _, test := range []struct {
		name    string
		options Options
		talk    func(*client)
	}{
		{"silent", Options{HeaderTimeout: short}, func(*client) {}},
		{"half a header", Options{HeaderTimeout: short}, func(c *client) { c.send("GET / HTTP/1.1\r\nHost:") }},
		{"half a second request", Options{HeaderTimeout: short}, func(c *client) { c.get(); c.send("GET / HTTP/1.1\r\n") }},
		{"idle", Options{IdleTimeout: short}, func(c *client) { c.get() }},
		{"a body that never comes", Options{AnswerTimeout: short}, func(c *client) {
			if status, _, _ := c.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n").receive(); status != http.StatusOK {
				c.t.Errorf("status %d before the body came, want 200", status)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := start(t, test.options)
			c := f.dial(7)
			test.talk(c)
			begin := time.Now()
			c.wantClosed()
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("closed after %v, want soon after %v", took, short)
			}
		})
	}
}

func TestTricklingHeaderDoesNotBuyTime(t *testing.T) {
	f := start(t, Options{HeaderTimeout: 60 * time.Millisecond})
	c := f.dial(7).send("GET / HTTP/1.1\r\nX: ")
	begin := time.Now()
	for time.Since(begin) < 5*time.Second {
		if _, err := c.Write([]byte("a")); err != nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Error("a byte now and then keeps the connection open")
}

func TestRealResolverFits(t *testing.T) {
	resolver, err := caller.New()
	if err != nil {
		t.Fatal(err)
	}
	defer resolver.Close()
	for _, test := range []struct{ name, bind, dial string }{
		{"IPv4", "127.0.0.1:0", "127.0.0.1"},
		{"IPv6", "[::1]:0", "::1"},
		{"every address, by IPv4", "[::]:0", "127.0.0.1"},
		{"every address, by IPv6", "[::]:0", "::1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			peers := make(chan Peer, 1)
			f := startOn(t, Options{
				Resolver: resolver,
				Handler: func(w http.ResponseWriter, r *http.Request, peer Peer) Access {
					peers <- peer
					return answer(w, r, peer)
				},
			}, Spec{Name: "main", Address: netip.MustParseAddrPort(test.bind)})
			c, err := net.Dial("tcp", net.JoinHostPort(test.dial, fmt.Sprint(f.listener.Addr().Port())))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, get); err != nil {
				t.Fatal(err)
			}
			got := <-peers
			if !got.Identity.Known || got.Identity.UID != uint32(os.Getuid()) || got.Refused != "" ||
				got.Address != addrPort(c.LocalAddr()) || got.Destination != addrPort(c.RemoteAddr()) {
				t.Errorf("got %+v, want this user from %s to %s", got, c.LocalAddr(), c.RemoteAddr())
			}
		})
	}
}
