package wire_test

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/cas"
	"github.com/atolldb/atoll/node/wire"
)

func drawProposal(t *rapid.T) cas.Proposal {
	p := cas.Proposal{Ballot: cas.Ballot(rapid.Uint64Range(1, 1<<60).Draw(t, "ballot"))}
	d := crdt.Dot{Actor: crdt.BallotActor(3, 0), N: rapid.Uint64Range(1, uint64(p.Ballot)).Draw(t, "n")}
	p.Record.Versions = []crdt.Version{{Dot: d, Value: drawBytes.Draw(t, "value")}}
	if rapid.Bool().Draw(t, "write") {
		p.Dot = d
		if rapid.Bool().Draw(t, "named") {
			p.ID = drawID(t)
		}
	}
	return p
}

func drawID(t *rapid.T) crdt.RequestID {
	return crdt.MakeRequestID(rapid.Int64Range(1, 1<<40).Draw(t, "made"), [10]byte{rapid.Byte().Draw(t, "chance")})
}

func drawSerial(t *rapid.T) wire.Serial {
	m := wire.Serial{Key: rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "key")}
	c := &m.Message
	c.Verb = cas.Verb(rapid.IntRange(1, 3).Draw(t, "verb"))
	c.Decided = cas.Ballot(rapid.Uint64Range(1, 1<<60).Draw(t, "decided"))
	if c.Verb != cas.Commit {
		m.Home = drawEpoch.Draw(t, "home")
	}
	switch c.Verb {
	case cas.Prepare:
		if rapid.Bool().Draw(t, "asks") {
			c.Proposal.ID = drawID(t)
		}
		c.Ballot = cas.Ballot(rapid.Uint64Range(1, 1<<60).Draw(t, "ballot"))
	case cas.Accept:
		c.Proposal, c.Next = drawProposal(t), cas.Ballot(rapid.Uint64Range(1, 1<<60).Draw(t, "next"))
		c.Unprepared = rapid.Bool().Draw(t, "unprepared")
	}
	for range rapid.IntRange(0, 2).Draw(t, "events") {
		c.Events = append(c.Events, crdt.Dot{Actor: crdt.MakeActor(rapid.Uint32Range(1, 99).Draw(t, "seq"), 1), N: rapid.Uint64Range(1, 99).Draw(t, "n")})
	}
	return m
}

func TestSerialRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawSerial(t)
		b := wire.AppendSerial(nil, &m)
		got, err := wire.DecodeSerial(b)
		if err != nil || !bytes.Equal(wire.AppendSerial(nil, &got), b) {
			t.Fatalf("%+v: %+v, %v", m, got, err)
		}
		if _, err := wire.DecodeSerial(b[:len(b)-1]); !errors.Is(err, wire.ErrMalformed) {
			t.Fatalf("cut short: %v", err)
		}
		p := drawProposal(t)
		a := cas.Answer{Verdict: cas.Verdict(rapid.IntRange(1, 4).Draw(t, "verdict")), Promised: 9, Committed: 3, Accepted: p, Record: p.Record}
		if rapid.Bool().Draw(t, "carried") {
			a.Carried = cas.Carried{Version: p.Record.Versions[0].Dot, Event: crdt.Dot{Actor: 7, N: 8}, Stamp: 9, Doubt: rapid.Bool().Draw(t, "doubt"), Ended: rapid.Bool().Draw(t, "ended")}
		}
		a.Unsure = rapid.Bool().Draw(t, "unsure")
		hash := hashring.KeyHash(m.Key)
		for _, shows := range []bool{true, false} {
			b := wire.AppendSerialAnswer(nil, hash, &a, shows)
			got, err := wire.DecodeSerialAnswer(hash, b)
			if err != nil || !bytes.Equal(wire.AppendSerialAnswer(nil, hash, &got, shows), b) {
				t.Fatalf("%+v: %+v, %v", a, got, err)
			}
			if _, err := wire.DecodeSerialAnswer(hash+1, b); shows && !errors.Is(err, wire.ErrMalformed) {
				t.Fatalf("another key's: %v", err)
			}
		}
		page := wire.SerialPage{More: true, States: []wire.SerialState{{Key: m.Key, State: []byte("s")}}, Min: 1 << 40}
		back, err := wire.DecodeSerialPage(wire.AppendSerialPage(nil, &page))
		if err != nil || !back.More || len(back.States) != 1 || !bytes.Equal(back.States[0].Key, m.Key) {
			t.Fatalf("%+v: %+v, %v", page, back, err)
		}
	})
}

func FuzzSerial(f *testing.F) {
	for i := range 20 {
		m := rapid.Custom(drawSerial).Example(i)
		f.Add(wire.AppendSerial(nil, &m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := wire.DecodeSerial(b); err == nil {
			again, err := wire.DecodeSerial(wire.AppendSerial(nil, &m))
			if err != nil || !bytes.Equal(wire.AppendSerial(nil, &again), wire.AppendSerial(nil, &m)) {
				t.Fatalf("%+v: %+v, %v", m, again, err)
			}
		}
		if a, err := wire.DecodeSerialAnswer(77, b); err == nil {
			if _, err := wire.DecodeSerialAnswer(77, wire.AppendSerialAnswer(nil, 77, &a, true)); err != nil {
				t.Fatalf("%+v: %v", a, err)
			}
		}
		if p, err := wire.DecodeSerialPage(b); err == nil {
			if _, err := wire.DecodeSerialPage(wire.AppendSerialPage(nil, &p)); err != nil {
				t.Fatalf("%+v: %v", p, err)
			}
		}
	})
}
