package hotkey

import (
	"cmp"
	"slices"
)

// Entry is a key and its requests a second. Each rate may be too high by Error
// at most; one that is too small to be tracked is 0.
type Entry struct {
	Bucket               string
	Key                  []byte
	Reads, Writes, Error float64
	// Share of all requests: 0..1.
	Share float64
}

// Rate of reads and writes together.
func (e *Entry) Rate() float64 { return e.Reads + e.Writes }

// sure is the part of the rate that is there for certain.
func (e *Entry) sure() float64 { return max(e.Rate()-e.Error, 0) }

// Report is what one node, or several together, saw.
type Report struct {
	// Entries, the hottest first: by what is certain of their rates.
	Entries []Entry
	// Reads and Writes a second of all keys.
	Reads, Writes float64
	// Floor is the rate that a key which is not listed may have at most.
	Floor float64
}

// add puts what sketches of reads, or of writes, say into the report.
func (r *Report) add(counts []Counts, writes bool, index map[string]int) {
	total, floor := 0.0, 0.0
	for _, c := range counts {
		total += c.Total
		floor = max(floor, c.Floor) // a key belongs to one of them
		for _, k := range c.Keys {
			e := r.entry(index, k.Bucket, k.Key)
			if writes {
				e.Writes += k.Rate
			} else {
				e.Reads += k.Rate
			}
			e.Error += k.Error
		}
	}
	if writes {
		r.Writes = total
	} else {
		r.Reads = total
	}
	r.Floor += floor
}

// entry finds or makes a key's. The pointer is valid until the next call.
func (r *Report) entry(index map[string]int, bucket string, key []byte) *Entry {
	id := bucket + "\x00" + string(key)
	i, ok := index[id]
	if !ok {
		i = len(r.Entries)
		index[id] = i
		r.Entries = append(r.Entries, Entry{Bucket: bucket, Key: key})
	}
	return &r.Entries[i]
}

// cut orders the entries, keeps n, and works out the shares.
func (r *Report) cut(n int) {
	slices.SortFunc(r.Entries, func(a, b Entry) int {
		return cmp.Or(
			cmp.Compare(b.sure(), a.sure()), cmp.Compare(b.Rate(), a.Rate()),
			cmp.Compare(a.Bucket, b.Bucket), slices.Compare(a.Key, b.Key),
		)
	})
	if len(r.Entries) > n {
		for i := range r.Entries[n:] {
			r.Floor = max(r.Floor, r.Entries[n+i].Rate())
		}
		r.Entries = slices.Clip(r.Entries[:n])
	}
	for i := range r.Entries {
		r.Entries[i].Share = 0
		if all := r.Reads + r.Writes; all > 0 {
			r.Entries[i].Share = min(r.Entries[i].Rate()/all, 1)
		}
	}
}

// Collect makes the report of one node: its n hottest keys by the sketches of
// reads and of writes. A key is counted by one sketch of a kind only.
func Collect(n int, reads, writes []Counts) Report {
	var r Report
	index := map[string]int{}
	r.add(reads, false, index)
	r.add(writes, true, index)
	r.cut(n)
	return r
}

// Merge adds up what several nodes saw, and keeps the n hottest keys. A key
// that a node does not list may have that node's floor there; so Floor grows
// with the number of nodes.
func Merge(n int, reports ...Report) Report {
	var out Report
	index := map[string]int{}
	for i := range reports {
		r := &reports[i]
		out.Reads += r.Reads
		out.Writes += r.Writes
		out.Floor += r.Floor
		for _, e := range r.Entries {
			to := out.entry(index, e.Bucket, e.Key)
			to.Reads += e.Reads
			to.Writes += e.Writes
			to.Error += e.Error
		}
	}
	out.cut(n)
	return out
}
