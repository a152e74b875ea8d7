package cas

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
)

func drawRecord(t *rapid.T) crdt.Record {
	var r crdt.Record
	for i := range rapid.IntRange(0, 3).Draw(t, "versions") {
		a := crdt.MakeActor(uint32(i+1), 1)
		if rapid.Bool().Draw(t, "ballot") {
			a = crdt.BallotActor(uint8(i+1), 0)
		}
		v := crdt.Version{
			Dot:   crdt.Dot{Actor: a, N: rapid.Uint64Range(1, 1<<40).Draw(t, "n")},
			Stamp: hlc.Stamp(rapid.Uint64().Draw(t, "stamp")), Value: rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(t, "value"),
		}
		r = crdt.Join(r, crdt.Record{Versions: []crdt.Version{v}})
	}
	return r
}

func drawState(t *rapid.T) State {
	s := State{Committed: Ballot(rapid.Uint64Range(0, 1<<50).Draw(t, "committed"))}
	s.Promised = s.Committed + Ballot(rapid.Uint64Range(0, 1<<50).Draw(t, "promised"))
	if s.Promised > s.Committed && rapid.Bool().Draw(t, "pending") {
		b := s.Promised - Ballot(rapid.Uint64Range(0, uint64(s.Promised-s.Committed-1)).Draw(t, "accepted"))
		s.Accepted = Proposal{Ballot: b, Record: drawRecord(t)}
		if rapid.Bool().Draw(t, "value") {
			s.Accepted.Dot = crdt.Dot{Actor: crdt.BallotActor(3, 2), N: rapid.Uint64Range(1, uint64(b)).Draw(t, "dot")}
			if rapid.Bool().Draw(t, "named") {
				s.Accepted.ID = crdt.MakeRequestID(rapid.Int64Range(1, 1<<40).Draw(t, "made"), [10]byte{1})
			}
		}
	}
	return s
}

func TestStateCodec(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, hash := drawState(t), rapid.Uint64().Draw(t, "hash")
		b := AppendState(nil, hash, s)
		got, err := DecodeState(hash, b)
		if err != nil {
			t.Fatal(err)
		}
		if again := AppendState(nil, hash, got); !bytes.Equal(again, b) {
			t.Fatalf("%x, then %x", b, again)
		}
		if _, err := DecodeState(hash+1, b); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("another key's: %v", err)
		}
		i := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		b[i] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
		if _, err := DecodeState(hash, b); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("flipped: %v", err)
		}
	})
}

func FuzzDecodeState(f *testing.F) {
	const hash = 77
	r := crdt.Record{Versions: []crdt.Version{{Dot: crdt.Dot{Actor: crdt.BallotActor(1, 0), N: 9}, Value: []byte("v")}}}
	f.Add(AppendState(nil, hash, State{Promised: 12, Committed: 4, Accepted: Proposal{Ballot: 10, Dot: r.Versions[0].Dot, Record: r}}))
	f.Add(AppendState(nil, hash, State{Promised: 12, Accepted: Proposal{Ballot: 10}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4 { // let it past the checksum
			b = append([]byte(nil), b[:len(b)-4]...)
			sum := checksum(hash, b)
			b = append(b, byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum))
		}
		s, err := DecodeState(hash, b)
		if err != nil {
			return
		}
		again := AppendState(nil, hash, s)
		if b[0] == stateWithoutID { // it is written in the form of now
			if same, err := DecodeState(hash, again); err != nil || !same.Same(s) {
				t.Fatalf("%x reads as another state when it is written again as %x: %v", b, again, err)
			}
			return
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("not canonical: %x, then %x", b, again)
		}
	})
}

// What an acceptor promised and committed only rises, a proposal that it held
// is never lost but to a higher one or a commit, and a merge is at least both.
func TestAcceptorLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawState(t)
		b := Ballot(rapid.Uint64Range(1, 1<<51).Draw(t, "ballot"))
		min := Ballot(rapid.Uint64Range(0, 1<<51).Draw(t, "min"))
		p, v := s.Prepare(b, min)
		if v == OK && (p.Promised != b || b <= s.Promised || b < min) || v != OK && p.Promised != s.Promised {
			t.Fatalf("prepare %d: %+v, then %+v (%d)", b, s, p, v)
		}
		m := &Message{Verb: Accept, Proposal: Proposal{Ballot: b}, Next: b + 5}
		a, v := s.Accept(m, crdt.Record{}, min)
		switch {
		case a.Promised < s.Promised || a.Committed < s.Committed:
			t.Fatalf("went back: %+v, then %+v", s, a)
		case v == OK && s.Accepted.Ballot != b && (b < s.Promised || b < min || a.Promised < b+5 || a.Accepted.Ballot != b):
			t.Fatalf("accept %d: %+v, then %+v", b, s, a)
		case v != OK && a.Accepted.Ballot != s.Accepted.Ballot:
			t.Fatalf("refused, and changed: %+v, then %+v", s, a)
		}
		o := drawState(t)
		x := s.Merge(o)
		if x.Promised < max(s.Promised, o.Promised) || x.Committed < max(s.Committed, o.Committed) ||
			x.Pending() && x.Accepted.Ballot <= x.Committed || x.Accepted.Ballot < o.Accepted.Ballot && o.Accepted.Ballot > x.Committed {
			t.Fatalf("%+v and %+v merge to %+v", s, o, x)
		}
		c, took, v := s.Commit(b)
		if (v == Missed) != (b > s.Committed && s.Accepted.Ballot != b) || took != nil && c.Committed != b {
			t.Fatalf("commit %d: %+v, then %+v (%d)", b, s, c, v)
		}
	})
}

func TestBallotNext(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := Ballot(rapid.Uint64Range(0, 1<<58).Draw(t, "ballot"))
		now, id := rapid.Int64Range(0, 1<<41).Draw(t, "now"), rapid.Uint16().Draw(t, "id")
		n := b.Next(now, id)
		if n <= b || uint16(n) != id || n.Millis() < now || n.Millis() > max(now, b.Millis()+1) {
			t.Fatalf("%x.Next(%d, %d) = %x", b, now, id, n)
		}
	})
}
