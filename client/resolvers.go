package client

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// LastWriterWins keeps the sibling with the latest stamp (then actor, then
// number), as a bucket of kind lww does. If that is a delete, it deletes. What
// the others wrote is lost.
func LastWriterWins() Resolver {
	return func(_ context.Context, _ string, siblings []Sibling) (Resolution, error) {
		return Keep(latest(siblings)), nil
	}
}

func latest(siblings []Sibling) int {
	best := 0
	for i := range siblings {
		if siblings[i].later(&siblings[best]) {
			best = i
		}
	}
	return best
}

// RegionPriority keeps what the first of regions wrote; of several from the
// same region, and of those from regions that are not named, which come last,
// the latest.
func RegionPriority(regions ...string) Resolver {
	rank := make(map[string]int, len(regions))
	for i, r := range regions {
		if _, ok := rank[r]; !ok {
			rank[r] = i
		}
	}
	of := func(s *Sibling) int {
		if n, ok := rank[s.Region]; ok {
			return n
		}
		return len(regions)
	}
	return func(_ context.Context, _ string, siblings []Sibling) (Resolution, error) {
		best := 0
		for i := range siblings {
			a, b := &siblings[i], &siblings[best]
			if of(a) < of(b) || (of(a) == of(b) && a.later(b)) {
				best = i
			}
		}
		return Keep(best), nil
	}
}

// MaxInt keeps the largest decimal integer of 64 bits with a sign, as
// strconv.ParseInt reads it, white space around it ignored. Of different
// writings of the same number it keeps the shortest, then the bytewise
// smallest. Concurrent deletes are ignored. A value that is no such number
// leaves the siblings.
func MaxInt() Resolver {
	return func(_ context.Context, _ string, siblings []Sibling) (Resolution, error) {
		best, highest := -1, int64(0)
		for i, s := range siblings {
			if s.Deleted {
				continue
			}
			n, err := strconv.ParseInt(string(bytes.TrimSpace(s.Value)), 10, 64)
			if err != nil {
				return Leave(), fmt.Errorf("sibling %d: %w", i, strconv.ErrSyntax)
			}
			if best < 0 || n > highest || (n == highest && shorter(s.Value, siblings[best].Value)) {
				best, highest = i, n
			}
		}
		if best < 0 {
			return DeleteIt(), nil
		}
		return Keep(best), nil
	}
}

func shorter(a, b []byte) bool {
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	return bytes.Compare(a, b) < 0
}

// SetUnionLines reads each value as a set of lines and merges them to the
// union: lines in bytewise order, each once, joined by "\n", with no "\n" at
// the end. Lines end at "\n"; empty ones are dropped; nothing is trimmed. An
// element that only one writer removed comes back, for a set without
// tombstones cannot know. Concurrent deletes are ignored for the same reason.
func SetUnionLines() Resolver {
	return func(_ context.Context, _ string, siblings []Sibling) (Resolution, error) {
		var all []string
		for _, s := range siblings {
			if s.Deleted {
				continue
			}
			for line := range strings.SplitSeq(string(s.Value), "\n") {
				if line != "" {
					all = append(all, line)
				}
			}
		}
		slices.Sort(all)
		return Merged([]byte(strings.Join(slices.Compact(all), "\n"))), nil
	}
}
