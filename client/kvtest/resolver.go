package kvtest

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
)

// resolverCases is how many random sets of siblings CheckResolver tries.
const resolverCases = 500

// CheckResolver tries a resolver on random siblings: two to five of them, whose
// values come from value, sometimes with a concurrent delete. It must decide the
// same each time and in any order, must leave what it is given unchanged, and
// must not change its own result when that comes back among the siblings.
// Otherwise clients in two regions that resolve the same conflict make a new one.
func CheckResolver(t testing.TB, resolve client.Resolver, value func(*rand.Rand) []byte) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range resolverCases {
		siblings := someSiblings(rng, value)
		first, ok := decide(t, resolve, siblings)
		if !ok {
			return
		}
		for range 4 {
			again := clone(siblings)
			rng.Shuffle(len(again), func(i, j int) { again[i], again[j] = again[j], again[i] })
			got, ok := decide(t, resolve, again)
			if !ok {
				return
			}
			if !got.equal(first) {
				t.Errorf("case %d: the resolver decides %v for %v, but %v for the same in another order", n, first, describe(siblings), got)
				return
			}
		}
		if first.verdict != client.VerdictKept && first.verdict != client.VerdictMerged {
			continue
		}
		with := append(clone(siblings), client.Sibling{
			ID: client.VersionID{Actor: 1000, N: 1}, Value: bytes.Clone(first.value), Stamp: 1 << 40, Time: time.UnixMilli(1 << 24), Region: "eu",
		})
		got, ok := decide(t, resolve, with)
		if !ok {
			return
		}
		if !bytes.Equal(got.value, first.value) {
			t.Errorf("case %d: the resolver makes %q of %v, and %q when that is one of the siblings", n, first.value, describe(siblings), got.value)
			return
		}
	}
}

// decision is what a resolver came to.
type decision struct {
	verdict client.Verdict
	value   []byte
}

func (d decision) equal(e decision) bool {
	// Keeping a sibling and merging to the same bytes are one decision.
	has := func(x decision) bool { return x.verdict == client.VerdictKept || x.verdict == client.VerdictMerged }
	return (d.verdict == e.verdict || has(d) && has(e)) && bytes.Equal(d.value, e.value)
}

func decide(t testing.TB, resolve client.Resolver, siblings []client.Sibling) (decision, bool) {
	t.Helper()
	given := clone(siblings)
	r, err := resolve(context.Background(), "key", given)
	if err != nil {
		return decision{verdict: client.VerdictLeft}, true // an error leaves the siblings
	}
	if !slices.EqualFunc(given, siblings, func(a, b client.Sibling) bool { return bytes.Equal(a.Value, b.Value) && a.ID == b.ID }) {
		t.Errorf("the resolver changed the siblings that it was given: %v became %v", describe(siblings), describe(given))
		return decision{}, false
	}
	return decision{r.Verdict(), bytes.Clone(r.Value(given))}, true
}

func someSiblings(rng *rand.Rand, value func(*rand.Rand) []byte) []client.Sibling {
	n := 2 + rng.IntN(4)
	out := make([]client.Sibling, n)
	for i := range out {
		ms := rng.Int64N(1 << 30)
		out[i] = client.Sibling{
			ID:    client.VersionID{Actor: uint32(65 + i), N: 1 + rng.Uint64N(1000)},
			Value: value(rng), Stamp: uint64(ms) << 16, Time: time.UnixMilli(ms),
			Region: []string{"eu", "us", "ap"}[rng.IntN(3)],
		}
	}
	if rng.IntN(4) == 0 {
		last := &out[n-1]
		last.Deleted, last.Value = true, nil
	}
	return out
}

func clone(in []client.Sibling) []client.Sibling {
	out := slices.Clone(in)
	for i := range out {
		out[i].Value = bytes.Clone(out[i].Value)
	}
	return out
}

func describe(siblings []client.Sibling) []string {
	var out []string
	for _, s := range siblings {
		if s.Deleted {
			out = append(out, "(deleted)")
		} else {
			out = append(out, string(s.Value))
		}
	}
	return out
}
