// Package server owns the sockets: it binds them, learns who is on the other end of
// a connection before it reads the first byte, bounds connections in number and
// time and requests in size, writes the access log, counts for each caller, and
// stops without cutting off an answer.
//
// It leaves to pkg/caller how a caller is found, and to its Handler what a caller
// may have and in which words the answer is.
//
// Time limits are kept by one sweep over all connections, not by the time-outs of
// net/http: these set five timers for each request, which costs a fifth of the
// throughput of a request that is answered from memory.
package server

import (
	"cmp"
	"errors"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/caller"
)

// A Resolver finds out where an accepted connection comes from, without reading from
// it. With an error, what it does not know is missing from the Origin. It is safe
// for concurrent use. The one of pkg/caller fits.
type Resolver interface {
	Resolve(c *net.TCPConn) (caller.Origin, error)
}

// A Peer is who sent a request, and which way it came.
type Peer struct {
	Identity    caller.Identity
	Address     netip.AddrPort // the caller's
	Destination netip.AddrPort // what the caller dialled, before the kernel redirected it
	Listener    string         // the name of the listener
	Refused     string         // why the caller may not ask at all; empty if it may
}

// Access is what a Handler says of a request that it answered, for the access log
// and for metrics. None of it may be secret.
type Access struct {
	Dialect    string
	Route      string // of low cardinality
	Status     int
	Decision   string
	Credential string // the name that was asked for, if any
	Reason     string
}

// A Handler answers a request whole. It must refuse it if peer.Refused says why; it
// never needs the body. It is safe for concurrent use.
type Handler func(w http.ResponseWriter, r *http.Request, peer Peer) Access

// Options are what a Server needs. Only Resolver and Handler have no default.
type Options struct {
	Resolver Resolver
	Handler  Handler
	// Log must not wait for whoever reads it: the next request on a connection comes
	// after the line of the one before.
	Log zerolog.Logger
	// Observe is called after each request with its duration, for metrics. It must
	// be quick and safe for concurrent use.
	Observe func(Access, time.Duration)

	Most    int // connections at a time; 4,096
	PerUser int // of these, of one uid; 512

	HeaderTimeout time.Duration // for a request to arrive, also the first one of a connection; 5 s
	AnswerTimeout time.Duration // for the handler, and then for the client to take the answer; 10 s
	IdleTimeout   time.Duration // between two requests; 75 s

	LogRate  int // lines a second of the access log, for denied requests and for the others each; 50
	LogBurst int // lines at once; 200
}

// maxHeader bounds the request line and the header, in bytes. net/http lets 4 KiB
// more pass before it answers 431.
const maxHeader = 8 << 10

// maxIdentifying bounds the connections that are accepted but not identified yet. A
// look-up takes microseconds, but one from a new cgroup may take up to seconds.
const maxIdentifying = 1024

// A Server serves listeners until Shutdown.
type Server struct {
	resolver    Resolver
	handler     Handler
	observe     func(Access, time.Duration)
	http        http.Server
	epoch       time.Time
	limits      [closed]time.Duration // how long a connection may be in each phase
	conns       conns
	accounts    accounts
	identifying chan struct{} // a place for each connection that is being identified
	access      accessLog
	trouble     troubleLog
	stop        sync.Once
	stopping    chan struct{} // closed by Shutdown: no more connections
	mu          sync.Mutex
	listeners   []*Listener
}

// New returns a server that does not serve yet. It warns if the process may not
// open enough files for the configured number of connections.
func New(o Options) *Server {
	answer := cmp.Or(o.AnswerTimeout, 10*time.Second)
	header := cmp.Or(o.HeaderTimeout, 5*time.Second)
	s := &Server{
		resolver: o.Resolver,
		handler:  o.Handler,
		observe:  o.Observe,
		epoch:    time.Now(),
		limits: [closed]time.Duration{
			silent:    header,
			reading:   header,
			answering: answer,
			answered:  answer,
			idle:      cmp.Or(o.IdleTimeout, 75*time.Second),
		},
		conns: conns{
			most:    withinFileLimit(cmp.Or(o.Most, 4096), o.Log),
			perUser: cmp.Or(o.PerUser, 512),
			users:   make(map[userID]*user),
		},
		accounts:    accounts{table: make(map[caller.Identity]*account)},
		identifying: make(chan struct{}, maxIdentifying),
		access:      newAccessLog(o),
		trouble:     newTroubleLog(o.Log),
		stopping:    make(chan struct{}),
	}
	if s.observe == nil {
		s.observe = func(Access, time.Duration) {}
	}
	s.http = http.Server{
		Handler:                      http.HandlerFunc(s.serve),
		MaxHeaderBytes:               maxHeader,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     log.New(&s.trouble, "", 0),
		ConnContext:                  connContext,
		ConnState:                    s.follow,
		Protocols:                    new(http.Protocols),
	}
	s.http.Protocols.SetHTTP1(true)
	return s
}

