package caller

import (
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A fakeTree stands for the cgroups of a host. A walk takes its time and sees what
// was there when it began.
type fakeTree struct {
	mu    sync.Mutex
	units map[uint64]string
	takes time.Duration
	err   error
	part  bool // the walk gives up half-way
	walks atomic.Int64
}

func (f *fakeTree) count() (census, error) {
	f.walks.Add(1)
	f.mu.Lock()
	units, takes, err, part := maps.Clone(f.units), f.takes, f.err, f.part
	f.mu.Unlock()
	time.Sleep(takes)
	return census{units: units, whole: !part}, err
}

func (f *fakeTree) start(id uint64, unit string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.units[id] = unit
}

func newFakeTree() *fakeTree {
	return &fakeTree{units: map[uint64]string{1: "", 2: "nginx.service"}, takes: 5 * time.Millisecond}
}

func wantUnit(t *testing.T, table *unitTable, id uint64, want string) {
	t.Helper()
	if got, err := table.unit(id); got != want || err != nil {
		t.Errorf("unit of cgroup %d = %q, %v; want %q", id, got, err, want)
	}
}

func TestUnitsOnceFoundNeedNoFurtherWalk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		table := newUnitTable(tree.count)
		for range 100 {
			wantUnit(t, table, 2, "nginx.service")
			wantUnit(t, table, 1, "")
		}
		if got := tree.walks.Load(); got != 1 {
			t.Errorf("%d walks, want 1", got)
		}
	})
}

func TestUnitsMissedAtTheSameMomentShareAWalk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		table := newUnitTable(tree.count)
		wantUnit(t, table, 2, "nginx.service")
		tree.start(3, "backup.service")
		var waiting sync.WaitGroup
		for range 100 {
			waiting.Go(func() { wantUnit(t, table, 3, "backup.service") })
		}
		waiting.Wait()
		if got := tree.walks.Load(); got != 2 {
			t.Errorf("%d walks, want 2", got)
		}
	})
}

func TestUnitThatStartsDuringAWalkIsFoundByTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		table := newUnitTable(tree.count)
		var waiting sync.WaitGroup
		waiting.Go(func() { wantUnit(t, table, 2, "nginx.service") })
		synctest.Wait() // the walk has begun
		tree.start(3, "backup.service")
		waiting.Go(func() { wantUnit(t, table, 3, "backup.service") })
		waiting.Wait()
	})
}

func TestUnitOfNewServiceIsFoundAtOnceOnAQuietHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		table := newUnitTable(tree.count)
		wantUnit(t, table, 2, "nginx.service")
		time.Sleep(time.Minute)
		tree.start(3, "backup.service")
		began := time.Now()
		wantUnit(t, table, 3, "backup.service")
		if took := time.Since(began); took != tree.takes {
			t.Errorf("took %s, want one walk of %s", took, tree.takes)
		}
	})
}

func TestHostileMissesCostAFifthOfAProcessorAtMost(t *testing.T) {
	for _, takes := range []time.Duration{0, 5 * time.Millisecond, 100 * time.Millisecond, 600 * time.Millisecond} {
		t.Run(takes.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tree := newFakeTree()
				tree.takes = takes
				table := newUnitTable(tree.count)
				const attack = 10 * time.Second
				began := time.Now()
				for id := uint64(1000); time.Since(began) < attack; id++ {
					wantUnit(t, table, id, "")
				}
				walks := tree.walks.Load()
				busy := time.Duration(walks) * takes
				if limit := int64(attack/pauseMin) + 1; walks > limit {
					t.Errorf("%d walks in %s, want %d at most", walks, attack, limit)
				}
				if takes*pauseFactor <= pauseMax && busy > attack/(pauseFactor+1)+takes {
					t.Errorf("walked for %s of %s", busy, attack)
				}
				tree.start(3, "backup.service")
				asked := time.Now()
				wantUnit(t, table, 3, "backup.service")
				if took, limit := time.Since(asked), pauseMax+2*takes+pauseMin; took > limit {
					t.Errorf("a new unit was found after %s, want %s at most", took, limit)
				}
			})
		})
	}
}

func TestCgroupThatIsGoneIsLookedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		table := newUnitTable(tree.count)
		for range 100 {
			wantUnit(t, table, 9, "")
		}
		if got := tree.walks.Load(); got != 1 {
			t.Errorf("%d walks, want 1", got)
		}
	})
}

func TestIdsWithoutCgroupAreForgottenBeforeTheyAreMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newUnitTable(newFakeTree().count)
		for id := range uint64(2*maxAbsent + 2) {
			wantUnit(t, table, 1000+id, "")
		}
		if got := len(table.absent); got == 0 || got > maxAbsent {
			t.Errorf("%d ids are remembered, want 1 to %d", got, maxAbsent)
		}
	})
}

func TestPartOfAWalkProvesNothingGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		tree.part = true
		table := newUnitTable(tree.count)
		wantUnit(t, table, 3, "")
		tree.start(3, "backup.service")
		wantUnit(t, table, 3, "backup.service")
	})
}

func TestFailedWalkKeepsWhatIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		table := newUnitTable(tree.count)
		wantUnit(t, table, 2, "nginx.service")
		tree.start(3, "backup.service")
		tree.err = errors.New("too many open files")
		if got, err := table.unit(3); got != "" || !errors.Is(err, tree.err) {
			t.Errorf("unit during the failure = %q, %v", got, err)
		}
		wantUnit(t, table, 2, "nginx.service")
		tree.err = nil
		wantUnit(t, table, 3, "backup.service")
	})
}
