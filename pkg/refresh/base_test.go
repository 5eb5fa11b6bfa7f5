package refresh_test

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/refresh"
)

// waiting is an error of a source whose base is still to come.
type waiting struct{ error }

func (waiting) Waiting() bool { return true }

func TestAWaitForAnotherUpstreamIsLeftToThatOnesLog(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream("web")
		var log bytes.Buffer
		l := h.run(h.loop("datacenter", u, func(o *refresh.Options) { o.Log = zerolog.New(&log).Level(zerolog.InfoLevel) }))
		settle()
		log.Reset()
		for _, c := range []struct {
			err  error
			want string
		}{{waiting{errDown}, ""}, {errDown, "refresh failed"}} {
			u.set(func() { u.failing["web"] = c.err })
			_ = l.Refresh(t.Context(), "web")
			settle()
			if got := log.String(); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("%v: logged %q, want %q", c.err, got, c.want)
			}
		}
	})
}

// TestAWaitForAnotherUpstreamIsNoFailure, however long it takes, and what fails after it
// is a first failure.
func TestAWaitForAnotherUpstreamIsNoFailure(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream("web")
		u.declared, u.failing["web"] = true, waiting{errDown}
		var log bytes.Buffer
		counted := map[string]int{}
		l := h.run(h.loop("finance", u, func(o *refresh.Options) {
			o.Log = zerolog.New(&log).Level(zerolog.InfoLevel)
			o.Observe = func(class string, _ time.Duration) { counted[class]++ }
		}))
		time.Sleep(time.Hour)
		synctest.Wait()
		row := l.Rows()[0]
		if len(counted) != 0 || row.Failures != 0 || !row.Waiting || row.Err == nil || log.Len() > 0 {
			t.Errorf("after an hour %v are counted, the row is %+v, the log %s", counted, row, &log)
		}
		if asked := u.fetched("web"); asked > 200 {
			t.Errorf("it was looked %d times in an hour", asked)
		}
		u.set(func() { u.failing["web"] = upstreamError{permanent: true} })
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if row := l.Rows()[0]; row.Failures == 0 || row.Waiting || counted["fake"] == 0 || !strings.Contains(log.String(), `"failures":1,`) {
			t.Errorf("after failures %v are counted, the row is %+v, the log %s", counted, row, &log)
		}
	})
}

func TestWhatWaitsForAnotherUpstreamIsAskedForAsSoonAsThatIsThere(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream("web")
		u.declared, u.failing["web"] = true, waiting{errDown}
		var log bytes.Buffer
		l := h.run(h.loop("finance", u, func(o *refresh.Options) { o.Log = zerolog.New(&log).Level(zerolog.InfoLevel) }))
		time.Sleep(time.Hour)
		u.set(func() { delete(u.failing, "web"); u.changed = true })
		l.Look()
		time.Sleep(60 * time.Millisecond) // one fetch
		synctest.Wait()
		h.must("web")
		if log.Len() > 0 {
			t.Errorf("logged %s", &log)
		}
	})
}

func TestKeysAreWhatTheUpstreamGrants(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream("web", "db")
		u.down = errDown
		l := h.run(h.loop("datacenter", u))
		settle()
		if keys, known := l.Keys(); known || len(keys) != 0 {
			t.Errorf("before the first list: %v, %v", keys, known)
		}
		u.set(func() { u.down = nil })
		time.Sleep(10 * time.Second)
		keys, known := l.Keys()
		if !known || len(keys) != 2 || !l.Grants(credential.Key{Name: "db"}) || l.Grants(credential.Key{Name: "ghost"}) {
			t.Errorf("got %v, %v", keys, known)
		}
	})
}

func TestRenewFetchesAheadOfTimeButNotInARow(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		u := newUpstream("web")
		l := h.run(h.loop("datacenter", u))
		settle()
		web := credential.Key{Name: "web"}
		fetched := func(what string, want int) {
			t.Helper()
			settle()
			if got := u.fetched("web"); got != want {
				t.Errorf("%s: %d fetches, want %d", what, got, want)
			}
		}
		l.Renew(web)
		fetched("just fetched", 1)
		time.Sleep(61 * time.Second)
		before := u.fetched("web")
		l.Renew(web)
		l.Renew(web)
		fetched("a minute later", before+1)
		l.Renew(web)
		l.Renew(credential.Key{Name: "ghost"})
		fetched("at once again", before+1)
		time.Sleep(61 * time.Second)
		u.set(func() { u.failing["web"] = upstreamError{after: time.Minute} })
		l.Renew(web)
		settle()
		failed := u.fetched("web")
		for range 10 {
			l.Renew(web)
		}
		fetched("while it waits to be retried", failed)
	})
}
