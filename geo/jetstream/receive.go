package jetstream

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/atolldb/atoll/geo"
)

// receive takes one message from the client's buffer. It waits for a slot, and
// thereby holds back the pulls. Acknowledgements are sent once: a lost one
// costs a repetition.
func (r *feedRun) receive(msg jetstream.Msg) {
	header, err := decodeHeader(msg.Headers().Get(headerName))
	if err != nil {
		_ = msg.TermWithReason(err.Error())
		r.on.Gap(fmt.Sprintf("a message was dropped: %v", err))
		return
	}
	select {
	case r.slots <- struct{}{}:
	case <-r.ctx.Done():
		_ = msg.Nak()
		return
	}
	if r.ctx.Err() != nil { // both were so
		<-r.slots
		_ = msg.Nak()
		return
	}
	r.handling.Go(func() {
		defer func() { <-r.slots }()
		r.handle(msg, geo.Batch{Header: header, Data: msg.Data()})
	})
}

func (r *feedRun) handle(msg jetstream.Msg, b geo.Batch) {
	r.underway.begin(msg)
	err := r.on.Batch(r.ctx, b)
	r.underway.end(msg)
	var later *geo.Later
	if errors.As(err, &later) {
		r.handling.Go(func() { r.answer(msg, b, hold(msg, later)) })
		return
	}
	r.answer(msg, b, err)
	r.rest(r.ctx, err)
}

// hold keeps a message from being delivered anew until its answer is there.
func hold(msg jetstream.Msg, later *geo.Later) error {
	beat := time.NewTicker(ackWait / 3)
	defer beat.Stop()
	for {
		select {
		case err := <-later.Done:
			return err
		case <-beat.C:
			_ = msg.InProgress()
		}
	}
}

func (r *feedRun) answer(msg jetstream.Msg, b geo.Batch, err error) {
	switch {
	case err == nil:
		_ = msg.Ack()
	case errors.Is(err, geo.ErrPoison):
		_ = msg.TermWithReason("poison")
		r.logger.Error("batch dropped", "origin", r.cfg.Origin, "batch", b.Header.ID(), "error", err)
	case r.ctx.Err() != nil:
		_ = msg.Nak() // for another node, at once
	default:
		delay := nakDelay(msg)
		_ = msg.NakWithDelay(delay)
		r.logger.Debug("batch put off", "origin", r.cfg.Origin, "batch", b.Header.ID(), "delay", delay, "error", err)
	}
}

// nakDelay doubles with each delivery.
func nakDelay(msg jetstream.Msg) time.Duration {
	delay := nakMin
	if meta, err := msg.Metadata(); err == nil {
		for n := uint64(1); n < meta.NumDelivered && delay < nakMax; n++ {
			delay *= 2
		}
	}
	return min(delay, nakMax)
}
