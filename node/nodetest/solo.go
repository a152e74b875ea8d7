package nodetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
)

// soloTries is how often a solo asks for one write, as the SDK does.
const soloTries = 3

// solo is a client that is the only writer of its key, and writes with the
// context of its last acknowledged write. What was not applied it asks again of
// another node, with the same value: if that was not true, or if a context does
// not cover the write that it came with, siblings show it. After a write of
// unknown outcome it goes on with another key.
type solo struct {
	*client
	n    int
	key  string
	last token
}

func (w *World) solo(i, region int) *solo {
	s := &solo{client: w.client(i, region, nil)}
	s.next()
	return s
}

func (s *solo) next() {
	s.n++
	s.key, s.last = fmt.Sprintf("solo of %s, %d", s.name, s.n), token{}
	s.w.hist.solo(s.key)
}

// run works until ctx ends.
func (s *solo) run(ctx context.Context) {
	for pause.For(ctx, time.Duration(1+s.rng.IntN(200))*time.Millisecond) {
		s.write(len(s.last.bytes) > 0 && s.rng.IntN(5) == 0)
	}
}

// write returns nil if the write was acknowledged.
func (s *solo) write(deletes bool) error {
	wr := s.w.hist.begin(s.key, deletes, maps.Clone(s.last.seen), fmt.Sprintf("%s at %v", s.name, time.Since(s.w.start)))
	p := coord.Put{Key: []byte(s.key), Value: []byte(wr.value), Context: s.last.bytes, Delete: deletes,
		Level: quorum.LocalQuorum, Deadline: time.Now().Add(2 * time.Second)}
	for try := 1; ; try++ {
		res, err := s.ask(p)
		var e *coord.Error
		switch {
		case err == nil:
			s.w.hist.end(wr, acked, res.Version)
			seen := maps.Clone(wr.seen)
			if seen == nil {
				seen = map[crdt.Dot]bool{}
			}
			seen[res.Version] = true
			s.last = token{bytes: res.Context, seen: seen}
			return nil
		case !errors.As(err, &e) || e.Outcome != coord.NotApplied:
			s.w.hist.end(wr, unknown, crdt.Dot{})
			s.next()
			return err
		case try == soloTries || time.Now().After(p.Deadline):
			s.w.hist.end(wr, refused, crdt.Dot{})
			return err
		}
	}
}

var errNobody = &coord.Error{Code: coord.CodeUnavailable, Detail: "no node is up"}

func (s *solo) ask(p coord.Put) (coord.PutResult, error) {
	node := s.coordinator()
	if node == nil {
		return coord.PutResult{}, errNobody
	}
	type outcome struct {
		res coord.PutResult
		err error
	}
	done := make(chan outcome, 1)
	node.Put(p, func(r coord.PutResult, err error) { done <- outcome{r, err} })
	select {
	case o := <-done:
		return o.res, o.err
	case <-time.After(30 * time.Second):
		s.w.t.Errorf("put of %s never answered", s.key)
		return coord.PutResult{}, errors.New("no answer")
	}
}

// solo makes key one of those that have a single writer.
func (h *history) solo(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.solos = append(h.solos, key)
}

// soloKeys are the keys with a single writer.
func (h *history) soloKeys() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.solos...)
}

// alone checks I3 of a key with a single writer: when no outcome is unknown its
// record is the last acknowledged write and nothing else (or nothing, if that
// was a delete and is collected).
func (h *history) alone(key string, rec crdt.Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var last *write
	for _, w := range h.writes {
		switch {
		case w.key != key || w.status == refused:
		case w.status != acked || h.isGone(key, w.dot):
			return
		default:
			last = w
		}
	}
	n := len(rec.Versions)
	switch {
	case last == nil && n == 0, last != nil && last.deletes && n == 0:
	case last != nil && n == 1 && rec.Versions[0].Dot == last.dot:
	case last == nil:
		h.problem("I3: key %s has %d versions, though no write of it was applied", key, n)
	default:
		h.problem("I3: key %s of a single writer has %d versions, its last write (%v, %s) alone was due: %v",
			key, n, last.dot, last.at, rec.Context().Seen)
	}
}
