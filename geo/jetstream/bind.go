package jetstream

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// errNoStream says that the origin has no log (yet).
var errNoStream = errors.New("origin has no stream")

// bind looks at the stream, takes or makes the durable consumer, and reports
// gaps by comparing with what was known before (J3). When the servers drop
// batches that a consumer has not had, they move it on without a word.
func (r *feedRun) bind() (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(r.ctx, apiTimeout)
	defer cancel()
	stream, err := r.js.Stream(ctx, streamName(r.cfg.Origin))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, errNoStream
	}
	if err != nil {
		return nil, fmt.Errorf("look at stream: %w", err)
	}
	info := stream.CachedInfo()
	if f := info.Config.Metadata[metaFormat]; f != format {
		return nil, fmt.Errorf("stream has format %q, this is %s", f, format)
	}
	made := false
	consumer, err := stream.Consumer(ctx, durableName(r.cfg.Region))
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		made = true
		consumer, err = stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
			Durable:       durableName(r.cfg.Region),
			DeliverPolicy: jetstream.DeliverAllPolicy,
			AckPolicy:     jetstream.AckExplicitPolicy,
			AckWait:       ackWait,
			MaxDeliver:    -1,
			MaxAckPending: maxAckPending,
			MaxWaiting:    maxWaiting,
		})
	}
	if err != nil {
		return nil, fmt.Errorf("bind consumer: %w", err)
	}
	id := info.Config.Metadata[metaID]
	switch {
	case r.id != "" && r.id != id:
		r.floor = 0
		r.on.Gap("stream was made anew")
	case made:
		r.on.Gap("consumer was made anew")
	case info.State.FirstSeq > r.known(consumer)+1:
		r.on.Gap(fmt.Sprintf("fell off the stream: it begins at %d, acknowledged was %d", info.State.FirstSeq, r.known(consumer)))
	}
	r.id, r.floor = id, consumer.CachedInfo().AckFloor.Stream
	return consumer, nil
}

// known is up to where the stream was acknowledged when last looked at.
func (r *feedRun) known(c jetstream.Consumer) uint64 {
	if r.id == "" {
		return c.CachedInfo().AckFloor.Stream
	}
	return r.floor
}
