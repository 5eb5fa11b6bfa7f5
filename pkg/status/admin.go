package status

import (
	"context"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/rs/zerolog"
)

// An Admin serves the commands of operators on a Unix socket. Root, Owner and the
// members of Groups may do everything; everybody else may ask for the status and
// wait, within what they may have.
//
// All functions are called concurrently and must honour their context.
type Admin struct {
	// Status builds the Report as an administrator may see it.
	Status func(ctx context.Context) Report
	// Refresh fetches the credentials of these names now, all of them if there are
	// no names, and returns when that was tried. An unknown name is an error that is
	// credential.ErrNotFound.
	Refresh func(ctx context.Context, names []string) error
	// Wait returns the names that are not in stock, as soon as there are none or ctx
	// is done. No names mean everything that is required and visible. A name that does
	// not exist, or is not visible, is an error that is credential.ErrNotFound once
	// that is certain; visible may say something else each time.
	Wait func(ctx context.Context, names []string, visible func(name string) bool) (missing []string, err error)
	// Reload takes over a changed configuration, or returns why it did not. Its
	// context outlives a client that goes away.
	Reload func(ctx context.Context) error
	// View reports what a process of an account may have.
	View func(uid uint32, pid int32) (visible func(name string) bool)

	// Owner is the uid that started Purser. An account that Purser only became is none:
	// other programs may have it.
	Owner uint32
	// Groups are the gids whose members may do everything, and GroupName is how
	// messages call them.
	Groups    []uint32
	GroupName string
	Log       zerolog.Logger
}

// Time limits of the admin socket.
const (
	adminRead     = 5 * time.Second  // of a request, and until the next one
	statusQueue   = 2 * time.Second  // for a place to build a status
	statusLimit   = 5 * time.Second  // to build a status, and again to take it
	longPoll      = 25 * time.Second // of one request to wait
	commandLimit  = 2 * time.Minute  // of a refresh or reload
	adminWrite    = commandLimit + statusLimit
	adminShutdown = 200 * time.Millisecond
)

const (
	maxAdminHeader = 64 << 10 // bytes; the names of a refresh or wait are in the URL
	maxMissing     = 100      // names in one answer to a wait
	limitedReports = 2        // built and sent at a time for others than administrators
)

// Serve answers on l, which Listen returned, until ctx ends. It closes l.
func (a *Admin) Serve(ctx context.Context, l net.Listener) error {
	socket, ok := l.(*net.UnixListener)
	if !ok {
		return fmt.Errorf("the admin socket is a %T and not a Unix socket", l)
	}
	return a.serve(ctx, &gate{UnixListener: socket, isAdmin: a.isAdmin, perUser: map[uint32]int{}})
}

// serve takes a listener whose connections are of type *gateConn.
func (a *Admin) serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           a.handler(ctx),
		ReadHeaderTimeout: adminRead,
		ReadTimeout:       adminRead,
		WriteTimeout:      adminWrite,
		MaxHeaderBytes:    maxAdminHeader,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       withPeer,
		ErrorLog:          stdlog.New(a.Log, "", 0),
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.Background(), adminShutdown)
		defer cancel()
		if server.Shutdown(grace) != nil {
			_ = server.Close()
		}
	})
	err := server.Serve(l)
	if stop() {
		return fmt.Errorf("admin socket: %w", err)
	}
	<-stopped
	return nil
}

func (a *Admin) isAdmin(p peer) bool {
	return p.uid == 0 || p.uid == a.Owner ||
		slices.ContainsFunc(p.groups, func(gid uint32) bool { return slices.Contains(a.Groups, gid) })
}
