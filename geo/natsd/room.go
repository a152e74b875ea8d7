package natsd

import (
	"context"
	"time"
)

// A NATS server that finds no room on its disk stops keeping messages for as long as it
// lives: one of a cluster turns its JetStream off, a single one fails each write to the
// stream whose file had no room. That there is room again neither learns. Only the restart
// of its process mends that, so it has to be told (N6).

const roomBeat = time.Second

// keeps says that the server keeps messages, as far as is known.
func (s *Server) keeps() bool { return s.inner.JetStreamEnabled() && !s.full.Load() }

// watchRoom tells, once, when the server has stopped keeping messages.
func (s *Server) watchRoom(ctx context.Context) {
	beat := time.NewTicker(roomBeat)
	defer beat.Stop()
	for s.keeps() {
		select {
		case <-beat.C:
		case <-ctx.Done():
			return
		}
	}
	s.logger.Error("nats server keeps nothing any more: its disk had no room; make room, and restart this node then", "dir", s.cfg.DataDir)
}
