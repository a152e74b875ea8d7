package topology

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/strict"
)

// The encoding of a topology, in a store, on a node's disk and between nodes.
// Numbers are uvarints unless something else is said, texts are their length
// and their bytes:
//
//	1 byte    format, 1
//	text      region
//	1 byte    region id
//	number    epoch
//	number    partitions, a power of two
//	number    replicas
//	1 byte    zone policy
//	number    of members, then in their order:
//	  text      id
//	  text      rack
//	  number    weight
//	  text      peer address
//	  text      client address
//	  1 byte    state
//	number    of strangers, then ascending: text, an id
//	per partition, ascending:
//	  number    of owners, then the primary first: a name
//	1 byte    1 if what follows is there, 0 if every partition's since is 1
//	  per partition: number, epoch minus since
//	number    of moves, then ascending by id:
//	  number    id minus that of the move before (the first: minus 0)
//	  number    task
//	  number    partition
//	  number    slot
//	  name+1    from, 0 for none
//	  name+1    to, 0 for none
//	  1 byte    stage
//	  number    began
//	number    of tasks, then ascending by id:
//	  number    id minus that of the task before (the first: minus 0)
//	  1 byte    kind
//	  number    of nodes, then: a name
//	  number    moves
//	  number    bytes
//	  8 bytes   begun, in Unix milliseconds, two's complement, big-endian
//	  8 bytes   ended, likewise
//	  1 byte    1 paused + 2 aborted + 4 accepts loss
//	number    bytes per second of the pace
//	number    concurrent moves of the pace
//	4 bytes   CRC-32C of all that is before it, big-endian
//
// A name is an index: into the members, then into the strangers. Strangers are
// nodes that a table, a move or a task names and that are no members any more.
//
// Equal topologies have equal bytes, and what is not Valid does not decode.

const (
	topologyFormat = 1

	// MaxEncoded bounds an encoding in bytes. 65536 partitions of three owners
	// take about 600 KiB, each move some 12 bytes.
	MaxEncoded = 4 << 20
	// maxStrangers bounds the names that are no members'.
	maxStrangers = hashring.MaxMembers
)

// ErrCorrupt says that bytes are no topology.
var ErrCorrupt = errors.New("corrupt topology")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Encode returns the canonical encoding of t, which must be valid.
func Encode(t *Topology) []byte {
	w := writer{names: make(map[NodeID]int, len(t.Members))}
	for i, m := range t.Members {
		w.names[m.ID] = i
	}
	strangers := t.strangers()
	for i, id := range strangers {
		w.names[id] = len(t.Members) + i
	}
	w.byte(topologyFormat)
	w.text(string(t.Region))
	w.byte(byte(t.RegionID))
	w.number(uint64(t.Epoch))
	w.number(uint64(t.Rules.Partitions))
	w.number(uint64(t.Rules.Replicas))
	w.byte(byte(t.Rules.ZonePolicy))
	w.number(uint64(len(t.Members)))
	for _, m := range t.Members {
		w.text(string(m.ID))
		w.text(m.Rack)
		w.number(uint64(m.Weight))
		w.text(m.PeerAddr)
		w.text(m.ClientAddr)
		w.byte(byte(m.State))
	}
	w.number(uint64(len(strangers)))
	for _, id := range strangers {
		w.text(string(id))
	}
	w.table(t)
	w.moves(t.Moves)
	w.tasks(t.Tasks)
	w.number(t.Pace.BytesPerSecond)
	w.number(uint64(t.Pace.Concurrent))
	return binary.BigEndian.AppendUint32(w.b, crc32.Checksum(w.b, castagnoli))
}

// strangers returns the nodes that are named and are no members, ascending.
func (t *Topology) strangers() []NodeID {
	all := map[NodeID]bool{}
	for _, owners := range t.Table.All() {
		for _, o := range owners {
			all[NodeID(o)] = true
		}
	}
	for _, m := range t.Moves {
		all[m.From], all[m.To] = true, true
	}
	for _, k := range t.Tasks {
		for _, id := range k.Nodes {
			all[id] = true
		}
	}
	delete(all, "")
	for _, m := range t.Members {
		delete(all, m.ID)
	}
	return slices.Sorted(maps.Keys(all))
}

