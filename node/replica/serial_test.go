package replica_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/cas"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology/memtopo"
)

func proposal(b cas.Ballot, value string, past crdt.VV) cas.Proposal {
	d := crdt.Dot{Actor: crdt.BallotActor(1, 0), N: uint64(b)}
	return cas.Proposal{Ballot: b, Dot: d, Record: crdt.Record{Versions: []crdt.Version{{Dot: d, Value: []byte(value), Past: past}}}}
}

func accept(p cas.Proposal) cas.Message {
	return cas.Message{Verb: cas.Accept, Proposal: p, Next: p.Ballot + 1<<16}
}

func commit(b cas.Ballot) cas.Message { return cas.Message{Verb: cas.Commit, Decided: b} }

// serial takes steps one behind the other, which share a group where they can.
func (p *place) serial(key string, mint bool, steps ...cas.Message) (out []replica.SerialAnswer, failed error) {
	type outcome struct {
		a   replica.SerialAnswer
		err error
	}
	full := []byte(key)
	done := make(chan outcome, len(steps))
	for _, m := range steps {
		p.Serial(replica.SerialStep{
			Key: full, KeyHash: hashring.KeyHash(full), Message: m, Mint: mint && m.Verb == cas.Commit,
			Done: func(a replica.SerialAnswer, err error) { done <- outcome{a, err} },
		})
	}
	for range steps {
		o := <-done
		out, failed = append(out, o.a), errors.Join(failed, o.err)
	}
	return out, failed
}

// What was accepted and what was promised outlive a crash, and is told of by
// reads until it is known to be decided, also when the next proposal is accepted
// in the group of the commit.
func TestSerialIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t, "n1", memtopo.New(1), memstore.Config{SyncMin: time.Millisecond, SyncMax: time.Millisecond})
		p.start()
		const k = "default\x00k"
		b := cas.At(time.Now().UnixMilli())
		first := proposal(b, "1", nil)
		if out, err := p.serial(k, true, accept(first)); err != nil || out[0].Verdict != cas.OK {
			t.Fatalf("%+v, %v", out, err)
		}
		if !p.SerialPending([]byte(k)) {
			t.Error("accepted, and not pending")
		}
		p.crash(false)
		p.start()
		if !p.SerialPending([]byte(k)) {
			t.Error("not pending after a crash")
		}
		out, err := p.serial(k, true, cas.Message{Verb: cas.Prepare, Ballot: b + 1})
		if err != nil || out[0].Verdict != cas.Outbid || out[0].Accepted.Ballot != b {
			t.Errorf("a promise was forgotten: %+v, %v", out, err)
		}
		second := proposal(b+1<<16, "2", crdt.VV{{Actor: first.Dot.Actor, N: first.Dot.N}})
		out, err = p.serial(k, true, commit(b), accept(second))
		if err != nil || out[0].Event.IsZero() || out[0].Event.Actor.IsBallot() || out[1].Verdict != cas.OK {
			t.Fatalf("%+v, %v", out, err)
		}
		if !p.SerialPending([]byte(k)) {
			t.Error("the commit before it ended what is pending")
		}
		part := p.Partition(hashring.KeyHash([]byte(k)))
		if clock := p.Clock(part); clock.Max(out[0].Event.Actor) != out[0].Event.N || clock.Max(first.Dot.Actor) != 0 {
			t.Errorf("clock of %v", clock.Actors())
		}
		if out, err = p.serial(k, true, commit(second.Ballot)); err != nil || out[0].Event.N == 0 {
			t.Fatalf("%+v, %v", out, err)
		}
		if p.SerialPending([]byte(k)) {
			t.Error("committed, and pending")
		}
		digest, err := p.DigestFromStore(part)
		if err != nil || digest != p.Sum(part).Digest {
			t.Errorf("digest %x kept, %x by the store: %v", p.Sum(part).Digest, digest, err)
		}
		if _, err := p.serial(k, true, accept(proposal(cas.At(time.Now().UnixMilli()+1000), "far", nil))); !errors.Is(err, replica.ErrClockSkew) {
			t.Errorf("a ballot of the future: %v", err)
		}
		next := accept(proposal(cas.At(time.Now().UnixMilli()), "far", nil))
		next.Next = cas.At(time.Now().UnixMilli() + 1000)
		if _, err := p.serial(k, true, next); !errors.Is(err, replica.ErrClockSkew) {
			t.Errorf("a promise of a ballot of the future: %v", err)
		}
		p.crash(false)
	})
}

// Who did not accept a proposal cannot commit it, and says so.
func TestSerialMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t, "n1", memtopo.New(1), memstore.Config{})
		p.start()
		full := []byte("default\x00k")
		done := make(chan error, 1)
		p.Serial(replica.SerialStep{
			Key: full, KeyHash: hashring.KeyHash(full), Message: commit(cas.At(5)),
			Done: func(a replica.SerialAnswer, err error) {
				if a.Verdict != cas.Missed {
					t.Errorf("a commit of what is not here: %+v", a)
				}
				done <- err
			},
		})
		if err := <-done; err != nil {
			t.Error(err)
		}
		p.crash(false)
	})
}
