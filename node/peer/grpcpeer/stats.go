package grpcpeer

import "sync/atomic"

// Stats counts what went over the links with one peer since the start.
type Stats struct {
	// Frames and messages (requests one way, replies the other), and the
	// bytes of the frames as packed, without what HTTP/2, TLS and TCP add.
	FramesOut, MessagesOut, BytesOut uint64
	FramesIn, MessagesIn, BytesIn    uint64
	// Sessions counts those that came up.
	Sessions uint64
	// Refused counts messages that were over a bound (G3).
	Refused uint64
	// Pending is how many requests are queued or await their reply (client),
	// or the handler has not replied to (server), now.
	Pending int
	// Up says that there is a session now.
	Up bool
}

// counters are Stats in the making.
type counters struct {
	framesOut, messagesOut, bytesOut atomic.Uint64
	framesIn, messagesIn, bytesIn    atomic.Uint64
	sessions, refused                atomic.Uint64
}

func (c *counters) out(messages, bytes int) {
	c.framesOut.Add(1)
	c.messagesOut.Add(uint64(messages))
	c.bytesOut.Add(uint64(bytes))
}

func (c *counters) in(messages, bytes int) {
	c.framesIn.Add(1)
	c.messagesIn.Add(uint64(messages))
	c.bytesIn.Add(uint64(bytes))
}

func (c *counters) stats() Stats {
	return Stats{
		FramesOut: c.framesOut.Load(), MessagesOut: c.messagesOut.Load(), BytesOut: c.bytesOut.Load(),
		FramesIn: c.framesIn.Load(), MessagesIn: c.messagesIn.Load(), BytesIn: c.bytesIn.Load(),
		Sessions: c.sessions.Load(), Refused: c.refused.Load(),
	}
}
