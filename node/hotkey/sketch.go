// Package hotkey finds the keys that are asked for most, in bounded memory: a
// sketch that counts a stream of keys over a window that fades, and reports of
// several sketches that can be merged. It does not decide what is to be done
// about a hot key, and it knows neither time nor threads: the callers say when,
// and one thread at a time uses a sketch.
//
// The algorithm is Space-Saving (Metwally, Agrawal, El Abbadi, "Efficient
// computation of frequent and top-k elements in data streams", ICDT 2005) over
// weights that decay forward (Cormode, Shkapenyuk, Srivastava, Xu, "Forward
// decay", ICDE 2009): a request weighs e^(t/window), and counts are divided by
// e^(now/window) when they are read, so that nothing has to be aged and the
// bounds of Space-Saving hold for the faded counts as they are.
//
// Invariants, for a sketch of m keys that has seen the faded weight W:
//
//	H1  A key's count is never too low, and too high by its error at most,
//	    which is W/m at most.
//	H2  A key with more than W/m is in the sketch.
//	H3  Memory is bounded by m keys, whatever comes.
package hotkey

import (
	"bytes"
	"math"

	"github.com/cespare/xxhash/v2"
)

// Window is the time constant of the fading, in milliseconds: what happened
// that long ago counts 1/e. A key whose rate changes shows two thirds of the
// change after one window.
const Window = 10_000

// rescaleAfter is how many windows weights may grow before they are brought
// back to 1: far from overflow (e^709), and rarely.
const rescaleAfter = 64

// Sketch counts keys. Make it with NewSketch.
type Sketch struct {
	slots []slot
	used  int
	// heap orders the used slots, the smallest count first.
	heap []int32
	// table finds a slot by its hash: open addressing with linear probing, a
	// power of two long and a quarter full at most; 0 is free, else the slot's
	// index and 1.
	table []int32
	mask  uint64

	born   int64 // time of the first request
	last   int64 // time of the newest request
	zero   int64 // when a request weighs 1
	weight float64
	total  float64
}

type slot struct {
	hash  uint64
	count float64
	err   float64
	at    int32 // in the heap
	name  int   // bytes of the bucket's name at the beginning of key
	key   []byte
}

// NewSketch returns a sketch of m keys, 1..2^20. It takes some 120 bytes for
// each, and the keys.
func NewSketch(m int) *Sketch {
	m = max(1, min(m, 1<<20))
	size := 4
	for size < 4*m {
		size *= 2
	}
	return &Sketch{
		slots: make([]slot, m), heap: make([]int32, 0, m),
		table: make([]int32, size), mask: uint64(size - 1),
		weight: 1,
	}
}

// Hash identifies a key. Keys with equal hashes are one to a sketch, which
// happens to one pair in 2^64.
func Hash(bucket string, key []byte) uint64 {
	// An odd constant (2^64 over the golden ratio) keeps bucket and key apart.
	return xxhash.Sum64(key) ^ xxhash.Sum64String(bucket)*0x9e3779b97f4a7c15
}

// Add counts n requests for a key at a time in milliseconds since any moment.
// Times should not go back; one that does counts as the newest so far. key is
// copied if it is kept.
func (s *Sketch) Add(now int64, hash uint64, bucket string, key []byte, n float64) {
	if now != s.last || s.total == 0 {
		s.advance(now)
	}
	w := n * s.weight
	s.total += w
	if i := s.find(hash); i >= 0 {
		sl := &s.slots[i]
		sl.count += w
		s.sink(sl.at)
		return
	}
	if s.used < len(s.slots) {
		i := int32(s.used)
		s.used++
		s.slots[i].count, s.slots[i].err = w, 0
		s.slots[i].set(hash, bucket, key)
		s.slots[i].at = int32(len(s.heap))
		s.heap = append(s.heap, i)
		s.rise(s.slots[i].at)
		s.insert(hash, i)
		return
	}
	// The newcomer takes the place of the smallest, and may have had all of
	// its count.
	i := s.heap[0]
	sl := &s.slots[i]
	s.remove(sl.hash)
	sl.err = sl.count
	sl.count += w
	sl.set(hash, bucket, key)
	s.insert(hash, i)
	s.sink(0)
}

