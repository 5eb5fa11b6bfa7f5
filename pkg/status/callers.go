package status

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/purser-agent/purser/pkg/caller"
)

// maxCallers bounds how many callers are told apart. Units come and go (a scope per
// login, a unit per container); beyond the bound, the one seen longest ago makes
// room.
const maxCallers = 1024

// Callers counts what each caller asked for. The zero Callers is ready. All methods
// are safe for concurrent use; counting for a known caller neither locks nor
// allocates.
type Callers struct {
	table  atomic.Pointer[map[caller.Identity]*usage] // never changed, only replaced
	adding sync.Mutex                                 // serialises writers of table
}

type usage struct {
	requests, denied, connections atomic.Uint64
	seen                          atomic.Int64 // Unix time in seconds
}

// see writes only once a second: on a busy caller all processors share the line.
func (u *usage) see() {
	if now := time.Now().Unix(); u.seen.Load() != now {
		u.seen.Store(now)
	}
}

// Connected counts a connection.
func (c *Callers) Connected(id caller.Identity) {
	u := c.usage(id)
	u.connections.Add(1)
	u.see()
}

// Requested counts a request, and whether it was denied.
func (c *Callers) Requested(id caller.Identity, denied bool) {
	u := c.usage(id)
	u.requests.Add(1)
	if denied {
		u.denied.Add(1)
	}
	u.see()
}

func (c *Callers) usage(id caller.Identity) *usage {
	if table := c.table.Load(); table != nil {
		if u, ok := (*table)[id]; ok {
			return u
		}
	}
	return c.add(id)
}

func (c *Callers) add(id caller.Identity) *usage {
	c.adding.Lock()
	defer c.adding.Unlock()
	next := map[caller.Identity]*usage{}
	if table := c.table.Load(); table != nil {
		if u, ok := (*table)[id]; ok {
			return u
		}
		next = maps.Clone(*table)
	}
	if len(next) >= maxCallers {
		delete(next, longestAgo(next))
	}
	u := &usage{}
	u.see()
	next[id] = u
	c.table.Store(&next)
	return u
}

func longestAgo(table map[caller.Identity]*usage) caller.Identity {
	return slices.MinFunc(slices.Collect(maps.Keys(table)), func(a, b caller.Identity) int {
		return cmp.Compare(table[a].seen.Load(), table[b].seen.Load())
	})
}

// List reports all callers, the busiest first. user gives an account's name, or an
// empty one if it has none.
func (c *Callers) List(user func(uid uint32) string) []Caller {
	table := c.table.Load()
	if table == nil {
		return nil
	}
	list := make([]Caller, 0, len(*table))
	for id, u := range *table {
		entry := Caller{
			Unit: id.Unit, Known: id.Known,
			Requests: u.requests.Load(), Denied: u.denied.Load(), Connections: u.connections.Load(),
			LastSeen: time.Unix(u.seen.Load(), 0),
		}
		if id.Known {
			entry.UID = new(id.UID)
			entry.User = user(id.UID)
		}
		list = append(list, entry)
	}
	slices.SortFunc(list, func(a, b Caller) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Unit, b.Unit))
	})
	return list
}

// rank orders callers with as many requests: by uid, and who has none last.
func rank(c Caller) uint64 {
	if c.UID == nil {
		return math.MaxUint64
	}
	return uint64(*c.UID)
}
