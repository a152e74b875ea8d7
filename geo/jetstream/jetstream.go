// Package jetstream is geo's delivery log on NATS JetStream: a region's own
// log is one stream in its own servers; another region's log is that region's
// stream, pulled by a plain client through one durable consumer per
// destination region.
//
// It never decides what is missing: whatever the servers lose, it reports a gap
// where it can see one, and clocks find the rest. It does not run servers (see
// geo/natsd) and it does not know what a batch contains.
//
// Names on the wire, for a region called east:
//
//	GEO_east                stream: file, limits retention, discard old
//	geo.east.log.<node>     subject of a node's batches
//	geo.east.to.west.<node> subject of those that only region west gets
//	geo.east.clock.<node>   announcements; core NATS, not stored
//	to_west                 durable consumer of region west
//	$JS.ACK.GEO_east.to_*.> its acknowledgements, to which the log listens, too
//	Atoll-Batch             message header; see header.go
//
// Invariants:
//
//	J1  Stream and consumers are file-backed and never deleted from here, but for the
//	    consumer of a region that was removed (Log.Release).
//	J2  A stream has an id in its metadata; one made anew has another.
//	J3  A consumer made anew, a stream made anew, and a stream that has lost
//	    what was not acknowledged (its beginning, its end, or something between)
//	    are reported as a Gap, also when that happened while nobody pulled.
//	J4  Nothing waits for ever: every request has a deadline and is repeated.
//
// The goroutines of Log and Feed belong to their Run, but for one per batch
// under way, which ends within publishGiveUp.
package jetstream

import (
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
)

const (
	// apiTimeout bounds one request to JetStream. Right after a start the
	// first ones get lost while there is no leader, so it is short.
	apiTimeout = 2 * time.Second
	retryMin   = 100 * time.Millisecond
	retryMax   = 2 * time.Second

	metaID     = "atoll-id"
	metaFormat = "atoll-format"
	format     = "1"
)

func streamName(region string) string       { return "GEO_" + region }
func logSubject(region, node string) string { return "geo." + region + ".log." + node }
func laneSubject(region, to, node string) string {
	return "geo." + region + ".to." + to + "." + node
}
func clockSubject(region, node string) string { return "geo." + region + ".clock." + node }
func durableName(dst string) string           { return "to_" + dst }

// backoff doubles from retryMin to retryMax.
type backoff struct {
	next  time.Duration
	tries int
}

func (b *backoff) reset() { *b = backoff{} }

func (b *backoff) after() <-chan time.Time {
	b.next = min(max(2*b.next, retryMin), retryMax)
	b.tries++
	return time.After(b.next)
}

// level of the log line for one more failure: the first ones pass by
// themselves, what goes on may be a configuration that cannot work.
func (b *backoff) level() hclog.Level {
	if b.tries%30 == 15 {
		return hclog.Warn
	}
	return hclog.Debug
}

// Dial returns a connection to the servers of a region, for a Log or for
// whoever else needs one; dialer, when not nil, makes the connections, and logger
// is told what a person must mend. It does not wait: until a server is found, and whenever none is, what uses the
// connection fails and tries again.
func Dial(name string, servers []string, access Access, dialer nats.CustomDialer, logger hclog.Logger) (*nats.Conn, error) {
	c := &complaints{logger: logger}
	opts := append(append(options(name), access.options()...), c.options()...)
	if dialer != nil {
		opts = append(opts, nats.SetCustomDialer(dialer))
	}
	nc, err := nats.Connect(strings.Join(servers, ","), opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to nats: %w", err)
	}
	return nc, nil
}

// reconnectWait is the least pause before the servers are tried again; up to as
// much is added at random.
const reconnectWait = 500 * time.Millisecond

// options for every connection: for ever in search of a server, and soon aware
// of a silent one.
func options(name string) []nats.Option {
	return []nats.Option{
		nats.Name(name),
		nats.MaxReconnects(-1),
		nats.RetryOnFailedConnect(true),
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.Timeout(5 * time.Second),
		// Servers gossip the addresses they know each other by, which need
		// not lead anywhere from here.
		nats.IgnoreDiscoveredServers(),
		// Batches would otherwise wait in a buffer for an unknown time; a
		// failed append is repeated by the pump.
		nats.ReconnectBufSize(-1),
	}
}
