package replica

import (
	"encoding/binary"

	"github.com/atolldb/atoll/crdt"
)

// The value of an entry of the dot index: digest delta (8), how much is known
// of the request that the event carried out (1), its id if it had one (16), and
// the full key. The first entry of an operation has the delta of all of it.
const (
	eventPlain   = 0 // the event had no request id
	eventNamed   = 1 // the id follows
	eventUnknown = 2 // it came here without word of an id

	indexHead = 8 + 1
)

// indexed is what an entry of the dot index says.
type indexed struct {
	delta uint64
	how   byte
	id    crdt.RequestID
	key   []byte
}

func appendIndexed(dst []byte, x *indexed) []byte {
	dst = append(binary.BigEndian.AppendUint64(dst, x.delta), x.how)
	if x.how == eventNamed {
		dst = append(dst, x.id[:]...)
	}
	return append(dst, x.key...)
}

// decodeIndexed reports false for what is no entry. The key aliases b.
func decodeIndexed(b []byte) (x indexed, ok bool) {
	if len(b) < indexHead {
		return x, false
	}
	x.delta, x.how, x.key = binary.BigEndian.Uint64(b), b[8], b[indexHead:]
	if x.how == eventNamed {
		if len(x.key) < len(x.id) {
			return x, false
		}
		x.key = x.key[copy(x.id[:], x.key):]
	}
	return x, x.how <= eventUnknown
}

// tells appends what an entry with that index entry's dot says of its request.
func (x *indexed) tells(ids []crdt.EventID, d crdt.Dot) []crdt.EventID {
	if x.how == eventPlain {
		return ids
	}
	return append(ids, crdt.EventID{Dot: d, ID: x.id})
}
