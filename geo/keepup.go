package geo

import "time"

// Keepup measures how fast a region writes, by how many of its dots are known at
// one time and another, so that who catches up with it knows what is too slow. It is
// pure. The zero value is ready.
//
// What is known after a cut comes all at once, and was written over the whole of it:
// a growth counts for the time since the last one. While somebody is behind, the
// highest rate counts, which is that at which the backlog came about.
type Keepup struct {
	at    time.Time // of the last growth
	dots  uint64    // then
	rate  float64   // dots a second, in the last growth
	most  float64   // the highest since somebody is behind
	parts int
}

// Saw takes how many dots are known now, in how many partitions, and whether
// somebody is behind. What was measured in another number of partitions tells
// nothing of the growth.
func (k *Keepup) Saw(now time.Time, dots uint64, parts int, behind bool) {
	switch span := now.Sub(k.at); {
	case k.at.IsZero() || parts != k.parts || dots < k.dots:
		k.at, k.dots, k.parts = now, dots, parts
	case dots > k.dots && span > 0:
		k.rate = float64(dots-k.dots) / span.Seconds()
		k.at, k.dots = now, dots
	}
	if !behind {
		k.most = 0
	}
	k.most = max(k.most, k.rate)
}

// Rate is the highest that was seen since somebody is behind, else the present one,
// in dots a second.
func (k *Keepup) Rate() float64 { return k.most }
