package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Requests leave garbage and the credentials hardly grow, so the collector can wait
// until so much garbage has come together, in bytes: at Go's default it would run
// dozens of times a second under load and cost a fifth of the throughput. With many
// credentials the default is right.
const (
	garbageAllowed = 8 << 20
	mostPercent    = 200 // of GOGC, whose heap then begins at 8 MiB
)

// tuneGarbageEvery is how often the heap is looked at.
const tuneGarbageEvery = time.Second

// tuneGarbage lets the collector run less often while the heap is small. Whoever
// sets GOGC decides otherwise.
func tuneGarbage(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	ticker := time.NewTicker(tuneGarbageEvery)
	defer ticker.Stop()
	before := 0
	for {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		if percent := garbagePercent(live[0].Value.Uint64()); percent != before { // setting it stops all requests
			debug.SetGCPercent(percent)
			before = percent
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// garbagePercent is GOGC for a heap with so many live bytes.
func garbagePercent(live uint64) int {
	return int(min(mostPercent, max(100, garbageAllowed*100/max(live, 1))))
}
