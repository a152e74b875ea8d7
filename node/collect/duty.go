package collect

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/wire"
)

// Floors of a partition at one owner.
type Floors = wire.Floors

// Ledger is the durable state of one owner. Its calls return when what they do
// is durable.
type Ledger interface {
	// Actor that the owner mints with now, 0 for none.
	Actor() crdt.Actor
	// Former are actors that it minted with before, and never will again.
	Former() []crdt.Actor
	Floors(p hashring.Partition) Floors
	// Promise, Raise and Complete lift a floor; a lower one changes nothing.
	Promise(p hashring.Partition, floor hlc.Stamp) error
	Raise(p hashring.Partition, floor hlc.Stamp) error
	Complete(p hashring.Partition, floor hlc.Stamp) error
	// Clock of the partition.
	Clock(p hashring.Partition) *crdt.Clock
	// Waiting reports whether something at or below floor waits here to be sent
	// to another owner: hints, batches for other regions.
	Waiting(p hashring.Partition, floor hlc.Stamp) bool
	// Void marks a clock's dots as delivered, and notes what sessions are to be told
	// of it.
	Void(p hashring.Partition, c *crdt.Clock, losses *session.Losses) error
	// Drop deletes what is collectible at floor.
	Drop(p hashring.Partition, floor hlc.Stamp) error
	// Spend deletes what consensus has kept of keys and needs no more, at a floor that
	// this owner has raised.
	Spend(p hashring.Partition, floor hlc.Stamp) error
	// Dead visits what is collectible at floor. The key is valid during the
	// visit only.
	Dead(p hashring.Partition, floor hlc.Stamp, visit func(key []byte, keyHash uint64, r crdt.Record) bool) error
	// Covers reports whether the stored record of a key covers all of the dots.
	Covers(p hashring.Partition, key []byte, dots []crdt.Dot) (bool, error)
}

var (
	// ErrOtherRound says that the owner has begun another round since, or has
	// started anew.
	ErrOtherRound = errors.New("this owner is not in that round")
	// ErrPassed says that the floor is not above one that the owner has raised.
	ErrPassed = errors.New("the floor is not above the one that was raised")
	// ErrBehindFloor says that all others have completed a floor that this owner
	// has not raised: it has lost that, and has to re-join first.
	ErrBehindFloor = errors.New("this owner's floor is below one that is completed")
	// ErrLostListed says that the owner no longer holds what it listed.
	ErrLostListed = errors.New("what was listed is no longer held")
	// ErrTooMany says that there is more to list than an owner remembers.
	ErrTooMany = errors.New("too many dead records for one round")
)

// MaxListed bounds the records of one list; an owner remembers them from the
// list to the raise, with their keys.
const MaxListed = 1 << 18

// listSeed keys the digests of lists, so that they are not those of records.
const listSeed = 0x6c697374

// Duty is the one who answers, for all partitions of a node.
type Duty struct {
	ledger Ledger
	boot   uint64
	max    int
	// apart tells the buckets that not every region has; nil for none.
	apart func(bucket string) bool

	mu     sync.Mutex
	rounds map[hashring.Partition]*part
}

// part of an owner in the round that it is in: the last one that it promised.
type part struct {
	work   chan struct{} // has an element while one pass is worked on
	round  ID
	floor  hlc.Stamp
	as     Incarnation
	listed []listed // nil before the list
	lists  bool
}

type listed struct {
	key  []byte
	dots []crdt.Dot
}

// NewDuty returns the duty of a node that started now; boot is drawn at random.
func NewDuty(ledger Ledger, boot uint64) *Duty {
	return &Duty{ledger: ledger, boot: boot, max: MaxListed, rounds: map[hashring.Partition]*part{}}
}

// Answer does what is asked and returns the answer; an error is a refusal, and
// the round is off unless it is asked again. It blocks while the ledger works.
func (d *Duty) Answer(q Ask) (Answer, error) {
	if q.Pass == Complete {
		return d.complete(q)
	}
	w, err := d.part(q)
	if err != nil {
		return Answer{}, err
	}
	w.work <- struct{}{}
	defer func() { <-w.work }()
	if !d.current(q.Partition, w) {
		return Answer{}, ErrOtherRound
	}
	a := Answer{Round: q.Round, Pass: q.Pass, As: d.incarnation()}
	if q.Pass != Promise && (w.floor != q.Floor || w.as != a.As) {
		return Answer{}, ErrOtherRound
	}
	switch q.Pass {
	case Promise:
		err = d.promise(q, w, &a)
	case Settle:
		err = d.settle(q, &a)
	case List:
		err = d.list(q, w, &a)
	case Raise:
		err = d.raise(q, w)
	case Confirm:
	default:
		err = fmt.Errorf("unknown %s", q.Pass)
	}
	if err != nil {
		return Answer{}, fmt.Errorf("%s: %w", q.Pass, err)
	}
	return a, nil
}

func (d *Duty) incarnation() Incarnation { return Incarnation{d.ledger.Actor(), d.boot} }

