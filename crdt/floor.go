package crdt

import (
	"slices"

	"github.com/atolldb/atoll/crdt/hlc"
)

// The floor of a partition is a stamp that all owners of all regions have
// agreed on and durably raised: nothing at or below it is minted any more, and
// every owner was shown to hold the same dead records at or below it. These
// are the rules that follow.

// collectStamp is the stamp that counts for collecting v: an expired version
// is collected by its expiry, which is later than its write.
func collectStamp(v *Version) hlc.Stamp {
	if v.Dead || v.Expiry <= 0 {
		return v.Stamp
	}
	return max(v.Stamp, hlc.FromMillis(v.Expiry))
}

// Collectible reports whether r is absent for the purposes of a floor: present,
// with every version dead and at or below it.
func Collectible(r Record, floor hlc.Stamp) bool {
	if len(r.Versions) == 0 {
		return false
	}
	ms := floor.Millis()
	for i := range r.Versions {
		v := &r.Versions[i]
		if !v.DeadAt(ms) || collectStamp(v) > floor {
			return false
		}
	}
	return true
}

// CollectibleAt returns the lowest floor at which r is absent once all its
// versions are dead.
func CollectibleAt(r Record) (floor hlc.Stamp) {
	for i := range r.Versions {
		floor = max(floor, collectStamp(&r.Versions[i]))
	}
	return floor
}

// Late returns the dots of in that the late-message rule keeps back at an
// owner that holds local: written at or below the floor and unknown to the
// local record (what it covers, it knows). They may be applied only after another current owner has
// confirmed that it holds them; see Without.
func Late(in, local Record, floor hlc.Stamp) []Dot {
	var late []Dot
	for i := range in.Versions {
		v := &in.Versions[i]
		if v.Stamp <= floor && !local.Covers(v.Dot) {
			late = append(late, v.Dot)
		}
	}
	return late
}

// LateVouched is Late for a message that a current owner read from its store
// at a floor not below the receiver's. Such a sender is believed in what the
// receiver never had: it is new, or behind. But a dot that the receiver's clock
// has and its record has not was superseded and collected here, unless a disk
// lost it: the sender's disk may have brought it back, so another owner has to
// confirm it.
func LateVouched(in, local Record, clock *Clock, floor hlc.Stamp) []Dot {
	return slices.DeleteFunc(Late(in, local, floor), func(d Dot) bool { return !clock.Contains(d) })
}

// Without returns r less the versions named by dots.
func Without(r Record, dots []Dot) Record {
	var kept []Version
	for i := range r.Versions {
		drop := false
		for _, d := range dots {
			drop = drop || r.Versions[i].Dot == d
		}
		if !drop {
			kept = append(kept, r.Versions[i])
		}
	}
	return Record{Versions: kept}
}
