package jetstream

import (
	"context"
	"errors"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/atolldb/atoll/geo"
)

var _ geo.Releasing = (*Log)(nil)

// Release implements geo.Releasing: the consumers of these regions are deleted at the
// next look at the consumers, and again whenever such a region has made a new one.
func (l *Log) Release(regions []string) {
	names := make([]string, len(regions))
	for i, r := range regions {
		names[i] = durableName(r)
	}
	if old := l.released.Swap(&names); old != nil && slices.Equal(*old, names) {
		return
	}
	select {
	case l.look <- struct{}{}:
	default: // it is about to
	}
}

// release deletes the consumers of regions that are gone, and returns the others.
// Each node of the region tries; all but one find nothing.
func (l *Log) release(ctx context.Context, stream jetstream.Stream, all []*jetstream.ConsumerInfo) []*jetstream.ConsumerInfo {
	gone := l.released.Load()
	if gone == nil || len(*gone) == 0 {
		return all
	}
	return slices.DeleteFunc(all, func(c *jetstream.ConsumerInfo) bool {
		if !slices.Contains(*gone, c.Name) {
			return false
		}
		switch err := stream.DeleteConsumer(ctx, c.Name); {
		case err == nil:
			l.logger.Info("a removed region's consumer is deleted", "region", l.cfg.Region, "consumer", c.Name)
		case !errors.Is(err, jetstream.ErrConsumerNotFound):
			l.logger.Debug("a removed region's consumer is not deleted yet", "consumer", c.Name, "error", err)
		}
		return true
	})
}
