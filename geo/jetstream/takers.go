package jetstream

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/atolldb/atoll/geo"
)

const (
	// A region that has not asked for batches and has taken none for goneAfter is
	// away, and one that has asked and takes none of at least someWait for
	// idleAfter: its requests outlive its link, if packets vanish on that.
	goneAfter = 300 * time.Millisecond
	idleAfter = time.Second
	someWait  = 16
	// takersBeat is how often the region's consumers are looked at while this node
	// appends, doubtBeat while nobody takes, or that may be so.
	takersBeat = 500 * time.Millisecond
	doubtBeat  = 150 * time.Millisecond
	// enough is how many batches a region has before it that need no company: it takes
	// longer for them than it takes to find out and to ship more. Of a backlog that is
	// 64 MiB. A log that has no room for so many, twice, holds fewer.
	enough    = 1024
	enoughMin = 64
	fullBatch = 64 << 10
)

// enoughFor is how many batches are enough in a log of so many bytes: what is shipped
// faster than it is taken must not push out what was not.
func enoughFor(maxBytes int64) uint64 {
	return uint64(min(max(maxBytes/2/fullBatch, enoughMin), enough))
}

// takers says whether any region takes batches from the log.
type takers struct {
	seen map[string]taker
}

// taker is one region's consumer.
type taker struct {
	floor, open uint64
	asks        bool
	since       time.Time // of its last progress
}

// away says that it will not take anything soon.
func (k taker) away(now time.Time) bool {
	idle := now.Sub(k.since)
	return k.open > 0 && (!k.asks && idle >= goneAfter || k.open >= someWait && idle >= idleAfter)
}

// look takes what the server says of all consumers, none of which has taken
// anything for silent, and reports whether the log is wanted. Where there are none
// yet, it is.
func (t *takers) look(now time.Time, silent time.Duration, all []*jetstream.ConsumerInfo) bool {
	next := make(map[string]taker, len(all))
	wanted := len(all) == 0
	for _, c := range all {
		at := taker{floor: c.AckFloor.Stream, open: c.NumPending + uint64(max(c.NumAckPending, 0)), asks: c.NumWaiting > 0, since: now.Add(-silent)}
		if was, known := t.seen[c.Name]; known && was.floor == at.floor && was.open > 0 && at.open >= was.open && was.since.Before(at.since) {
			at.since = was.since
		}
		next[c.Name] = at
		wanted = wanted || !at.away(now)
	}
	t.seen = next
	return wanted
}

// sated reports whether all regions that were taking at the last look, of which there is
// one at least, have as many batches before them.
func (t *takers) sated(now time.Time, batches uint64) bool {
	some := false
	for _, k := range t.seen {
		if k.away(now) {
			continue
		}
		if k.open < batches {
			return false
		}
		some = true
	}
	return some
}

// Wanted reports what the last look came to; see geo.Log.
func (l *Log) Wanted() bool { return !l.unwanted.Load() && !l.sated.Load() }

// Silent is for how long nobody has acknowledged anything; see geo.Log.
func (l *Log) Silent() time.Duration { return l.silence.Length(time.Now()) }

// watchTakers looks at the consumers until ctx ends: while this node appends,
// and while nobody takes.
func (l *Log) watchTakers(ctx context.Context) {
	var t takers
	looked, at := uint64(0), time.Time{}
	var ears ears
	for {
		beat := takersBeat
		if !l.Wanted() || !t.idle() {
			beat = doubtBeat
		}
		// At the moment from which it may be known that nobody takes anything.
		if gone := goneAfter - l.Silent(); l.Wanted() && gone > 0 && gone < beat {
			beat = gone
		}
		asked := false
		select {
		case <-ctx.Done():
			return
		case <-l.look:
			asked = true
		case <-time.After(beat):
		}
		appended := l.appended.Load()
		if !asked && appended == looked && l.Wanted() && time.Since(at) < lookBeat {
			continue
		}
		at = time.Now()
		heard := l.heard.Load()
		all, err := l.consumers(ctx)
		if err != nil {
			// Whether appends work is theirs to find out.
			l.logger.Debug("cannot look at consumers", "error", err)
			l.unwanted.Store(false)
			l.sated.Store(false)
			continue
		}
		if ears.deaf(heard, l.heard.Load(), t.moved(all)) {
			l.silence.Deaf()
		}
		wanted := t.look(time.Now(), l.Silent(), all)
		l.sated.Store(t.sated(time.Now(), enoughFor(l.cfg.MaxBytes)))
		if t.idle() { // else it is looked at again
			looked = appended
		}
		if l.unwanted.Swap(!wanted) == wanted {
			l.logger.Info("whether other regions take from the log", "taken", wanted)
		}
	}
}

// moved reports whether any consumer has taken something since the last look.
func (t *takers) moved(all []*jetstream.ConsumerInfo) bool {
	for _, c := range all {
		if was, known := t.seen[c.Name]; known && was.floor < c.AckFloor.Stream {
			return true
		}
	}
	return false
}

// idle says that nothing waits for anybody.
func (t *takers) idle() bool {
	for _, k := range t.seen {
		if k.open > 0 {
			return false
		}
	}
	return true
}

func (l *Log) consumers(ctx context.Context) ([]*jetstream.ConsumerInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	stream, err := l.js.Stream(ctx, streamName(l.cfg.Region))
	if err != nil {
		return nil, fmt.Errorf("look at stream: %w", err)
	}
	var all []*jetstream.ConsumerInfo
	list := stream.ListConsumers(ctx)
	for c := range list.Info() {
		all = append(all, c)
	}
	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("list consumers: %w", err)
	}
	all = l.release(ctx, stream, all)
	info := stream.CachedInfo()
	state := &geo.LogState{
		Batches: info.State.Msgs, Bytes: info.State.Bytes, MaxBytes: uint64(max(info.Config.MaxBytes, 0)),
		Open: make(map[string]uint64, len(all)),
	}
	if info.State.Msgs > 0 {
		state.Oldest = info.State.FirstTime
	}
	for _, c := range all {
		if dst, ok := strings.CutPrefix(c.Name, durableName("")); ok {
			state.Open[dst] = c.NumPending + uint64(max(c.NumAckPending, 0))
		}
	}
	l.state.Store(state)
	return all, nil
}

// State is what the last look at the stream showed, half a second ago while this
// node appends, else up to 30 s.
func (l *Log) State() (geo.LogState, bool) {
	s := l.state.Load()
	if s == nil {
		return geo.LogState{}, false
	}
	return *s, true
}
