package store_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
	"github.com/purser-agent/purser/pkg/store"
	"github.com/purser-agent/purser/pkg/testkit"
)

func key(name string) credential.Key { return credential.Key{Name: name} }

func hour() *credential.AWS {
	now := time.Now()
	return &credential.AWS{AccessKeyID: "ASIAEXAMPLE", Issued: now, Expires: now.Add(time.Hour)}
}

func TestGetTellsTheStatesApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s store.Store
		expect := func(want error) {
			t.Helper()
			if _, err := s.Get(key("web")); !errors.Is(err, want) {
				t.Errorf("got error %v, want %v", err, want)
			}
		}
		expect(credential.ErrNotFound)
		s.Announce(key("web"))
		expect(credential.ErrUnavailable)
		s.Refuse(key("web"))
		expect(credential.ErrRefused)

		keys := hour()
		s.Put(key("web"), keys)
		got, err := s.Get(key("web"))
		if got != credential.Credential(keys) || err != nil {
			t.Errorf("got %v, %v, want what was put", got, err)
		}
		s.Refuse(key("web"))
		expect(nil)

		s.Put(key("web"), keys)
		time.Sleep(time.Hour - time.Nanosecond)
		expect(nil)
		time.Sleep(time.Nanosecond)
		expect(credential.ErrExpired)
		s.Refuse(key("web"))
		expect(credential.ErrRefused)

		s.Remove(key("web"))
		expect(credential.ErrNotFound)
	})
}

func TestPutDoesNotBringBackWhatWasRemoved(t *testing.T) {
	var s store.Store
	s.Announce(key("web"))
	s.Remove(key("web"))
	if s.Put(key("web"), hour()) {
		t.Error("Put says that it put something")
	}
	s.Refuse(key("web"))
	if _, err := s.Get(key("web")); !errors.Is(err, credential.ErrNotFound) {
		t.Errorf("got error %v, want %v", err, credential.ErrNotFound)
	}
}

func TestAnnounceKeepsTheStock(t *testing.T) {
	var s store.Store
	s.Announce(key("web"))
	s.Put(key("web"), hour())
	s.Announce(key("web"), key("db"))
	if _, err := s.Get(key("web")); err != nil {
		t.Errorf("announcing again lost the stock: %v", err)
	}
}

func TestAnnouncingAnUnlistedKeyListsIt(t *testing.T) {
	var s store.Store
	s.AnnounceUnlisted(key("web"))
	s.Put(key("web"), hour())
	s.Announce(key("web"))
	s.AnnounceUnlisted(key("web"))
	if _, err := s.Get(key("web")); err != nil || !s.Listed(key("web")) {
		t.Errorf("got listed %v and error %v, want it listed and in stock", s.Listed(key("web")), err)
	}
}

func TestNamesAreSortedAndTheSameUntilAKeyComesOrGoes(t *testing.T) {
	var s store.Store
	if got := s.Names(); len(got) != 0 {
		t.Errorf("an empty store lists %q", got)
	}
	s.Announce(key("web"), key("db"), credential.Key{Name: "web", Variant: "scope"})
	s.AnnounceUnlisted(key("arn:aws:iam::111122223333:role/app"))
	first := s.Names()
	if want := []string{"db", "web"}; !slices.Equal(first, want) {
		t.Errorf("got %q, want %q", first, want)
	}
	s.Put(key("web"), hour())
	s.Announce(key("web"))
	if again := s.Names(); &again[0] != &first[0] {
		t.Error("the list was made anew although no key came or went")
	}
	s.Remove(key("db"))
	if got, want := s.Names(), []string{"web"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if s.Listed(key("arn:aws:iam::111122223333:role/app")) || !s.Listed(key("web")) || s.Listed(key("db")) {
		t.Error("Listed tells unlisted, listed or removed keys wrong")
	}
}

func TestLastAskedIsKeptForUnlistedKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s store.Store
		s.Announce(key("web"))
		s.AnnounceUnlisted(key("app"))
		if got := s.LastAsked(key("app")); !got.Equal(time.Now()) {
			t.Errorf("got %v when it was announced", got)
		}
		time.Sleep(time.Minute)
		_, _ = s.Get(key("web"))
		_, _ = s.Get(key("app"))
		if got := s.LastAsked(key("app")); !got.Equal(time.Now()) {
			t.Errorf("got %v, want %v", got, time.Now())
		}
		if got := s.LastAsked(key("web")); !got.IsZero() {
			t.Errorf("got %v for a listed key", got)
		}
	})
}

func TestReadersSeeOneWholeCredentialWhileItIsReplaced(t *testing.T) {
	var s store.Store
	s.Announce(key("web"))
	put := func(i int) {
		id := fmt.Sprint(i)
		s.Put(key("web"), &credential.AWS{AccessKeyID: id, AccountID: id, Expires: time.Now().Add(time.Hour)})
	}
	put(0)
	testkit.LookWhile(t, func() error {
		got, err := s.Get(key("web"))
		if err != nil {
			return fmt.Errorf("a reader got %w", err)
		}
		if keys := got.(*credential.AWS); keys.AccessKeyID != keys.AccountID {
			return fmt.Errorf("fields of two credentials in one answer: %+v", keys)
		}
		return nil
	}, func() {
		for i := range 10_000 {
			put(i)
			if i%100 == 0 {
				s.Announce(key(fmt.Sprint("other", i)))
			}
		}
	})
}

func TestGetDoesNotAllocate(t *testing.T) {
	var s store.Store
	s.Announce(key("web"))
	s.Put(key("web"), hour())
	if got := testing.AllocsPerRun(1000, func() { _, _ = s.Get(key("web")); s.Names() }); got != 0 {
		t.Errorf("a read allocates %v times", got)
	}
}

func BenchmarkGet(b *testing.B) {
	var s store.Store
	for i := range 50 {
		s.Announce(key(fmt.Sprint("role", i)))
		s.Put(key(fmt.Sprint("role", i)), hour())
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Get(key("role7")); err != nil {
				b.Error(err)
			}
		}
	})
}

func TestAKeyBelongsToTheUpstreamThatAnnouncedItLast(t *testing.T) {
	var s store.Store
	web := credential.Key{Name: "web"}
	expect := func(want string) {
		t.Helper()
		if got := s.Upstream(web); got != want {
			t.Errorf("got upstream %q, want %q", got, want)
		}
	}
	expect("")
	s.For("dc").Announce(web)
	expect("dc")
	s.Put(web, &credential.AWS{Expires: time.Now().Add(time.Hour)})
	s.For("other").Announce(web)
	expect("other")
	if _, err := s.Get(web); err != nil {
		t.Errorf("the stock is gone: %v", err)
	}
	s.For("third").AnnounceUnlisted(web)
	expect("third")
	if !s.Listed(web) {
		t.Error("it is not listed any more")
	}
	s.Remove(web)
	expect("")
}

func TestPromise4KeysWithoutAnEndStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s store.Store
		s.Announce(key("user"))
		s.Put(key("user"), &credential.AWS{AccessKeyID: "AKIAEXAMPLE", Issued: time.Now()})
		time.Sleep(10 * 365 * 24 * time.Hour)
		if _, err := s.Get(key("user")); err != nil {
			t.Errorf("after ten years: %v", err)
		}
	})
}
