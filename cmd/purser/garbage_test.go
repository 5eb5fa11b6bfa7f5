package main

import "testing"

func TestTheCollectorWaitsOnlyWhileTheHeapIsSmall(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{{0, 200}, {1 << 20, 200}, {4 << 20, 200}, {6 << 20, 133}, {8 << 20, 100}, {1 << 40, 100}} {
		if got := garbagePercent(c.live); got != c.want {
			t.Errorf("%d bytes: got %d, want %d", c.live, got, c.want)
		}
	}
}
