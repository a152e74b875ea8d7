// Package grpcpeer carries package peer over gRPC: between a dialler and a
// peer there is one session, which is a pair of long-lived bidirectional
// streams, each on its own connection: one for small messages and one for
// those above peer.LargeMessage. Requests go from the dialler to the peer,
// replies come back; for the other direction the peer dials a session of its
// own.
//
// A unary gRPC call costs some 40 us of CPU on both ends together, most of it
// for setting up a stream. Here messages are packed into frames (the format is
// in package peer): one goroutine a stream takes whatever was queued while the
// last frame was written, up to 1 MiB, and writes it as one frame. Nothing is
// delayed to fill a frame; the goroutine yields once to those that are about
// to queue. The receiver takes a frame apart on the goroutine that reads it.
//
// A reply goes by its own size: a large one to a small request comes back on
// the large stream of the same session. Ids are unique within a Client, so it
// does not matter on which stream a reply comes in.
//
// Invariants, beside P1..P4 of package peer:
//
//	G1  A request is handed to a stream at most once. One that was not yet
//	    handed over ends with ErrNotSent, one that was with ErrLinkLost or
//	    ErrTimeout: what gRPC was given may have arrived.
//	G2  Both streams of a session live and die together.
//	G3  Everything that waits is bounded (limits.go); what is over a bound is
//	    refused at once, with ErrNotSent by the client and CodeOverloaded by
//	    the server.
//	G4  A link is used only after both sides said Hello and agree on wire
//	    version, partitions, and each other's node id and region.
//
// A peer that dies is noticed by its connection's end, within milliseconds. One
// that is cut off is noticed by TCP_USER_TIMEOUT 3 s after unanswered data
// (gRPC sets it), or by the dialler's sign of life: after 5 s of silence it
// sends an empty frame, after 8 s it gives the session up. (gRPC's own
// keepalive cannot ask a server more often than every 10 s; it is left on as
// the guard of the large stream.)
//
// A deadline travels as the time that was left when the frame was packed; what
// a request then waits inside sockets is not counted, clocks are not compared.
//
// Goroutines: Client.Run owns two to serve sends to itself, and for each peer
// that was ever sent to one that dials, one that watches timeouts, and five
// while the session is up (two a stream, one that listens for silence). Beside
// these, each send that fails at once is told so on a goroutine of its own. The
// server's belong to its grpc.Server: three a stream.
package grpcpeer
