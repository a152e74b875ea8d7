package peer_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

type packedRequest struct {
	id  uint64
	req peer.Request
}

type packedReply struct {
	id   uint64
	code peer.Code
	body []byte
}

func packRequests(msgs []packedRequest) (frame []byte) {
	for _, m := range msgs {
		frame = append(peer.AppendRequestHead(frame, m.id, m.req), m.req.Body...)
	}
	return frame
}

func packReplies(msgs []packedReply) (frame []byte) {
	for _, m := range msgs {
		if m.code == 0 {
			frame = append(peer.AppendReplyHead(frame, m.id, len(m.body)), m.body...)
		} else {
			frame = peer.AppendRefusal(frame, m.id, m.code, string(m.body))
		}
	}
	return frame
}

func unpackRequests(frame []byte) (msgs []packedRequest, err error) {
	for len(frame) > 0 {
		var m packedRequest
		if m.id, m.req, frame, err = peer.NextRequest(frame); err != nil {
			return msgs, err
		}
		msgs = append(msgs, m)
	}
	return msgs, nil
}

func unpackReplies(frame []byte) (msgs []packedReply, err error) {
	for len(frame) > 0 {
		var m packedReply
		if m.id, m.code, m.body, frame, err = peer.NextReply(frame); err != nil {
			return msgs, err
		}
		msgs = append(msgs, m)
	}
	return msgs, nil
}

func TestRequestsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		msgs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) packedRequest {
			return packedRequest{rapid.Uint64().Draw(t, "id"), peer.Request{
				Verb:    peer.Verb(rapid.IntRange(1, 255).Draw(t, "verb")),
				Epoch:   topology.Epoch(rapid.Uint64().Draw(t, "epoch")),
				Timeout: time.Duration(rapid.IntRange(0, 3600_000).Draw(t, "ms")) * time.Millisecond,
				Body:    rapid.SliceOf(rapid.Byte()).Draw(t, "body"),
			}}
		}), 1, 20).Draw(t, "requests")
		got, err := unpackRequests(packRequests(msgs))
		if err != nil || len(got) != len(msgs) {
			t.Fatalf("got %d of %d, %v", len(got), len(msgs), err)
		}
		for i, m := range msgs {
			g := got[i]
			if g.id != m.id || g.req.Verb != m.req.Verb || g.req.Epoch != m.req.Epoch ||
				g.req.Timeout != m.req.Timeout || !bytes.Equal(g.req.Body, m.req.Body) {
				t.Fatalf("message %d: got %+v, want %+v", i, g, m)
			}
		}
	})
}

func TestRepliesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		msgs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) packedReply {
			return packedReply{
				rapid.Uint64().Draw(t, "id"),
				peer.Code(rapid.Byte().Draw(t, "code")),
				rapid.SliceOfN(rapid.Byte(), 0, peer.MaxDetail).Draw(t, "body"),
			}
		}), 1, 20).Draw(t, "replies")
		got, err := unpackReplies(packReplies(msgs))
		if err != nil || len(got) != len(msgs) {
			t.Fatalf("got %d of %d, %v", len(got), len(msgs), err)
		}
		for i, m := range msgs {
			if g := got[i]; g.id != m.id || g.code != m.code || !bytes.Equal(g.body, m.body) {
				t.Fatalf("message %d: got %+v, want %+v", i, g, m)
			}
		}
	})
}

func TestTimeoutOnTheWire(t *testing.T) {
	for _, c := range []struct{ sent, want time.Duration }{
		{-time.Second, 0},
		{0, 0},
		{1, time.Millisecond},
		{1500 * time.Microsecond, 2 * time.Millisecond},
		{2 * peer.MaxTimeout, peer.MaxTimeout},
		{1<<63 - 1, peer.MaxTimeout},
	} {
		frame := peer.AppendRequestHead(nil, 1, peer.Request{Verb: 1, Timeout: c.sent})
		if _, req, _, err := peer.NextRequest(frame); err != nil || req.Timeout != c.want {
			t.Errorf("%s became %s (%v), want %s", c.sent, req.Timeout, err, c.want)
		}
	}
}

func TestRefusalOnTheWire(t *testing.T) {
	frame := peer.AppendRefusal(nil, 1, 0, strings.Repeat("x", 5000))
	_, code, detail, _, err := peer.NextReply(frame)
	if err != nil || code != peer.CodeInternal || len(detail) != peer.MaxDetail {
		t.Errorf("got code %d, %d bytes, %v", code, len(detail), err)
	}
}

func TestMalformed(t *testing.T) {
	req := func(b ...byte) error { _, _, _, err := peer.NextRequest(b); return err }
	rep := func(b ...byte) error { _, _, _, _, err := peer.NextReply(b); return err }
	big := []byte{0x81, 0x80, 0x80, 0x10} // MaxMessage + 1
	for name, err := range map[string]error{
		"empty request":         req(),
		"verb 0":                req(1, 0, 1, 1, 0),
		"no verb":               req(1),
		"body cut short":        req(1, 1, 1, 1, 2, 'x'),
		"long form":             req(0x81, 0, 1, 1, 1, 0),
		"65 bits":               req(255, 255, 255, 255, 255, 255, 255, 255, 255, 2, 1, 1, 1, 0),
		"timeout over limit":    req(1, 1, 1, 0x81, 0xdd, 0xdb, 0x01, 0),
		"request too large":     req(append([]byte{1, 1, 1, 1}, big...)...),
		"empty reply":           rep(),
		"reply cut short":       rep(1, 0, 1),
		"reply too large":       rep(append([]byte{1, 0}, big...)...),
		"detail too large":      rep(append([]byte{1, 1, 0x81, 0x08}, make([]byte, 1025)...)...),
		"reply without a code":  rep(1),
		"reply without a size":  rep(1, 0),
		"request without epoch": req(1, 1),
	} {
		if !errors.Is(err, peer.ErrFrame) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// A frame that decodes has one encoding only, so packing again gives it back.
func FuzzRequests(f *testing.F) {
	f.Add(packRequests([]packedRequest{
		{1, peer.Request{Verb: peer.VerbPing, Timeout: time.Second}},
		{1 << 40, peer.Request{Verb: peer.VerbApply, Epoch: 300, Timeout: time.Minute, Body: []byte("body")}},
	}))
	f.Fuzz(func(t *testing.T, frame []byte) {
		msgs, err := unpackRequests(frame)
		if err != nil {
			return
		}
		if again := packRequests(msgs); !bytes.Equal(again, frame) {
			t.Errorf("%x became %x", frame, again)
		}
		for _, m := range msgs {
			if head := len(packRequests([]packedRequest{m})) - len(m.req.Body); head > peer.MaxHeader {
				t.Errorf("a head of %d bytes", head)
			}
		}
	})
}

func FuzzReplies(f *testing.F) {
	f.Add(packReplies([]packedReply{{1, 0, []byte("body")}, {1 << 50, peer.CodeFull, []byte("detail")}, {7, 0, nil}}))
	f.Fuzz(func(t *testing.T, frame []byte) {
		msgs, err := unpackReplies(frame)
		if err != nil {
			return
		}
		if again := packReplies(msgs); !bytes.Equal(again, frame) {
			t.Errorf("%x became %x", frame, again)
		}
	})
}
