package coord_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/quorum/leveltest"
)

// TestSerialMatrix is TestLevelMatrix for the levels by consensus: what is decided
// needs a majority of the owners in the region that decides, and a way to it. The
// table is that of docs/consistency.md; reads and writes are the same.
func TestSerialMatrix(t *testing.T) {
	rows := []struct {
		name, bucket string
		level        quorum.Level
		refused      []leveltest.Situation
	}{
		{"local-serial", "default", quorum.LocalSerial, []leveltest.Situation{leveltest.TwoDown}},
		{"serial, at home", "homed", quorum.Serial, []leveltest.Situation{leveltest.TwoDown}},
		{
			"serial, home in the other region", "away", quorum.Serial,
			[]leveltest.Situation{leveltest.TwoDownThere, leveltest.RegionDown, leveltest.CutUnnoticed, leveltest.Cut},
		},
	}
	head := []string{"level"}
	table := make([][]string, len(rows))
	for _, s := range situations {
		head = append(head, string(s.Situation))
		synctest.Test(t, func(t *testing.T) {
			all := newRegions(t, 3, 3)
			here := all[0].owners("default", "any")[0]
			s.arrange(all)
			for i, row := range rows {
				if len(table[i]) == 0 {
					table[i] = []string{row.name}
				}
				want := leveltest.OK
				for _, r := range row.refused {
					if r == s.Situation {
						want = leveltest.Refused
					}
				}
				p := leveled("any", "v", row.level)
				p.Bucket = row.bucket
				began := time.Now()
				_, err := here.put(t, p)
				if got := told(t, true, err, time.Since(began)); got != want {
					t.Errorf("%s: a write at %s: %v, want %v", s.Situation, row.name, got, want)
				}
				g := coord.Get{Bucket: row.bucket, Key: []byte("any"), Level: row.level, Deadline: time.Now().Add(patience)}
				began = time.Now()
				_, err = here.get(t, g)
				if got := told(t, false, err, time.Since(began)); got != want {
					t.Errorf("%s: a read at %s: %v, want %v", s.Situation, row.name, got, want)
				}
				table[i] = append(table[i], want.Cell(true))
			}
		})
	}
	inDocument(t, "serial under faults", markdown(append([][]string{head}, table...)))
}