// Serve accepts connections on the listeners until Shutdown, and then returns nil
// at once; Shutdown says when the last answer is given. If a listener fails, Serve
// closes all of them and returns why.
func (s *Server) Serve(listeners ...*Listener) error {
	s.mu.Lock()
	s.listeners = append(s.listeners, listeners...)
	s.mu.Unlock()
	failed := make(chan error, len(listeners))
	var running sync.WaitGroup
	for _, l := range listeners {
		running.Go(func() {
			err := s.http.Serve(acceptor{l, s})
			if s.isStopping() || errors.Is(err, http.ErrServerClosed) {
				err = nil
			}
			failed <- err
		})
	}
	done := make(chan struct{})
	running.Go(func() { s.sweep(done) })

	var first error
	for range listeners {
		if err := <-failed; err != nil && first == nil {
			first = err
			s.closeListeners()
		}
	}
	close(done)
	running.Wait()
	return first
}

// now is the time since the server was made. It never goes back.
func (s *Server) now() time.Duration { return time.Since(s.epoch) }

func (s *Server) isStopping() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

// identify finds out who opened a connection and gives it its place; false means
// that there is none for it.
func (s *Server) identify(c *conn) bool {
	defer func() { <-s.identifying }()
	origin, err := s.resolver.Resolve(c.TCPConn)
	if err != nil {
		s.trouble.unidentified(c, origin.Identity, err)
	}
	c.peer = Peer{
		Identity:    origin.Identity,
		Address:     origin.Peer,
		Destination: origin.Destination,
		Listener:    c.listener.Name,
		Refused:     c.listener.refusal(origin, addrPort(c.LocalAddr())),
	}
	c.account = s.accounts.enter(origin.Identity, s.now())
	evicted, ok := s.conns.place(c, s.now())
	if evicted != nil {
		s.trouble.evicted(evicted)
		_ = evicted.Close()
	}
	if !ok {
		s.trouble.crowded(c)
	}
	return ok
}

// follow implements http.Server.ConnState, for the one change of phase that only
// net/http sees: the answer is in the kernel's hands.
func (s *Server) follow(nc net.Conn, state http.ConnState) {
	if c, ok := nc.(*conn); ok && state == http.StateIdle {
		c.enter(idle, s.now())
		c.writeLine()
	}
}

// serve answers one request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(connKey{}).(*conn)
	begin := s.now()
	c.enter(answering, begin)
	if r.ContentLength != 0 {
		// Without this net/http reads the body before it writes the answer, and
		// so waits for a client that never sends it.
		w.Header()["Connection"] = []string{"close"}
	}
	defer func() {
		if p := recover(); p != nil {
			s.recovered(c, r, p, begin)
		}
	}()
	access := s.handler(w, r, c.peer)
	s.finish(c, r, access, begin)
}

// finish accounts for a request whose answer is ready. Its line in the access log
// waits until the answer has left, so that it delays no answer.
func (s *Server) finish(c *conn, r *http.Request, a Access, begin time.Duration) {
	end := s.now()
	c.enter(answered, end)
	denied := isDenied(a.Status, c.peer)
	c.account.requests.Add(1)
	c.account.last.Store(int64(end))
	if denied {
		c.account.denied.Add(1)
	}
	agent := bounded(r.UserAgent(), maxAgent)
	if !c.named && agent != "" {
		c.named = true
		c.account.userAgent.Store(new(strings.Clone(agent)))
	}
	s.observe(a, end-begin)
	if s.access.allows(denied, s.epoch.Add(end)) {
		c.line.Store(&line{Access: a, method: r.Method, path: r.URL.Path, agent: agent, took: end - begin})
	}
}

// recovered turns a panic of the handler into a closed connection and lets the
// others live. The value and the arguments on the stack may hold anything, so the
// log shows neither.
func (s *Server) recovered(c *conn, r *http.Request, p any, begin time.Duration) {
	if p != http.ErrAbortHandler {
		s.trouble.panicked(p)
		s.finish(c, r, Access{Status: http.StatusInternalServerError, Decision: "error", Reason: "the handler panicked"}, begin)
	}
	panic(http.ErrAbortHandler)
}

// reportMalformed accounts for a connection that closes with a part of a request:
// one that net/http refused, or that never became whole.
func (s *Server) reportMalformed(c *conn) {
	a := Access{Status: http.StatusBadRequest, Decision: "invalid", Reason: "malformed, too large or incomplete"}
	c.account.requests.Add(1)
	s.observe(a, 0)
	if s.access.allows(true, time.Now()) {
		s.access.write(&line{Access: a}, &c.peer)
	}
}

// isDenied tells the requests for which the access log keeps room in a flood of
// others.
func isDenied(status int, peer Peer) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden || peer.Refused != ""
}
