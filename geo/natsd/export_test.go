package natsd

import "time"

// TurnOff does to a server of a cluster what it does itself when its disk is full.
func (s *Server) TurnOff() error { return s.inner.ShutdownJetStream() }

// Keeps says that the server keeps messages.
func (s *Server) Keeps() bool { return s.keeps() }

// RestFor has the server left off for at least d. Call it before Run.
func (s *Server) RestFor(d time.Duration) { s.rest = d }