// part is that in q's round. A promise begins it, and ends that in another one.
func (d *Duty) part(q Ask) (*part, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.rounds[q.Partition]
	if w != nil && w.round == q.Round {
		return w, nil
	}
	if q.Pass != Promise {
		return nil, ErrOtherRound
	}
	w = &part{work: make(chan struct{}, 1), round: q.Round, floor: q.Floor, as: d.incarnation()}
	d.rounds[q.Partition] = w
	return w, nil
}

func (d *Duty) current(p hashring.Partition, w *part) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rounds[p] == w
}

func (d *Duty) promise(q Ask, w *part, a *Answer) error {
	if w.floor != q.Floor || w.as != a.As {
		return ErrOtherRound
	}
	have := d.ledger.Floors(q.Partition)
	if have.Raised >= q.Floor {
		return ErrPassed
	}
	if err := d.ledger.Promise(q.Partition, q.Floor); err != nil {
		return err
	}
	// Of after the promise: nothing at or below the floor is minted any more.
	a.Completed, a.Clock, a.Former = have.Completed, d.ledger.Clock(q.Partition), d.ledger.Former()
	return nil
}

func (d *Duty) settle(q Ask, a *Answer) error {
	clock := d.ledger.Clock(q.Partition)
	if q.Had == nil || clock == nil || !clock.Covers(q.Had) || d.ledger.Waiting(q.Partition, q.Floor) {
		return nil
	}
	if q.Void != nil {
		if err := d.ledger.Void(q.Partition, q.Void, q.losses()); err != nil {
			return err
		}
		clock = d.ledger.Clock(q.Partition)
	}
	for _, a := range q.Had.Actors() {
		if clock.Base(a) < q.Had.Max(a) {
			return nil // an owner that is up has them on their way
		}
	}
	a.Settled = true
	return nil
}

// list first drops what was listed in a round that was completed: a disk that
// was rolled back brings it back, and lists would never agree again.
func (d *Duty) list(q Ask, w *part, a *Answer) error {
	if d.ledger.Floors(q.Partition).Raised < q.From {
		return ErrBehindFloor
	}
	if err := d.ledger.Complete(q.Partition, q.From); err != nil {
		return err
	}
	if err := d.ledger.Drop(q.Partition, q.From); err != nil {
		return err
	}
	w.listed, w.lists = w.listed[:0], false
	err := d.ledger.Dead(q.Partition, q.Floor, func(key []byte, keyHash uint64, r crdt.Record) bool {
		l := listed{key: append([]byte(nil), key...)}
		for i := range r.Versions {
			l.dots = append(l.dots, r.Versions[i].Dot)
		}
		w.listed = append(w.listed, l)
		digest := crdt.Digest(listSeed, keyHash, r)
		if name, _, _ := strings.Cut(string(key), "\x00"); d.apart != nil && d.apart(name) {
			if a.Apart == nil {
				a.Apart = map[string]Listed{}
			}
			x := a.Apart[name]
			a.Apart[name] = Listed{x.Count + 1, x.Digest ^ digest}
			return len(w.listed) <= d.max
		}
		a.Count++
		a.Digest ^= digest
		return len(w.listed) <= d.max
	})
	if err == nil && len(w.listed) > d.max {
		err = ErrTooMany
	}
	if err != nil {
		w.listed = nil
		return err
	}
	w.lists = true
	return nil
}

// raise looks a second time before it raises: a tombstone that a disk loses
// after the list, while a late message brings back what it covered, would else
// be dropped everywhere.
func (d *Duty) raise(q Ask, w *part) error {
	if !w.lists {
		return ErrOtherRound
	}
	for _, l := range w.listed {
		ok, err := d.ledger.Covers(q.Partition, l.key, l.dots)
		if err != nil {
			return err
		}
		if !ok {
			return ErrLostListed
		}
	}
	return d.ledger.Raise(q.Partition, q.Floor)
}

// complete does not ask who the owner was: everybody has raised the floor, and
// one that lost that since learns it again before it serves.
func (d *Duty) complete(q Ask) (Answer, error) {
	if d.ledger.Floors(q.Partition).Raised < q.Floor {
		return Answer{}, fmt.Errorf("%s: %w", q.Pass, ErrOtherRound)
	}
	if err := d.ledger.Complete(q.Partition, q.Floor); err != nil {
		return Answer{}, fmt.Errorf("%s: %w", q.Pass, err)
	}
	if err := d.ledger.Drop(q.Partition, q.Floor); err != nil {
		return Answer{}, fmt.Errorf("%s: %w", q.Pass, err)
	}
	if err := d.ledger.Spend(q.Partition, q.Floor); err != nil {
		return Answer{}, fmt.Errorf("%s: %w", q.Pass, err)
	}
	d.mu.Lock()
	if w := d.rounds[q.Partition]; w != nil && w.round == q.Round {
		delete(d.rounds, q.Partition)
	}
	d.mu.Unlock()
	return Answer{Round: q.Round, Pass: q.Pass, As: d.incarnation()}, nil
}
