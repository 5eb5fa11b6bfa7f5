package refresh_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/refresh"
)

// madeUp are names that an upstream allows and does not give.
func (u *upstream) madeUp(how string, n int) (made []credential.Key) {
	u.set(func() {
		for i := range n {
			key := credential.Key{Name: fmt.Sprint(how, i)}
			made = append(made, key)
			u.failing[key.Name] = upstreamError{permanent: true}
			u.allowed = append(u.allowed, key.Name)
		}
	})
	return made
}

// askedFor counts those of keys that the upstream was asked for.
func (u *upstream) askedFor(all []credential.Key) (n int) {
	for _, key := range all {
		n += min(u.fetched(key.Name), 1)
	}
	return n
}

func TestWhoMakesUpNamesShutsOutNobodyElse(t *testing.T) {
	for _, c := range []struct {
		name  string
		from  func(i int) refresh.Asker // who asks for the made-up names
		other refresh.Asker
	}{
		{"another user", func(int) refresh.Asker { return alice }, bob},
		{"a service of the same user", func(int) refresh.Asker { return alice }, refresh.Asker{User: alice.User, Unit: "web.service"}},
		{"one with a session for each name", func(i int) refresh.Asker {
			return refresh.Asker{User: alice.User, Unit: fmt.Sprintf("session-%d.scope", i)}
		}, bob},
		{"one that is not known", func(int) refresh.Asker { return refresh.Asker{} }, bob},
		{"fifty users", func(i int) refresh.Asker { return refresh.Asker{User: fmt.Sprint(2000 + i%50)} }, bob},
	} {
		t.Run(c.name, func(t *testing.T) {
			demanding(t, func(t *testing.T, h *host, u *upstream, l *refresh.Loop) {
				for i, key := range u.madeUp("made-up", 200) {
					_ = l.Want(t.Context(), key, c.from(i))
				}
				if err := l.Want(t.Context(), app, c.other); err != nil {
					t.Fatalf("got %v", err)
				}
				h.must("app")
				if rows := len(l.Rows()); rows > 102 { // and web and app
					t.Errorf("there are %d rows", rows)
				}
			})
		})
	}
}

func TestRoomIsTakenFromTheUserWhoHasMostOfIt(t *testing.T) {
	demanding(t, func(t *testing.T, h *host, u *upstream, l *refresh.Loop) {
		for _, key := range u.madeUp("carol", 3) {
			_ = l.Want(t.Context(), key, refresh.Asker{User: "1003"})
		}
		for i, key := range u.madeUp("alice", 200) { // in a session for each
			_ = l.Want(t.Context(), key, refresh.Asker{User: alice.User, Unit: fmt.Sprint(i)})
		}
		for _, key := range u.madeUp("bob", 5) {
			_ = l.Want(t.Context(), key, bob)
		}
		left := map[string]int{}
		for _, row := range l.Rows() {
			left[strings.TrimRight(row.Key.Name, "0123456789")]++
		}
		if left["carol"] != 3 || left["bob"] != 5 || left["alice"] != 92 {
			t.Errorf("there are %v", left)
		}
	})
}

// TestPromise9TogetherCallersHaveNoMoreMadeUpNamesAskedFor: they take room from each other
// until all have the same, and not in turn.
func TestPromise9TogetherCallersHaveNoMoreMadeUpNamesAskedFor(t *testing.T) {
	for _, c := range []struct{ users, units int }{{3, 1}, {2, 7}} {
		demanding(t, func(t *testing.T, h *host, u *upstream, l *refresh.Loop) {
			all := u.madeUp("made-up", 1000)
			for i, key := range all {
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond) // all before they are idle
				_ = l.Want(ctx, key, refresh.Asker{User: fmt.Sprint(2000 + i%c.users), Unit: fmt.Sprint(i % c.units)})
				cancel()
				if i < 100 {
					time.Sleep(60 * time.Millisecond) // for the answer
				}
			}
			if asked := u.askedFor(all); asked < 100 || asked > 130 {
				t.Errorf("%+v: the upstream was asked for %d names that it does not give", c, asked)
			}
		})
	}
}

// TestPromise9NamesAreBoundedBeforeTheFirstAnswer, too: many may ask at once.
func TestPromise9NamesAreBoundedBeforeTheFirstAnswer(t *testing.T) {
	demanding(t, func(t *testing.T, h *host, u *upstream, l *refresh.Loop) {
		names := u.madeUp("made-up", 1000)
		var asking sync.WaitGroup
		for _, key := range names {
			asking.Go(func() { _ = l.Want(t.Context(), key, alice) })
		}
		asking.Wait()
		if asked := u.askedFor(names); asked > 100 {
			t.Errorf("the upstream was asked for %d names that it does not give", asked)
		}
		if err := l.Want(t.Context(), app, bob); err != nil {
			t.Errorf("another caller got %v", err)
		}
		time.Sleep(10 * time.Minute)
		if rows := len(l.Rows()); rows > 2 {
			t.Errorf("%d rows are left when nobody asks any more", rows)
		}
	})
}

// TestABurstOfNamesThatAreGivenWaitsForRoom: a host that has just booted may ask for more
// than there is room for.
func TestABurstOfNamesThatAreGivenWaitsForRoom(t *testing.T) {
	demanding(t, func(t *testing.T, h *host, u *upstream, l *refresh.Loop) {
		for i := range 150 {
			u.set(func() { u.allowed = append(u.allowed, fmt.Sprint("given", i)) })
		}
		var refused atomic.Int64
		var asking sync.WaitGroup
		for i := range 150 {
			asking.Go(func() {
				if l.Want(t.Context(), credential.Key{Name: fmt.Sprint("given", i)}, alice) != nil {
					refused.Add(1)
				}
			})
		}
		asking.Wait()
		if n := refused.Load(); n > 0 {
			t.Errorf("%d of 150 names that the upstream gives were refused", n)
		}
	})
}

func TestWhatWasGivenTakesNoRoom(t *testing.T) {
	demanding(t, func(t *testing.T, h *host, u *upstream, l *refresh.Loop) {
		for i := range 150 {
			name := fmt.Sprint("given", i)
			u.set(func() { u.allowed = append(u.allowed, name) })
			if err := l.Want(t.Context(), credential.Key{Name: name}, alice); err != nil {
				t.Fatal(err)
			}
			h.must(name)
		}
		names := u.madeUp("made-up", 101)
		for _, key := range names {
			_ = l.Want(t.Context(), key, alice)
		}
		if asked := u.askedFor(names); asked != 100 {
			t.Errorf("the upstream was asked for %d names, want all for which there is room", asked)
		}
		if err := l.Want(t.Context(), credential.Key{Name: "ghost"}, bob); !errors.Is(err, credential.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
}
