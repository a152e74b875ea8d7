package jskv

import (
	"bytes"
	"crypto/rand"
	"fmt"

	"github.com/atolldb/atoll/node/topology"
)

// The value of the key topology:
//
//	1 byte    form, 1
//	16 bytes  token, random, by which a writer knows its own again
//	the rest  topology.Encode

const (
	valueForm = 1
	tokenSize = 16
	valueHead = 1 + tokenSize
)

// makeValue returns the value for t with a token of its own.
func makeValue(t *topology.Topology) ([]byte, error) {
	b := make([]byte, valueHead)
	b[0] = valueForm
	if _, err := rand.Read(b[1:]); err != nil {
		return nil, fmt.Errorf("draw a token: %w", err)
	}
	b = append(b, topology.Encode(t)...)
	if n := len(b) - valueHead; n > topology.MaxEncoded {
		return nil, fmt.Errorf("the topology takes %d bytes, more than %d", n, topology.MaxEncoded)
	}
	return b, nil
}

// sameWriter reports whether both values were made by one call.
func sameWriter(a, b []byte) bool {
	return len(a) >= valueHead && len(b) >= valueHead && bytes.Equal(a[:valueHead], b[:valueHead])
}

func parseValue(b []byte) (*topology.Topology, error) {
	if len(b) < valueHead || b[0] != valueForm {
		return nil, fmt.Errorf("%w: the stored value has no form that this version knows", topology.ErrCorrupt)
	}
	return topology.Decode(b[valueHead:])
}
