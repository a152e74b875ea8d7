package grpcpeer

import (
	"sync"

	"google.golang.org/grpc/mem"

	"github.com/atolldb/atoll/node/peer"
)

// buffer is where one frame of small messages is packed. gRPC gives it back
// through Put when the last byte was written, so a sender owns none.
type buffer struct {
	tier *sync.Pool
	// raw is whole; its first framePrefix bytes are kept free for the prefix,
	// whose length is known last.
	raw  []byte
	view []byte
}

// Sizes of buffers: most frames are one or a few messages; a full frame may go
// over maxFrame by its last message.
var (
	tierSizes = [...]int{4 << 10, 64 << 10, maxFrame + peer.LargeMessage + peer.MaxHeader + framePrefix}
	tiers     [len(tierSizes)]sync.Pool
)

// newBuffer returns a buffer with room for size bytes of packed messages.
func newBuffer(size int) *buffer {
	size += framePrefix
	for i := range tierSizes {
		if size > tierSizes[i] {
			continue
		}
		b, ok := tiers[i].Get().(*buffer)
		if !ok {
			b = &buffer{tier: &tiers[i], raw: make([]byte, tierSizes[i])}
		}
		b.view = b.raw[:framePrefix]
		return b
	}
	return &buffer{view: make([]byte, framePrefix, size)}
}

// packed turns what was appended to view into a message of a stream.
func (b *buffer) packed() mem.BufferSlice {
	var prefix [framePrefix]byte
	p := appendPrefix(prefix[:0], tagFrame, len(b.view)-framePrefix)
	start := framePrefix - len(p)
	copy(b.view[start:], p)
	b.view = b.view[start:]
	if b.tier == nil {
		return mem.BufferSlice{mem.SliceBuffer(b.view)}
	}
	return mem.BufferSlice{mem.NewBuffer(&b.view, b)}
}

// packedLarge is a stream's message of one packed message with its body as it
// is. The body must not be changed any more.
func packedLarge(head, body []byte) mem.BufferSlice {
	size := len(head) + len(body)
	front := append(appendPrefix(make([]byte, 0, framePrefix+len(head)), tagFrame, size), head...)
	return mem.BufferSlice{mem.SliceBuffer(front), mem.SliceBuffer(body)}
}

// Get completes mem.BufferPool; nothing calls it.
func (b *buffer) Get(length int) *[]byte {
	s := make([]byte, length)
	return &s
}

// Put implements mem.BufferPool: gRPC is done with the frame.
func (b *buffer) Put(*[]byte) {
	b.view = nil
	b.tier.Put(b)
}
