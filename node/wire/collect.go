package wire

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
)

// CollectKind says what a VerbCollect request asks.
type CollectKind uint8

// The kinds. The numbers are wire format.
const (
	// CollectPass is a pass of a round; the reply is a CollectAnswer.
	CollectPass CollectKind = 1
	// CollectWaiting asks any node whether something stamped at or below Floor,
	// or anything without a role, waits there to be given to owners; the reply is
	// one byte, 1 for yes.
	CollectWaiting CollectKind = 2
	// CollectDoubts asks an owner about versions; the reply is Words.
	CollectDoubts CollectKind = 3
	// CollectSought tells a node that somebody has waited in vain for writes of the
	// partition, whose rounds are its to begin; the reply is empty.
	CollectSought CollectKind = 4
)

// Collect is a request of tombstone collection. What follows the partition
// depends on the kind.
type Collect struct {
	Kind      CollectKind
	Partition hashring.Partition

	Floor hlc.Stamp // of CollectPass and CollectWaiting

	// Of CollectPass; see collect.Ask.
	Round     uint64
	Pass      uint8
	From      hlc.Stamp
	Had, Void *crdt.Clock  // both or none
	Closed    []crdt.Actor // only with them

	Doubts []Doubt // of CollectDoubts
}

// Doubt is about some versions of a key.
type Doubt struct {
	Key  []byte // full key
	Dots []crdt.Dot
}

// AppendCollect appends the encoding of m.
func AppendCollect(dst []byte, m *Collect) []byte {
	w := writer{dst}
	w.byte(byte(m.Kind))
	w.uvarint(uint64(m.Partition))
	switch m.Kind {
	case CollectPass:
		w.uvarint(uint64(m.Floor))
		w.uint64(m.Round)
		w.byte(m.Pass)
		w.uvarint(uint64(m.From))
		w.bool(m.Had != nil)
		if m.Had != nil {
			w.clock(m.Had)
			w.clock(m.Void)
			w.uvarint(uint64(len(m.Closed)))
			for _, a := range m.Closed {
				w.uvarint(uint64(a))
			}
		}
	case CollectWaiting:
		w.uvarint(uint64(m.Floor))
	case CollectDoubts:
		w.uvarint(uint64(len(m.Doubts)))
		for _, d := range m.Doubts {
			w.bytes(d.Key)
			w.dots(d.Dots)
		}
	}
	return w.b
}

// DecodeCollect decodes a Collect.
func DecodeCollect(b []byte) (Collect, error) {
	r := newReader(b)
	m := Collect{Kind: CollectKind(r.Byte()), Partition: r.partition()}
	switch m.Kind {
	case CollectPass:
		m.Floor = hlc.Stamp(r.Uvarint())
		m.Round, m.Pass, m.From = r.Uint64(), r.Byte(), hlc.Stamp(r.Uvarint())
		if r.bool() {
			m.Had, m.Void = r.clock(), r.clock()
			for range r.count(1) {
				m.Closed = append(m.Closed, crdt.Actor(r.Uint32()))
			}
		}
	case CollectWaiting:
		m.Floor = hlc.Stamp(r.Uvarint())
	case CollectDoubts:
		m.Doubts = make([]Doubt, r.count(2))
		for i := range m.Doubts {
			m.Doubts[i] = Doubt{r.bytes(), r.dots()}
		}
	case CollectSought:
	default:
		r.Bad = true
	}
	return m, r.end()
}

// CollectAnswer answers a pass; see collect.Answer.
type CollectAnswer struct {
	Actor     crdt.Actor
	Boot      uint64
	Completed hlc.Stamp
	Clock     *crdt.Clock // nil for none
	Settled   bool
	Count     uint64
	Digest    uint64
	// Apart are the lists of buckets that not every region has, ascending by name.
	Apart []ListedApart
	// Takers of the partition in the answering owner's region, by its topology.
	Takers []string
	// Former actors of the answering owner.
	Former []crdt.Actor
}

// ListedApart is what an owner lists of one bucket.
type ListedApart struct {
	Bucket        string
	Count, Digest uint64
}

// AppendCollectAnswer appends the encoding of m.
func AppendCollectAnswer(dst []byte, m *CollectAnswer) []byte {
	w := writer{dst}
	w.uvarint(uint64(m.Actor))
	w.uint64(m.Boot)
	w.uvarint(uint64(m.Completed))
	w.bool(m.Clock != nil)
	if m.Clock != nil {
		w.clock(m.Clock)
	}
	w.bool(m.Settled)
	w.uvarint(m.Count)
	w.uint64(m.Digest)
	w.uvarint(uint64(len(m.Apart)))
	for _, a := range m.Apart {
		w.string(a.Bucket)
		w.uvarint(a.Count)
		w.uint64(a.Digest)
	}
	w.strings(m.Takers)
	w.uvarint(uint64(len(m.Former)))
	for _, a := range m.Former {
		w.uvarint(uint64(a))
	}
	return w.b
}

// DecodeCollectAnswer decodes a CollectAnswer.
func DecodeCollectAnswer(b []byte) (CollectAnswer, error) {
	r := newReader(b)
	m := CollectAnswer{Actor: crdt.Actor(r.Uint32()), Boot: r.Uint64(), Completed: hlc.Stamp(r.Uvarint())}
	if r.bool() {
		m.Clock = r.clock()
	}
	m.Settled, m.Count, m.Digest = r.bool(), r.Uvarint(), r.Uint64()
	for range r.count(10) {
		m.Apart = append(m.Apart, ListedApart{r.string(), r.Uvarint(), r.Uint64()})
	}
	m.Takers = r.strings()
	for range r.count(1) {
		m.Former = append(m.Former, crdt.Actor(r.Uint32()))
	}
	return m, r.end()
}

// Word is what one owner says of a version.
type Word uint8

// The words. The numbers are wire format.
const (
	Silent Word = 0 // neither has nor had it
	Holds  Word = 1
	Lacks  Word = 2 // had it delivered and has it no more
	Covers Word = 3 // has a version that superseded it
)

// Words answer CollectDoubts: for each doubt its dots' words, and the record if
// one of them is Covers.
type Words struct {
	Words  []Word
	Record []byte
}

// AppendWords appends the encoding of a reply to CollectDoubts.
func AppendWords(dst []byte, ws []Words) []byte {
	w := writer{dst}
	w.uvarint(uint64(len(ws)))
	for _, d := range ws {
		w.uvarint(uint64(len(d.Words)))
		for _, x := range d.Words {
			w.byte(byte(x))
		}
		w.bytes(d.Record)
	}
	return w.b
}

// DecodeWords decodes a reply to CollectDoubts.
func DecodeWords(b []byte) ([]Words, error) {
	r := newReader(b)
	ws := make([]Words, r.count(2))
	for i := range ws {
		ws[i].Words = make([]Word, r.count(1))
		for j := range ws[i].Words {
			x := Word(r.Byte())
			if x > Covers {
				r.Bad = true
			}
			ws[i].Words[j] = x
		}
		ws[i].Record = r.bytes()
	}
	return ws, r.end()
}