type writer struct {
	b     []byte
	names map[NodeID]int
}

func (w *writer) byte(b byte)     { w.b = append(w.b, b) }
func (w *writer) number(n uint64) { w.b = binary.AppendUvarint(w.b, n) }
func (w *writer) name(id NodeID)  { w.number(uint64(w.names[id])) }

func (w *writer) text(s string) {
	w.number(uint64(len(s)))
	w.b = append(w.b, s...)
}

// maybe writes a name that may be missing.
func (w *writer) maybe(id NodeID) {
	if id == "" {
		w.number(0)
		return
	}
	w.number(uint64(w.names[id]) + 1)
}

func (w *writer) table(t *Topology) {
	changed := false
	for p, owners := range t.Table.All() {
		w.number(uint64(len(owners)))
		for _, o := range owners {
			w.name(NodeID(o))
		}
		changed = changed || t.SinceOf(p) != 1
	}
	if !changed {
		w.byte(0)
		return
	}
	w.byte(1)
	for p := range t.Table.Partitions() {
		w.number(uint64(t.Epoch - t.SinceOf(hashring.Partition(p))))
	}
}

func (w *writer) moves(moves []Move) {
	w.number(uint64(len(moves)))
	var last MoveID
	for _, m := range moves {
		w.number(uint64(m.ID - last))
		last = m.ID
		w.number(uint64(m.Task))
		w.number(uint64(m.Partition))
		w.number(uint64(m.Slot))
		w.maybe(m.From)
		w.maybe(m.To)
		w.byte(byte(m.Stage))
		w.number(uint64(m.Began))
	}
}

const (
	flagPaused = 1 << iota
	flagAborted
	flagAcceptLoss
	flagsKnown = 1<<iota - 1
)

func (w *writer) tasks(tasks []Task) {
	w.number(uint64(len(tasks)))
	var last TaskID
	for _, k := range tasks {
		w.number(uint64(k.ID - last))
		last = k.ID
		w.byte(byte(k.Kind))
		w.number(uint64(len(k.Nodes)))
		for _, id := range k.Nodes {
			w.name(id)
		}
		w.number(uint64(k.Moves))
		w.number(k.Bytes)
		w.b = binary.BigEndian.AppendUint64(w.b, uint64(k.Begun))
		w.b = binary.BigEndian.AppendUint64(w.b, uint64(k.Ended))
		flags := byte(0)
		for _, f := range []struct {
			set bool
			bit byte
		}{{k.Paused, flagPaused}, {k.Aborted, flagAborted}, {k.AcceptLoss, flagAcceptLoss}} {
			if f.set {
				flags |= f.bit
			}
		}
		w.byte(flags)
	}
}

// Decode returns the topology that b is the encoding of, or an error that
// wraps ErrCorrupt.
func Decode(b []byte) (*Topology, error) {
	const frame = 1 + 4
	if len(b) < frame || len(b) > MaxEncoded {
		return nil, fmt.Errorf("%w: %d bytes", ErrCorrupt, len(b))
	}
	body := b[:len(b)-4]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[len(body):]) {
		return nil, fmt.Errorf("%w: wrong checksum", ErrCorrupt)
	}
	if body[0] != topologyFormat {
		return nil, fmt.Errorf("%w: format %d is not known to this version", ErrCorrupt, body[0])
	}
	r := reader{Reader: strict.Reader{B: body[1:]}}
	t := r.topology()
	if !r.Whole() {
		return nil, fmt.Errorf("%w: %d bytes do not parse", ErrCorrupt, len(b))
	}
	if err := t.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	// The only judge of what is canonical is the encoder.
	if !bytes.Equal(Encode(t), b) {
		return nil, fmt.Errorf("%w: not in canonical form", ErrCorrupt)
	}
	return t, nil
}
