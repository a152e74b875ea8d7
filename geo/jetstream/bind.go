package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"

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
		consumer, err = stream.CreateConsumer(ctx, r.consumer())
	}
	if err == nil && !slices.Equal(consumer.CachedInfo().Config.FilterSubjects, r.subjects()) {
		consumer, err = stream.UpdateConsumer(ctx, r.consumer())
	}
	if err != nil {
		return nil, fmt.Errorf("bind consumer: %w", err)
	}
	now := Position{
		Stream: info.Config.Metadata[metaID], Floor: consumer.CachedInfo().AckFloor.Stream,
		Last: info.State.LastSeq, Holes: uint64(max(info.State.NumDeleted, 0)),
	}
	if lost := r.at.lost(now, info.State.FirstSeq); lost != "" {
		r.on.Gap(lost)
	} else if made {
		r.on.Gap("consumer was made anew")
	}
	r.moved(now)
	return consumer, nil
}

// subjects are those of the batches that this region is to have.
func (r *feedRun) subjects() []string {
	return []string{logSubject(r.cfg.Origin, "*"), laneSubject(r.cfg.Origin, r.cfg.Region, "*")}
}

func (r *feedRun) consumer() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:        durableName(r.cfg.Region),
		DeliverPolicy:  jetstream.DeliverAllPolicy,
		AckPolicy:      jetstream.AckExplicitPolicy,
		AckWait:        ackWait,
		MaxDeliver:     -1,
		MaxAckPending:  maxAckPending,
		MaxWaiting:     maxWaiting,
		FilterSubjects: r.subjects(),
	}
}

// moved takes note of where the log is now.
func (r *feedRun) moved(now Position) {
	was := r.at
	r.at = now
	if r.cfg.Positions == nil || was == now {
		return
	}
	if err := r.cfg.Positions.Save(r.cfg.Origin, now); err != nil {
		// What is lost while this node is down may then pass unnoticed here.
		r.logger.Warn("position in another region's log is not kept", "origin", r.cfg.Origin, "error", err)
	}
}

// recall begins where an earlier run has left off.
func (r *feedRun) recall() {
	if r.cfg.Positions == nil {
		return
	}
	at, err := r.cfg.Positions.Load(r.cfg.Origin)
	if err != nil {
		r.logger.Warn("position in another region's log is not known", "origin", r.cfg.Origin, "error", err)
		return
	}
	r.at = at
}
