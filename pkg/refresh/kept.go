package refresh

import (
	"slices"
	"strings"
	"time"

	"github.com/purser-agent/purser/pkg/credential"
)

// A Kept is one credential as it is carried over a restart.
type Kept struct {
	Key        credential.Key
	Credential credential.Credential // nil for one that is granted and not in stock
	Fetched    time.Time
	OnDemand   bool
}

// Stock tells what there is to carry over a restart, sorted: every key of the loop, with
// what get has of it.
func (l *Loop) Stock(get func(credential.Key) (credential.Credential, bool)) []Kept {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := make([]Kept, 0, len(l.jobs))
	for key, j := range l.jobs {
		if j.holder != "" {
			continue
		}
		k := Kept{Key: key, Fetched: j.fetched, OnDemand: j.demanded}
		if c, ok := get(key); ok && !j.fetched.IsZero() {
			k.Credential = c
		}
		kept = append(kept, k)
	}
	slices.SortFunc(kept, func(a, b Kept) int { return strings.Compare(a.Key.String(), b.Key.String()) })
	return kept
}

// Restore gives the loop, before it begins, what its predecessor had in stock. What is
// still valid counts as fetched and is refreshed when it is due, but that of a Replacer,
// which may have been replaced meanwhile, with the first questions; the list, if there
// is one, is asked for anew. Which keys of a declaring source there are says its
// configuration alone.
func (l *Loop) Restore(kept []Kept) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = kept
}

// takeBack puts what Restore gave into stock; first is when the first questions are
// asked. The caller holds mu.
func (l *Loop) takeBack(now, first time.Time) {
	kept := l.kept
	l.kept = nil
	_, replaces := l.Source.(Replacer)
	if l.lister != nil {
		var granted []credential.Key
		for _, k := range kept {
			if !k.OnDemand {
				granted = append(granted, k.Key)
			}
		}
		if len(granted) > 0 {
			l.adopt(granted, false, first)
		}
	}
	for _, k := range kept {
		if k.Credential == nil {
			continue
		}
		j := l.jobs[k.Key]
		if j == nil && k.OnDemand && l.Allows(k.Key) {
			j = l.demand(k.Key, first)
		}
		if j == nil || j.holder != "" {
			continue
		}
		issued, expires := lifetime(k.Credential)
		if judge(j.expires, expires, now) != take || !l.Store.Put(k.Key, k.Credential) {
			continue
		}
		j.issued, j.expires, j.fetched = issued, expires, k.Fetched
		j.due = l.due(j, k.Fetched)
		if replaces {
			l.queue.plan(j, first)
		} else {
			l.queue.plan(j, j.due)
		}
	}
}
