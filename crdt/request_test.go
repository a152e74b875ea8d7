package crdt_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
)

func TestRequestID(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ms := rapid.Int64Range(0, 1<<48-1).Draw(t, "ms")
		id := crdt.MakeRequestID(ms, [10]byte(rapid.SliceOfN(rapid.Byte(), 10, 10).Draw(t, "chance")))
		if at, ok := id.MadeAt(); !ok || at != ms {
			t.Fatalf("%v was made at %d, %v, not %d", id, at, ok, ms)
		}
		for _, text := range []string{id.String(), strings.ReplaceAll(id.String(), "-", ""), strings.ToUpper(id.String())} {
			if got, err := crdt.ParseRequestID(text); err != nil || got != id {
				t.Fatalf("%s: %v, %v", text, got, err)
			}
		}
	})
	for _, bad := range []string{"", "00000000-0000-0000-0000-000000000000", "12", "0190163d-8694-739b-aea5-966c26f8ad9", "zz90163d-8694-739b-aea5-966c26f8ad91"} {
		if id, err := crdt.ParseRequestID(bad); err == nil {
			t.Errorf("%q is %v", bad, id)
		}
	}
	// The example of RFC 9562, A.6.
	id, err := crdt.ParseRequestID("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")
	if ms, ok := id.MadeAt(); err != nil || !ok || ms != 0x17f22e279b0 {
		t.Errorf("%v, %d, %v, %v", id, ms, ok, err)
	}
	// A random one (version 4) does not say.
	id, _ = crdt.ParseRequestID("919108f7-52d1-4320-9bac-f847db4148a8")
	if ms, ok := id.MadeAt(); ok {
		t.Errorf("made at %d", ms)
	}
}

// The context of a replayed answer never covers what the writer had not seen, and
// the write unless that was replaced since: then it is that of the request.
func TestAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var rec crdt.Record
		n := uint64(0)
		write := func(seen crdt.VV) crdt.Dot {
			n++
			d := crdt.Dot{Actor: 65, N: n}
			rec = crdt.Write(rec, seen, crdt.Version{Dot: d, Stamp: hlc.Stamp(n), Value: []byte{byte(n)}})
			return d
		}
		some := func(label string) crdt.VV {
			if rapid.Bool().Draw(t, label) {
				return rec.Context().Seen
			}
			return nil
		}
		for range rapid.IntRange(0, 4).Draw(t, "before") {
			write(some("with"))
		}
		ctx := crdt.Context{Seen: some("context")}
		unseen := map[crdt.Dot]bool{}
		for _, v := range rec.Versions {
			unseen[v.Dot] = !ctx.Seen.Covers(v.Dot)
		}
		d := write(ctx.Seen)
		for range rapid.IntRange(0, 4).Draw(t, "after") {
			unseen[write(some("with"))] = true
		}
		again := ctx.Again(rec, d, hlc.Stamp(d.N))
		if replaced := rec.Find(d) == nil; replaced && !again.Seen.Equal(ctx.Seen) || !replaced && !again.Seen.Covers(d) || again.Stamp < hlc.Stamp(d.N) {
			t.Fatalf("%+v of %v, which came with %v, replaced since: %t", again, d, ctx.Seen, replaced)
		}
		for _, v := range rec.Versions {
			if unseen[v.Dot] && again.Seen.Covers(v.Dot) {
				t.Fatalf("%+v covers %v, which the writer of %v had not seen", again, v.Dot, d)
			}
		}
	})
}

// Who overwrites, and asks again when that was replaced, gets a context by which
// all owners end alike, in whichever order they get what: what the overwrite had
// replaced does not come back beside a write that took the overwrite alone for seen.
func TestAgainIsClosed(t *testing.T) {
	dots := []crdt.Dot{{Actor: 65, N: 1}, {Actor: 65, N: 2}, {Actor: 129, N: 1}, {Actor: 193, N: 1}}
	was := crdt.Write(crdt.Record{}, nil, crdt.Version{Dot: dots[0], Stamp: 1})
	overwritten := crdt.Write(was, was.Context().Seen, crdt.Version{Dot: dots[1], Stamp: 2})
	replaced := crdt.Write(overwritten, overwritten.Context().Seen, crdt.Version{Dot: dots[2], Stamp: 3})
	again := crdt.Context{}.Again(replaced, dots[1], 2)
	next := crdt.Write(crdt.Record{}, again.Seen, crdt.Version{Dot: dots[3], Stamp: 4})
	all := []crdt.Record{was, overwritten, replaced, next}
	permute(all, func(order []crdt.Record) {
		var rec crdt.Record
		for _, r := range order {
			rec = crdt.Join(rec, r)
		}
		if len(rec.Versions) != 2 || rec.Find(dots[2]) == nil || rec.Find(dots[3]) == nil {
			t.Errorf("%v comes to %v", order, rec)
		}
		// Nor while what replaced it is away.
		rec = crdt.Record{}
		for _, r := range order {
			if !r.SameDots(replaced) {
				rec = crdt.Join(rec, r)
			}
		}
		if rec.Find(dots[0]) != nil {
			t.Errorf("%v brings back what was overwritten: %v", order, rec)
		}
	})
}

func permute(all []crdt.Record, f func([]crdt.Record)) {
	var at func(int)
	at = func(i int) {
		if i == len(all) {
			f(all)
			return
		}
		for j := i; j < len(all); j++ {
			all[i], all[j] = all[j], all[i]
			at(i + 1)
			all[i], all[j] = all[j], all[i]
		}
	}
	at(0)
}
