package nodetest

import (
	"sync"
	"unsafe"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/wire"
)

// The fabric delivers twice what a real link, which is a TCP stream, never does.
// Everything must bear that but two kinds of forwarded writes: one without a
// request id would be minted twice, and so would one that the first copy's
// receiver refused or forgot in a crash, and somebody else has then. So a copy is delivered only of
// a write with an id, and after the first one was answered as done. A copy that did
// not find that out is not answered: that it was not applied is true of the copy,
// and its sender, who knows of one write only, would take it for that. Nor is one
// whose first copy was minted in doubt and says so: the second finds what the first
// made, and does not know of the doubt.

// twice are the forwarded writes that a node has got, by the address of the body,
// which all copies share.
type twice struct {
	mu   sync.Mutex
	seen map[*byte]*forwarded
}

type forwarded struct {
	named    bool
	answered bool
	done     bool // as far as it is answered
	doubted  bool // done, and perhaps twice
	waiting  []func()
}

// meet takes note of a forwarded write. For the first copy it returns what to
// reply with, for another one what carries it out when it may.
func (t *twice) meet(req *peer.Request, reply peer.Done) (peer.Done, func(func())) {
	body := unsafe.SliceData(req.Body)
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.seen[body]; f != nil {
		return t.ofCopy(f, reply), func(carryOut func()) { t.after(f, carryOut) }
	}
	m, err := wire.DecodeForward(req.Body)
	if req.Verb == peer.VerbHomePut {
		var h wire.HomePut
		h, err = wire.DecodeHomePut(req.Body)
		m = h.Put
	}
	if t.seen == nil {
		t.seen = map[*byte]*forwarded{}
	}
	f := &forwarded{named: err == nil && m.RequestID != nil}
	t.seen[body] = f
	return func(b []byte, err error) {
		reply(b, err)
		t.answer(f, b, err)
	}, nil
}

// ofCopy is how a copy is answered.
func (t *twice) ofCopy(f *forwarded, reply peer.Done) peer.Done {
	return func(b []byte, err error) {
		t.mu.Lock()
		doubted := f.doubted
		t.mu.Unlock()
		if done, _ := isDone(b); err == nil && done && !doubted {
			reply(b, nil)
		}
	}
}

// isDone reports whether an answer says that the write was carried out, and that it
// may have been twice.
func isDone(b []byte) (done, doubted bool) {
	m, err := wire.DecodeForwarded(b)
	done = err == nil && m.Failed == nil
	return done, done && m.Done.MaybeDuplicate
}

// after carries a copy out if, and when, the first one is done.
func (t *twice) after(f *forwarded, carryOut func()) {
	t.mu.Lock()
	if f.named && !f.answered {
		f.waiting = append(f.waiting, carryOut)
	}
	now := f.named && f.done
	t.mu.Unlock()
	if now {
		carryOut()
	}
}

func (t *twice) answer(f *forwarded, b []byte, err error) {
	t.mu.Lock()
	f.answered = true
	if err == nil {
		f.done, f.doubted = isDone(b)
	}
	waiting := f.waiting
	f.waiting = nil
	if !f.done {
		waiting = nil
	}
	t.mu.Unlock()
	for _, carryOut := range waiting {
		carryOut()
	}
}
