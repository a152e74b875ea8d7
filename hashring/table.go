package hashring

import (
	"iter"

	"github.com/cespare/xxhash/v2"
)

// Member is a node as the planner sees it.
type Member struct {
	ID     string
	Rack   string
	Weight int // relative share of partitions, >= 1; 0 means 1
}

// Table maps each partition to its owners, the primary first. It is immutable.
type Table struct {
	rows [][]string
}

// MakeTable wraps rows, one per partition; it keeps them.
func MakeTable(rows [][]string) Table { return Table{rows: rows} }

// Partitions is the number of partitions, a power of two; 0 for the zero Table.
func (t Table) Partitions() int { return len(t.rows) }

// Owners returns the owners of p, the primary first. The slice is shared.
func (t Table) Owners(p Partition) []string { return t.rows[p] }

// All yields every partition with its owners, in order. The slices are shared.
func (t Table) All() iter.Seq2[Partition, []string] {
	return func(yield func(Partition, []string) bool) {
		for p, owners := range t.rows {
			if !yield(Partition(p), owners) {
				return
			}
		}
	}
}

// Holding is how much of a table one node has.
type Holding struct {
	Owned   int // partitions it owns, as primary or not
	Primary int // partitions whose first owner it is
}

// Holdings counts what each owner in the table holds.
func (t Table) Holdings() map[string]Holding {
	held := make(map[string]Holding)
	for _, owners := range t.rows {
		for i, id := range owners {
			h := held[id]
			h.Owned++
			if i == 0 {
				h.Primary++
			}
			held[id] = h
		}
	}
	return held
}

// Copies is the number of owned slots of the whole table.
func (t Table) Copies() int {
	n := 0
	for _, owners := range t.rows {
		n += len(owners)
	}
	return n
}

// Fingerprint is a hash of the whole table, the order of owners included:
// equal tables have equal fingerprints on every machine. It tells tables
// apart in logs and checks; it is no protection against forgery.
func (t Table) Fingerprint() uint64 {
	d := xxhash.New()
	var buf []byte
	for _, owners := range t.rows {
		buf = appendCount(buf[:0], len(owners))
		for _, id := range owners {
			buf = appendCount(buf, len(id))
			buf = append(buf, id...)
		}
		d.Write(buf)
	}
	return d.Sum64()
}

// appendCount writes n as four bytes, so that no two tables write the same.
func appendCount(buf []byte, n int) []byte {
	return append(buf, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
}
