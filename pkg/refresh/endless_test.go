package refresh_test

import (
	"context"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/refresh"
)

// keyFile is a source of a pair of keys without an end, or with that of life, as a
// file holds one.
type keyFile struct {
	*upstream
	content, seen string        // guarded by upstream.mu
	life          time.Duration // guarded by upstream.mu; zero for no end
	every, slow   time.Duration // slow is how long it takes to give what was read
	once          bool          // a replacement is told of once
	ran, ended    bool          // guarded by upstream.mu
}

func (f *keyFile) Fetch(ctx context.Context, key credential.Key) (credential.Credential, error) {
	if _, err := f.upstream.Fetch(ctx, key); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = f.content
	c := &credential.AWS{AccessKeyID: f.content, Issued: time.Now()}
	if f.slow > 0 {
		f.mu.Unlock()
		time.Sleep(f.slow)
		f.mu.Lock()
	}
	if f.life > 0 {
		c.Expires = c.Issued.Add(f.life)
	}
	return c, nil
}

// Reread implements refresh.Rereader.
func (f *keyFile) Reread(credential.Key) time.Duration { return f.every }

// Replaced implements refresh.Replacer.
func (f *keyFile) Replaced() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	replaced := f.seen != "" && f.seen != f.content
	if replaced && f.once {
		f.seen = f.content
	}
	return replaced
}

// Run implements refresh.Runner.
func (f *keyFile) Run(ctx context.Context) {
	f.set(func() { f.ran = true })
	<-ctx.Done()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = f.busy["key"] == 0
}

func TestPromise4KeysWithoutAnEndSurviveAnOutageOfAnyLength(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		file := &keyFile{upstream: newUpstream("key"), content: "first", every: 10 * time.Minute}
		loop := h.run(h.loop("file", file))
		time.Sleep(2 * time.Hour)
		if n := file.fetched("key"); n < 12 || n > 15 {
			t.Errorf("asked %d times in two hours, want every 9 to 10 minutes", n)
		}
		file.set(func() { file.down = errDown })
		time.Sleep(72 * time.Hour)
		if got := h.must("key"); got.AccessKeyID != "first" {
			t.Errorf("after three days of outage there is %q in stock", got.AccessKeyID)
		}
		if r := row(t, loop, "key"); r.State != refresh.Due || !r.Expires.IsZero() {
			t.Errorf("the row says %s until %v", r.State, r.Expires)
		}
	})
}

func TestWhatWasReplacedIsFetchedAtOnceAlsoIfItEndsEarlier(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		file := &keyFile{upstream: newUpstream("key"), content: "first"}
		h.run(h.loop("file", file))
		settle()
		for _, next := range []struct {
			content string
			life    time.Duration
		}{{"second", 0}, {"third", 10 * time.Hour}, {"fourth", 5 * time.Hour}, {"fifth", 0}} {
			file.set(func() { file.content, file.life = next.content, next.life })
			time.Sleep(1100 * time.Millisecond)
			settle()
			if got := h.must("key"); got.AccessKeyID != next.content {
				t.Errorf("a second after %s there is %q in stock", next.content, got.AccessKeyID)
			}
		}
	})
}

func TestWhatIsReplacedWhileItIsReadIsFetchedOnceMore(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		file := &keyFile{upstream: newUpstream("key"), content: "first", slow: 3 * time.Second, once: true}
		h.run(h.loop("file", file))
		time.Sleep(1500 * time.Millisecond)
		file.set(func() { file.content = "second" })
		time.Sleep(5 * time.Second)
		settle()
		if got := h.must("key"); got.AccessKeyID != "second" {
			t.Errorf("there is %q in stock", got.AccessKeyID)
		}
	})
}

func TestWhatWasReplacedIsListedAnew(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		file := &keyFile{upstream: newUpstream("key"), content: "first", once: true}
		h.run(h.loop("file", file))
		settle()
		file.set(func() { file.content = "second" })
		time.Sleep(1100 * time.Millisecond)
		settle()
		if n := file.listed(); n != 2 {
			t.Errorf("listed %d times, want once more after the replacement", n)
		}
	})
}

func TestASourceRunsAsLongAsItsLoopAndEndsAfterTheLastAttempt(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		file := &keyFile{upstream: newUpstream("key"), content: "first"}
		file.hang = true
		ctx, stop := context.WithCancel(t.Context())
		loop, over := h.loop("file", file), make(chan struct{})
		go func() {
			defer close(over)
			loop.Run(ctx)
		}()
		time.Sleep(time.Second)
		stop()
		<-over
		if !file.ran || !file.ended {
			t.Errorf("ran: %v, ended when no attempt was under way: %v", file.ran, file.ended)
		}
	})
}
