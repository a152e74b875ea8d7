package topology

import (
	"encoding/binary"
	"errors"
)

// How nodes tell each other of topologies: one verb both asks and offers. The
// body is the epoch, 8 bytes big-endian, of the topology that the asker has of
// the receiver's region, and then, or not, an encoded one that it offers. The
// reply is the epoch that the receiver has made durable, the offered one
// included, and then its topology, if that is newer than the asker's.

const epochBytes = 8

// ErrShortExchange says that such a message has no whole epoch.
var ErrShortExchange = errors.New("message about topologies is too short")

// EncodeExchange returns such a message; t may be nil, and epoch is 0 of who
// has no topology.
func EncodeExchange(epoch Epoch, t *Topology) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(epoch))
	if t != nil {
		b = append(b, Encode(t)...)
	}
	return b
}

// DecodeExchange returns a nil topology where there is none. An error is
// ErrShortExchange or one of Decode's.
func DecodeExchange(b []byte) (Epoch, *Topology, error) {
	if len(b) < epochBytes {
		return 0, nil, ErrShortExchange
	}
	epoch := Epoch(binary.BigEndian.Uint64(b))
	if len(b) == epochBytes {
		return epoch, nil, nil
	}
	t, err := Decode(b[epochBytes:])
	return epoch, t, err
}
