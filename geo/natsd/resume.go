package natsd

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atolldb/atoll/geo"
)

// A NATS server that finds no room on its disk stops keeping messages for as long as it
// lives: one of a cluster turns its JetStream off, a single one fails each write to the
// stream whose file had no room. That there is room again neither learns. A region whose
// disks have all been full would be without metadata, and without its log, until somebody
// restarts the nodes. So the server is looked at, and JetStream in it is begun anew (N6).

const (
	resumeBeat = time.Second
	// resumeRest is for how long a server that has stopped is left alone at least, each
	// time: turning JetStream off goes on for up to 12 s after it says that it is off, and
	// has to be over.
	resumeRest = 15 * time.Second
	// resumeRoom is what has to be free: the largest message.
	resumeRoom = geo.MaxMessage
)

// keeps says that the server keeps messages, as far as is known.
func (s *Server) keeps() bool { return s.inner.JetStreamEnabled() && !s.full.Load() }

// watchRoom tells when the server has stopped keeping messages, and has it go on when
// there is room.
func (s *Server) watchRoom(ctx context.Context) {
	beat := time.NewTicker(resumeBeat)
	defer beat.Stop()
	var since time.Time // when it was seen to have stopped, or told in vain to go on; zero while it keeps messages
	for {
		var now time.Time
		select {
		case now = <-beat.C:
		case <-ctx.Done():
			return
		}
		switch {
		case s.keeps():
			if !since.IsZero() {
				s.logger.Info("nats server keeps messages again")
			}
			since = time.Time{}
		case since.IsZero():
			since = now
			s.logger.Error("nats server has stopped keeping messages: its disk has no room; make room, and it goes on by itself",
				"dir", s.cfg.DataDir, "needs-bytes", resumeRoom)
		case now.Sub(since) >= s.rest:
			if err := s.resume(); err != nil {
				s.logger.Debug("nats server does not go on yet", "error", err)
			}
			since = now
		}
	}
}

// resume begins JetStream anew where there is room, on what it has kept.
func (s *Server) resume() error {
	var st unix.Statfs_t
	if err := unix.Statfs(s.cfg.DataDir, &st); err != nil {
		return fmt.Errorf("statfs %s: %w", s.cfg.DataDir, err)
	}
	if free := int64(st.Bavail) * int64(st.Bsize); free < resumeRoom {
		return fmt.Errorf("%d bytes are free, %d are needed", free, resumeRoom)
	}
	if err := s.inner.ShutdownJetStream(); err != nil { // nothing where it is off
		return fmt.Errorf("turn jetstream off: %w", err)
	}
	opts, err := s.options()
	if err != nil {
		return err
	}
	s.full.Store(false)
	// Nothing in them is new, but that JetStream is wanted and is not there.
	if err := s.inner.ReloadOptions(opts); err != nil {
		return fmt.Errorf("turn jetstream on: %w", err)
	}
	return nil
}
