package replica

import (
	"encoding/binary"

	"github.com/atolldb/atoll/crdt"
)

// The value of an entry of the dot index: digest delta (8), 1 if the event
// carried out a request of which the id is known, else 0 (1), that id (16), and
// the full key. The first entry of an operation has the delta of all of it.
const indexHead = 8 + 1

// indexed is what an entry of the dot index says.
type indexed struct {
	delta uint64
	id    crdt.RequestID // zero for none
	key   []byte
}

func appendIndexed(dst []byte, x *indexed) []byte {
	dst = binary.BigEndian.AppendUint64(dst, x.delta)
	if x.id.IsZero() {
		dst = append(dst, 0)
	} else {
		dst = append(append(dst, 1), x.id[:]...)
	}
	return append(dst, x.key...)
}

// decodeIndexed reports false for what is no entry. The key aliases b.
func decodeIndexed(b []byte) (x indexed, ok bool) {
	if len(b) < indexHead || b[8] > 1 {
		return x, false
	}
	x.delta, x.key = binary.BigEndian.Uint64(b), b[indexHead:]
	if b[8] == 1 {
		if len(x.key) < len(x.id) {
			return x, false
		}
		x.key = x.key[copy(x.id[:], x.key):]
	}
	return x, true
}

// tells appends what a message with the entry's dot says of its request.
func (x *indexed) tells(ids []crdt.EventID, d crdt.Dot) []crdt.EventID {
	if x.id.IsZero() {
		return ids
	}
	return append(ids, crdt.EventID{Dot: d, ID: x.id})
}
