package coord_test

import (
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/storage/memstore"
)

// BenchmarkSerialPut measures, in one run and on disks that take a millisecond to
// sync, a write of one key by one client at LOCAL_QUORUM and at LOCAL_SERIAL. It
// reports the ratio of the two.
func BenchmarkSerialPut(b *testing.B) {
	top, coords := benchRegionOn(b, memstore.Config{SyncMin: time.Millisecond, SyncMax: time.Millisecond})
	owner, _ := roles(top, coords, "k0")
	put := func(p coord.Put) crdt.Dot {
		done := make(chan error, 1)
		var version crdt.Dot
		p.Value, p.Deadline = make([]byte, 100), time.Now().Add(time.Minute)
		owner.Put(p, func(r coord.PutResult, err error) {
			version = r.Version
			done <- err
		})
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		return version
	}
	var last crdt.Dot
	for began := time.Now(); time.Since(began) < time.Second; { // until new acceptors take the ballots of now
		last = put(coord.Put{Key: []byte("k0"), Level: quorum.LocalSerial})
	}
	var plain, serial, plains, serials time.Duration
	n := 0
	for b.Loop() {
		// In blocks: what one write leaves to be synced the next one waits for.
		if n++; n/32%2 == 0 {
			began := time.Now()
			put(coord.Put{Key: []byte("k1"), Level: quorum.LocalQuorum, Overwrite: true})
			plain, plains = plain+time.Since(began), plains+1
		} else {
			began := time.Now()
			last = put(coord.Put{Key: []byte("k0"), Level: quorum.LocalSerial, Condition: ifVersion(last)})
			serial, serials = serial+time.Since(began), serials+1
		}
	}
	if plains == 0 || serials == 0 {
		return // the first rounds of the tool
	}
	each, decided := plain/plains, serial/serials
	b.ReportMetric(float64(each.Microseconds()), "plain-us")
	b.ReportMetric(float64(decided.Microseconds()), "serial-us")
	b.ReportMetric(float64(decided)/float64(each), "serial/plain")
}