func (sl *slot) set(hash uint64, bucket string, key []byte) {
	sl.hash, sl.name = hash, len(bucket)
	sl.key = append(append(sl.key[:0], bucket...), key...)
}

// advance moves the time on.
func (s *Sketch) advance(now int64) {
	if s.total == 0 && s.used == 0 {
		s.born, s.last, s.zero, s.weight = now, now, now, 1
		return
	}
	if now <= s.last {
		return
	}
	s.last = now
	grown := float64(now-s.zero) / Window
	if grown <= rescaleAfter {
		s.weight = math.Exp(grown)
		return
	}
	by := math.Exp(-grown) // 0 after a long silence: then all is forgotten
	for i := range s.slots[:s.used] {
		s.slots[i].count *= by
		s.slots[i].err *= by
	}
	s.total *= by
	s.zero, s.weight = now, 1
}

func (s *Sketch) find(hash uint64) int32 {
	for at := hash & s.mask; ; at = (at + 1) & s.mask {
		i := s.table[at] - 1
		if i < 0 || s.slots[i].hash == hash {
			return i
		}
	}
}

func (s *Sketch) insert(hash uint64, i int32) {
	at := hash & s.mask
	for s.table[at] != 0 {
		at = (at + 1) & s.mask
	}
	s.table[at] = i + 1
}

// remove takes a hash out of the table and moves up what probing would no
// longer reach (Knuth, TAOCP 3, 6.4, algorithm R).
func (s *Sketch) remove(hash uint64) {
	at := hash & s.mask
	for s.slots[s.table[at]-1].hash != hash {
		at = (at + 1) & s.mask
	}
	for next := at; ; {
		next = (next + 1) & s.mask
		i := s.table[next]
		if i == 0 {
			break
		}
		home := s.slots[i-1].hash & s.mask
		if (next-home)&s.mask >= (next-at)&s.mask {
			s.table[at] = i
			at = next
		}
	}
	s.table[at] = 0
}

func (s *Sketch) sink(at int32) {
	i := s.heap[at]
	count := s.slots[i].count
	for {
		child := 2*at + 1
		if int(child) >= len(s.heap) {
			break
		}
		if r := child + 1; int(r) < len(s.heap) && s.slots[s.heap[r]].count < s.slots[s.heap[child]].count {
			child = r
		}
		c := s.heap[child]
		if s.slots[c].count >= count {
			break
		}
		s.heap[at], s.slots[c].at = c, at
		at = child
	}
	s.heap[at], s.slots[i].at = i, at
}

func (s *Sketch) rise(at int32) {
	i := s.heap[at]
	for at > 0 {
		up := (at - 1) / 2
		p := s.heap[up]
		if s.slots[p].count <= s.slots[i].count {
			break
		}
		s.heap[at], s.slots[p].at = p, at
		at = up
	}
	s.heap[at], s.slots[i].at = i, at
}

// Count is a key of a sketch and its rate a second, which may be too high by
// Error at most and is not too low.
type Count struct {
	Bucket      string
	Key         []byte
	Rate, Error float64
}

// Counts is what a sketch has counted: its keys in no order, the rate of all
// requests, and the floor: what a key that is not listed can have at most.
type Counts struct {
	Keys         []Count
	Total, Floor float64
}

// Counts returns what the sketch holds; it shares nothing with it.
func (s *Sketch) Counts(now int64) Counts {
	if s.used == 0 {
		return Counts{}
	}
	now = max(now, s.last)
	// A steady rate r has the faded count r * window * (1 - e^(-age/window)).
	// Less than a second is too little to speak of a rate.
	age := float64(max(now-s.born, 1000)) / Window
	scale := math.Exp(-float64(now-s.zero)/Window) / (Window / 1000 * (1 - math.Exp(-age)))
	c := Counts{Keys: make([]Count, s.used), Total: s.total * scale}
	for i := range c.Keys {
		sl := &s.slots[i]
		c.Keys[i] = Count{
			Bucket: string(sl.key[:sl.name]), Key: bytes.Clone(sl.key[sl.name:]),
			Rate: sl.count * scale, Error: sl.err * scale,
		}
	}
	if s.used == len(s.slots) {
		c.Floor = s.slots[s.heap[0]].count * scale
	}
	return c
}
