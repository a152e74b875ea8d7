package natsd

// TurnOff does to a server of a cluster what it does itself when its disk is full.
func (s *Server) TurnOff() error { return s.inner.ShutdownJetStream() }

// Keeps says that the server keeps messages.
func (s *Server) Keeps() bool { return s.keeps() }
