package sessiontest

import (
	"testing"

	"github.com/atolldb/atoll/crdt"
)

func dot(n uint64) crdt.Dot { return crdt.Dot{Actor: crdt.Actor(64*n + 1), N: n} }

func wrote(s string, n uint64) Op { return Op{Session: s, Key: "k", Wrote: dot(n)} }

func read(s string, shown ...uint64) Op {
	op := Op{Session: s, Key: "k"}
	for _, n := range shown {
		op.Shown = append(op.Shown, dot(n))
		op.Seen = op.Seen.With(dot(n))
	}
	return op
}

func TestCheck(t *testing.T) {
	replaced := read("a", 2)
	replaced.Seen = replaced.Seen.With(dot(1))
	for name, c := range map[string]struct {
		ops  []Op
		want []Promise
	}{
		"kept":                           {[]Op{wrote("a", 1), read("a", 1), wrote("a", 2), read("b", 1, 2), read("a", 1, 2)}, nil},
		"replaced":                       {[]Op{wrote("a", 1), replaced}, nil},
		"another session's":              {[]Op{wrote("a", 1), read("b"), read("", 2)}, nil},
		"another key":                    {[]Op{wrote("a", 1), {Session: "a", Key: "other"}}, nil},
		"own write missing":              {[]Op{wrote("a", 1), read("a", 2)}, []Promise{ReadYourWrites}},
		"own delete missing":             {[]Op{read("a", 1), wrote("a", 2), read("a", 1)}, []Promise{ReadYourWrites}},
		"read missing":                   {[]Op{read("a", 1, 2), read("a", 2)}, []Promise{MonotonicReads}},
		"absent after":                   {[]Op{read("a", 1), read("a")}, []Promise{MonotonicReads}},
		"second write first":             {[]Op{wrote("a", 1), wrote("a", 2), read("", 2)}, []Promise{MonotonicWrites}},
		"what it answers is not there":   {[]Op{read("a", 1), wrote("a", 2), read("b", 2)}, []Promise{WritesFollowReads}},
		"a read before the write counts": {[]Op{read("b", 2), read("a", 1), wrote("a", 2)}, []Promise{WritesFollowReads}},
	} {
		t.Run(name, func(t *testing.T) {
			got := Check(c.ops)
			if len(got) != len(c.want) {
				t.Fatalf("found %v, want %v", got, c.want)
			}
			for i := range got {
				if got[i].Promise != c.want[i] {
					t.Errorf("found %v, want %v", got[i], c.want[i])
				}
			}
		})
	}
}
