package collect

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// maxAnswers bounds the requests that are worked on at once: a pass may read a
// whole partition.
const maxAnswers = 8

// Handle serves VerbCollect; it reports whether req was one.
func (c *Collector) Handle(req peer.Request, reply peer.Done) bool {
	if req.Verb != peer.VerbCollect {
		return false
	}
	m, err := wire.DecodeCollect(req.Body)
	if err != nil {
		reply(nil, &peer.Refusal{Code: peer.CodeInvalid, Detail: err.Error()})
		return true
	}
	if c.answers.Add(1) > maxAnswers && m.Kind == wire.CollectPass {
		c.answers.Add(-1)
		reply(nil, &peer.Refusal{Code: peer.CodeOverloaded, Detail: "too many passes at once"})
		return true
	}
	go func() {
		defer c.answers.Add(-1)
		b, err := c.serve(&m)
		reply(b, refuse(err))
	}()
	return true
}

func (c *Collector) serve(m *wire.Collect) ([]byte, error) {
	switch m.Kind {
	case wire.CollectWaiting:
		if c.ledger.Waiting(m.Partition, m.Floor) {
			return []byte{1}, nil
		}
		return []byte{0}, nil
	case wire.CollectSought:
		if int(m.Partition) >= c.deps.Replica.Topology().Table.Partitions() {
			return nil, replica.ErrNotOwner
		}
		c.Sought(m.Partition)
		return nil, nil
	case wire.CollectDoubts:
		ws, err := c.testify(m.Partition, m.Doubts)
		return wire.AppendWords(nil, ws), err
	}
	a, takers, err := c.answer(Ask{
		Round: ID(m.Round), Partition: m.Partition, Pass: Pass(m.Pass),
		Floor: m.Floor, From: m.From, Had: m.Had, Void: m.Void, Closed: m.Closed,
	})
	out := wire.CollectAnswer{
		Actor: a.As.Actor, Boot: a.As.Boot, Completed: a.Completed, Clock: a.Clock, Former: a.Former,
		Settled: a.Settled, Count: a.Count, Digest: a.Digest,
	}
	for _, name := range slices.Sorted(maps.Keys(a.Apart)) {
		out.Apart = append(out.Apart, wire.ListedApart{Bucket: name, Count: a.Apart[name].Count, Digest: a.Apart[name].Digest})
	}
	for _, id := range takers {
		out.Takers = append(out.Takers, string(id))
	}
	return wire.AppendCollectAnswer(nil, &out), err
}

// answer is this owner's part in a pass, and who takes writes of the partition in
// its region. Who is behind answers nothing: what it lacks may be what it lost.
func (c *Collector) answer(q Ask) (Answer, []topology.NodeID, error) {
	p := q.Partition
	if int(p) >= c.deps.Replica.Topology().Table.Partitions() || !c.deps.Replica.Owns(p) {
		return Answer{}, nil, replica.ErrNotOwner
	}
	if q.Pass != Complete && c.deps.Replica.Behind(p) {
		return Answer{}, nil, replica.ErrBehind
	}
	a, err := c.duty.Answer(q)
	if err == nil && q.Pass != Complete && c.deps.Replica.Behind(p) {
		err = replica.ErrBehind // since
	}
	// After the answer: it was given in ignorance of what came later.
	return a, c.deps.Replica.Topology().Takers(p), err
}

func (c *Collector) testify(p hashring.Partition, asked []wire.Doubt) ([]wire.Words, error) {
	doubts := make([]replica.Doubt, len(asked))
	for i, d := range asked {
		doubts[i] = replica.Doubt(d)
	}
	words, err := c.deps.Replica.Testify(p, doubts)
	if err != nil {
		return nil, err
	}
	out := make([]wire.Words, len(words))
	for i, ws := range words {
		out[i].Words = make([]wire.Word, len(ws))
		for j, w := range ws {
			switch {
			case w.Holds:
				out[i].Words[j] = wire.Holds
			case w.Covered != nil:
				out[i].Words[j], out[i].Record = wire.Covers, w.Covered
			case w.Lack > 0:
				out[i].Words[j] = wire.Lacks
			}
		}
	}
	return out, nil
}

// refuse turns an error into what crosses the wire. What may be another thing in
// a moment has a code that says so; see passing.
func refuse(err error) error {
	var no *peer.Refusal
	switch {
	case err == nil || errors.As(err, &no):
		return err
	case errors.Is(err, ErrOtherRound), errors.Is(err, ErrPassed), errors.Is(err, ErrBehindFloor),
		errors.Is(err, ErrLostListed), errors.Is(err, ErrTooMany), errors.Is(err, replica.ErrFloorAhead):
		return &peer.Refusal{Code: peer.CodeInvalid, Detail: err.Error()}
	}
	if errors.Is(err, replica.ErrUndecided) { // it is being decided
		return &peer.Refusal{Code: peer.CodeOverloaded, Detail: err.Error()}
	}
	return replica.Refuse(err)
}

// passing reports whether an owner may answer when it is asked again.
func passing(err error) bool {
	var no *peer.Refusal
	if errors.Is(err, replica.ErrBehind) || errors.Is(err, replica.ErrUndecided) {
		return true
	}
	if !errors.As(err, &no) {
		return errors.Is(err, peer.ErrNotSent) || errors.Is(err, peer.ErrTimeout) || errors.Is(err, peer.ErrLinkLost)
	}
	return no.Code == peer.CodeBehind || no.Code == peer.CodeOverloaded || no.Code == peer.CodeExpired
}

// decodeAnswer undoes serve's encoding.
func decodeAnswer(b []byte, q Ask) (Answer, []topology.NodeID, error) {
	m, err := wire.DecodeCollectAnswer(b)
	if err != nil {
		return Answer{}, nil, fmt.Errorf("answer to %s: %w", q.Pass, err)
	}
	takers := make([]topology.NodeID, len(m.Takers))
	for i, id := range m.Takers {
		takers[i] = topology.NodeID(id)
	}
	var apart map[string]Listed
	for _, l := range m.Apart {
		if apart == nil {
			apart = map[string]Listed{}
		}
		apart[l.Bucket] = Listed{l.Count, l.Digest}
	}
	return Answer{
		Round: q.Round, Pass: q.Pass, As: Incarnation{m.Actor, m.Boot}, Completed: m.Completed, Clock: m.Clock, Former: m.Former,
		Settled: m.Settled, Count: m.Count, Digest: m.Digest, Apart: apart,
	}, takers, nil
}
