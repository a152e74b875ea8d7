package replica_test

import (
	"testing"
	"testing/synctest"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology/memtopo"
	"github.com/atolldb/atoll/node/wire"
)

// replicated is a replica whose partitions have other owners.
func replicated(t *testing.T) *place {
	p := newPlace(t, "n1", memtopo.New(1), memstore.Config{})
	p.cfg.Topology = rows(1, "n1 n2", "n1 n2", "n2 n1", "n2 n1")
	p.start()
	return p
}

func (p *place) catchUp() {
	for _, part := range p.Owned() {
		p.CaughtUp(part, p.BehindMark(part))
	}
	p.settle()
}

// A node whose disk is new takes Applies and serves repair, and neither answers
// reads nor mints before it has caught up, partition by partition.
func TestBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := replicated(t)
		hash := hashring.KeyHash([]byte(key))
		refused := func() {
			t.Helper()
			_, err := p.Read(0, hash, []byte(key))
			wantError(t, err, replica.ErrBehind)
			_, err = p.write(replica.Mint{Key: []byte(key)})
			wantError(t, err, replica.ErrBehind)
		}
		refused()
		p.mustApply(foreign(key, stranger, 1, nil, "v"))
		refused()
		if got, err := p.Pull(wire.Pull{Partition: partOf(key), Clock: &crdt.Clock{}, MaxBytes: 1}); err != nil || len(got.Entries) != 1 {
			t.Errorf("pull: %+v, %v", got, err)
		}
		if page, err := p.Scan(wire.Scan{Partition: partOf(key), Last: 1<<64 - 1}); err != nil || !page.Behind || len(page.Entries) != 1 {
			t.Errorf("scan: %+v, %v", page, err)
		}
		p.crash(true) // it does not forget that it is behind
		p.start()
		refused()
		other := (partOf(key) + 1) % partitions
		mark := p.BehindMark(other)
		p.CaughtUp(other, mark+100)
		p.settle()
		if !p.Behind(other) {
			t.Error("caught up since another time")
		}
		p.CaughtUp(other, mark)
		p.CaughtUp(other, mark)
		p.settle()
		if p.Behind(other) || !p.Behind(partOf(key)) || p.BehindCount() != partitions-1 {
			t.Errorf("%d partitions behind", p.BehindCount())
		}
		refused()
		p.put(keysIn(other, 1)[0], "v")
		p.restart()
		if p.BehindCount() != partitions-1 || p.Behind(other) {
			t.Errorf("%d partitions behind", p.BehindCount())
		}
		p.catchUp()
		if got := values(p.record(key)); len(got) != 1 || p.BehindCount() != 0 {
			t.Errorf("%q, %d partitions behind", got, p.BehindCount())
		}
		p.put(key, "mine")
		p.crash(true) // and nor that it has caught up
		p.start()
		p.put(key, "again")
		p.stop()
	})
}

// A directory that is a copy, or was rolled back, falls behind; a clean restart
// and a crash do not.
func TestWhoFallsBehind(t *testing.T) {
	for name, c := range map[string]struct {
		between func(p *place)
		behind  bool
	}{
		"clean restart": {func(p *place) { p.stop() }, false},
		"crash":         {func(p *place) { p.crash(false) }, false},
		"wiped": {func(p *place) {
			p.stop()
			if err := p.disk.Wipe(); err != nil {
				t.Fatal(err)
			}
		}, true},
		"rolled back": {func(p *place) {
			p.stop()
			if _, err := p.disk.RollBack(2); err != nil {
				t.Fatal(err)
			}
		}, true},
		"copied": {func(p *place) {
			p.stop()
			copied := memstore.NewDisk(memstore.Config{})
			copyDisk(t, p.disk, copied)
			p.start()
			p.put(key, "only the original has this")
			p.stop()
			p.disk = copied
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := replicated(t)
				p.catchUp()
				p.put(key, "v")
				c.between(p)
				p.start()
				if (p.BehindCount() > 0) != c.behind {
					t.Errorf("%d partitions behind", p.BehindCount())
				}
				p.stop()
			})
		})
	}
}
