package status

import (
	"fmt"
	"reflect"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purser-agent/purser/pkg/caller"
)

func account(uid uint32) string {
	if uid == 33 {
		return "www-data"
	}
	return ""
}

func TestCallersAreCountedAndTheBusiestComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Callers
		web := caller.Identity{UID: 33, Known: true, Unit: "nginx.service"}
		root := caller.Identity{Known: true}
		c.Connected(caller.Identity{})
		c.Requested(caller.Identity{}, true)
		time.Sleep(time.Minute)
		c.Connected(web)
		c.Requested(web, false)
		c.Requested(web, true)
		c.Requested(root, false)
		got := c.List(account)
		want := []Caller{
			{UID: new(uint32(33)), User: "www-data", Unit: "nginx.service", Known: true, Denied: 1, Requests: 2, Connections: 1, LastSeen: time.Now()},
			{UID: new(uint32(0)), Known: true, Requests: 1, LastSeen: time.Now()},
			{Denied: 1, Requests: 1, Connections: 1, LastSeen: time.Now().Add(-time.Minute)},
		}
		if len(got) != len(want) {
			t.Fatalf("%d callers, want %d", len(got), len(want))
		}
		for i := range got {
			if !got[i].LastSeen.Equal(want[i].LastSeen) {
				t.Errorf("caller %d was last seen %v, want %v", i, got[i].LastSeen, want[i].LastSeen)
			}
			got[i].LastSeen = want[i].LastSeen
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

func TestNobodyHasAskedYet(t *testing.T) {
	if got := new(Callers).List(account); len(got) != 0 {
		t.Errorf("got %+v, want none", got)
	}
}

func TestCallersAreBoundedAndTheOneSeenLongestAgoGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Callers
		id := func(i int) caller.Identity {
			return caller.Identity{UID: 1, Known: true, Unit: "run-" + strconv.Itoa(i) + ".scope"}
		}
		for i := range maxCallers {
			c.Requested(id(i), false)
			time.Sleep(time.Second)
		}
		c.Requested(id(0), false)
		c.Requested(id(maxCallers), false)
		units := map[string]uint64{}
		for _, entry := range c.List(account) {
			units[entry.Unit] = entry.Requests
		}
		if len(units) != maxCallers {
			t.Errorf("%d callers are kept, want %d", len(units), maxCallers)
		}
		for i, want := range map[int]uint64{0: 2, 1: 0, 2: 1, maxCallers: 1} {
			if got := units[id(i).Unit]; got != want {
				t.Errorf("%s has %d requests, want %d", id(i).Unit, got, want)
			}
		}
	})
}

func TestCallersAreAllCountedByManyAtOnce(t *testing.T) {
	var c Callers
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for i := range 1000 {
				c.Requested(caller.Identity{UID: uint32(i % 20), Known: true}, false)
			}
		})
	}
	clients.Wait()
	var sum uint64
	for _, entry := range c.List(account) {
		sum += entry.Requests
	}
	if sum != 8000 {
		t.Errorf("%d requests were counted, want 8000", sum)
	}
}

func TestCountingAKnownCallerDoesNotAllocate(t *testing.T) {
	var c Callers
	id := caller.Identity{UID: 33, Known: true, Unit: "nginx.service"}
	c.Requested(id, false)
	if got := testing.AllocsPerRun(1000, func() { c.Requested(id, false) }); got != 0 {
		t.Errorf("%v allocations per request, want 0", got)
	}
}

func BenchmarkCallersRequested(b *testing.B) {
	var c Callers
	for i := range 100 {
		c.Requested(caller.Identity{UID: uint32(i), Known: true, Unit: fmt.Sprintf("a%d.service", i)}, false)
	}
	id := caller.Identity{UID: 33, Known: true, Unit: "nginx.service"}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Requested(id, false)
		}
	})
}
