package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/atolldb/atoll/node/topology"
)

// The packed format, wire version 1. A frame is one or many messages of one
// kind, one after the other, nothing between or behind them:
//
//	request: id uvarint | verb byte | epoch uvarint | timeout in ms uvarint |
//	         length uvarint | body
//	reply:   id uvarint | 0 byte        | length uvarint | body
//	         id uvarint | a Code's byte | length uvarint | detail
//
// The id is the asker's, and the reply repeats it. The timeout is what was left
// when the frame was packed, rounded up; 0 says that none was. Uvarints are those of
// encoding/binary, in their shortest form. An empty frame holds no message; a
// link uses it to ask for a sign of life.
//
// A decoded body aliases its frame. Frames are handed over and never used
// again, so it may be kept; but it keeps its whole frame (1 MiB at most, if the
// body is small) from being collected, so who keeps one for long copies it.

// Wire is the version of the packed format.
const Wire = 1

const (
	// MaxHeader bounds in bytes what a message has beside its body.
	MaxHeader = 2*binary.MaxVarintLen64 + 2*binary.MaxVarintLen32 + 1
	// MaxTimeout bounds Request.Timeout on the wire. Longer ones are cut.
	MaxTimeout = time.Hour
	// MaxDetail bounds Refusal.Detail on the wire, in bytes. Longer ones are
	// cut.
	MaxDetail = 1 << 10
)

// ErrFrame is wrapped by the errors of NextRequest and NextReply.
var ErrFrame = errors.New("malformed frame")

// AppendRequestHead appends a request without its body, which must follow.
func AppendRequestHead(dst []byte, id uint64, req Request) []byte {
	ms := (min(max(req.Timeout, 0), MaxTimeout) + time.Millisecond - 1) / time.Millisecond
	dst = binary.AppendUvarint(dst, id)
	dst = append(dst, byte(req.Verb))
	dst = binary.AppendUvarint(dst, uint64(req.Epoch))
	dst = binary.AppendUvarint(dst, uint64(ms))
	return binary.AppendUvarint(dst, uint64(len(req.Body)))
}

// AppendReplyHead appends a reply of size bytes without its body, which must
// follow.
func AppendReplyHead(dst []byte, id uint64, size int) []byte {
	dst = binary.AppendUvarint(dst, id)
	dst = append(dst, 0)
	return binary.AppendUvarint(dst, uint64(size))
}

// AppendRefusal appends a refusal. A code of 0, which would be a reply, becomes
// CodeInternal.
func AppendRefusal(dst []byte, id uint64, code Code, detail string) []byte {
	code = max(code, CodeInternal)
	detail = detail[:min(len(detail), MaxDetail)]
	dst = binary.AppendUvarint(dst, id)
	dst = append(dst, byte(code))
	dst = binary.AppendUvarint(dst, uint64(len(detail)))
	return append(dst, detail...)
}

// NextRequest takes the first request off a frame that is not empty.
func NextRequest(frame []byte) (id uint64, req Request, rest []byte, err error) {
	d := decoder{rest: frame}
	id = d.uvarint(1<<64 - 1)
	req.Verb = Verb(d.byte())
	req.Epoch = topology.Epoch(d.uvarint(1<<64 - 1))
	req.Timeout = time.Duration(d.uvarint(uint64(MaxTimeout/time.Millisecond))) * time.Millisecond
	req.Body = d.bytes(MaxMessage)
	if d.bad == "" && req.Verb == 0 {
		d.bad = "verb 0"
	}
	if d.bad != "" {
		return 0, Request{}, nil, fmt.Errorf("%w: request: %s", ErrFrame, d.bad)
	}
	return id, req, d.rest, nil
}

// NextReply takes the first reply off a frame that is not empty. A code of 0
// says that body is the reply, any other that it is a refusal's detail.
func NextReply(frame []byte) (id uint64, code Code, body, rest []byte, err error) {
	d := decoder{rest: frame}
	id = d.uvarint(1<<64 - 1)
	code = Code(d.byte())
	if code == 0 {
		body = d.bytes(MaxMessage)
	} else {
		body = d.bytes(MaxDetail)
	}
	if d.bad != "" {
		return 0, 0, nil, nil, fmt.Errorf("%w: reply: %s", ErrFrame, d.bad)
	}
	return id, code, body, d.rest, nil
}

// decoder reads from the front of rest, until something is bad.
type decoder struct {
	rest []byte
	bad  string
}

func (d *decoder) byte() byte {
	if d.bad == "" && len(d.rest) == 0 {
		d.bad = "cut short"
	}
	if d.bad != "" {
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *decoder) uvarint(limit uint64) uint64 {
	if d.bad != "" {
		return 0
	}
	v, n := binary.Uvarint(d.rest)
	switch {
	case n == 0:
		d.bad = "cut short"
	case n < 0:
		d.bad = "number of more than 64 bits"
	case n > 1 && d.rest[n-1] == 0:
		d.bad = "number not in its shortest form"
	case v > limit:
		d.bad = "number over its limit"
	}
	if d.bad != "" {
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) bytes(limit uint64) []byte {
	n := d.uvarint(limit)
	if d.bad == "" && n > uint64(len(d.rest)) {
		d.bad = "cut short"
	}
	if d.bad != "" {
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}
