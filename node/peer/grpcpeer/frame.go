package grpcpeer

import (
	"encoding/binary"
	"fmt"

	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	peerv1 "github.com/atolldb/atoll/proto/atoll/peer/v1"
)

// On the wire, each message of a stream is a peerv1.LinkRequest or
// LinkResponse, which look alike: field 1 is a Hello, field 2 a frame. The
// generated code would copy each frame once on either side, so a *frame stands
// for both, and codec knows how to write and read it.
//
//	0x0a | length uvarint | Hello      at most once, only as the first message
//	0x12 | length uvarint | frame      at most once
//
// A message of zero bytes is the empty frame.

const (
	tagHello = 1<<3 | 2
	tagFrame = 2<<3 | 2
	// framePrefix bounds in bytes what goes before a frame.
	framePrefix = 1 + binary.MaxVarintLen32
)

// frame is one message of a stream.
type frame struct {
	hello *peerv1.Hello
	// body was received: it is this frame's alone.
	body []byte
	// packed is to be sent: it belongs to the codec from then on.
	packed mem.BufferSlice
}

// codec is protobuf, and knows *frame.
type codec struct{}

func (codec) Name() string { return protocodec.Name }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*frame)
	if !ok {
		return encoding.GetCodecV2(protocodec.Name).Marshal(v)
	}
	if f.hello == nil {
		return f.packed, nil
	}
	hello, err := proto.Marshal(f.hello)
	if err != nil {
		return nil, fmt.Errorf("encode hello: %w", err)
	}
	return mem.BufferSlice{mem.SliceBuffer(append(appendPrefix(nil, tagHello, len(hello)), hello...))}, nil
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*frame)
	if !ok {
		return encoding.GetCodecV2(protocodec.Name).Unmarshal(data, v)
	}
	return f.decode(data.Materialize())
}

// decode takes over b.
func (f *frame) decode(b []byte) error {
	*f = frame{}
	for len(b) > 0 {
		tag := b[0]
		field, n := protowire.ConsumeBytes(b[1:])
		if n < 0 {
			return fmt.Errorf("decode link message: %w", protowire.ParseError(n))
		}
		b = b[1+n:]
		switch {
		case tag == tagHello && f.hello == nil:
			f.hello = new(peerv1.Hello)
			if err := proto.Unmarshal(field, f.hello); err != nil {
				return fmt.Errorf("decode hello: %w", err)
			}
		case tag == tagFrame && f.body == nil:
			f.body = field
		default:
			return fmt.Errorf("decode link message: unexpected field %d", tag>>3)
		}
	}
	return nil
}

func appendPrefix(dst []byte, tag byte, size int) []byte {
	return binary.AppendUvarint(append(dst, tag), uint64(size))
}
