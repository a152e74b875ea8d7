package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/atolldb/atoll/geo"
)

const (
	// window is how many batches are handled at once.
	window = 32
	// prefetch bounds what waits in the client. Half of it crosses in a round trip at
	// least: 128 batches are 320 a second at 200 ms, which a region of three nodes makes
	// at most, also where one node pulls alone. And it must be taken up within ackWait
	// even when applying is slow, else all of it is applied two or three times, which
	// makes it slower still: a node that pulls has to apply 10 batches a second, of a
	// backlog 640 KiB.
	prefetch      = 128
	prefetchBytes = 32 << 20
	pullExpiry    = 20 * time.Second
	// pullHeartbeat is how often a server says that a pull is still waiting;
	// after two missing ones the handle counts as stalled.
	pullHeartbeat = 2 * time.Second

	ackWait       = 15 * time.Second
	maxAckPending = 4096
	maxWaiting    = 512
	nakMin        = 200 * time.Millisecond
	nakMax        = 5 * time.Second

	// checkBeat is how often stream and consumer are looked at.
	checkBeat = 10 * time.Second
	flushWait = time.Second
	drainWait = 2 * time.Second
	// announcements waiting for a slow handler: more are dropped.
	maxAnnounced      = 256
	maxAnnouncedBytes = 32 << 20
)

// FeedConfig says which log to pull, and for whom.
type FeedConfig struct {
	// Origin is the region whose log it is, Region the one that pulls, Node
	// the puller.
	Origin, Region, Node string
	// URLs are servers of the origin region.
	URLs []string
	// Access to them.
	Access Access
	// Dialer, when not nil, makes the connections.
	Dialer nats.CustomDialer
	// Positions keep how far the region has come; nil forgets it with each Run.
	Positions Positions
}

// Feed is another region's log.
type Feed struct {
	cfg    FeedConfig
	logger hclog.Logger
}

var _ geo.Feed = (*Feed)(nil)

// NewFeed returns a feed; Run connects.
func NewFeed(cfg FeedConfig, logger hclog.Logger) *Feed { return &Feed{cfg, logger} }

// Run pulls until ctx ends; see geo.Feed. It returns an error only when the
// configuration cannot work.
func (f *Feed) Run(ctx context.Context, on geo.FeedHandler) error {
	r := &feedRun{
		Feed: f, ctx: ctx, on: on,
		again: make(chan struct{}, 1),
		slots: make(chan struct{}, window),
	}
	nc, err := r.connect()
	if err != nil {
		return fmt.Errorf("connect to region %s: %w", f.cfg.Origin, err)
	}
	defer nc.Close()
	if r.js, err = jetstream.New(nc); err != nil {
		return fmt.Errorf("connect to region %s: %w", f.cfg.Origin, err)
	}
	sub, err := nc.Subscribe(clockSubject(f.cfg.Origin, "*"), func(m *nats.Msg) { on.Announced(m.Data) })
	if err != nil {
		return fmt.Errorf("listen to region %s: %w", f.cfg.Origin, err)
	}
	if err := sub.SetPendingLimits(maxAnnounced, maxAnnouncedBytes); err != nil {
		return fmt.Errorf("listen to region %s: %w", f.cfg.Origin, err)
	}
	r.recall()
	telling, hush := context.WithCancel(ctx)
	r.handling.Go(func() { r.underway.tell(telling) })
	defer hush()
	var pause backoff
	for ctx.Err() == nil {
		began := time.Now()
		if err := r.session(); err != nil {
			f.logger.Log(pause.level(), "cannot pull", "origin", f.cfg.Origin, "error", err)
		}
		r.link(false)
		// A connection that does not answer may be one whose packets vanish:
		// a new one finds a way sooner than the pings find out.
		if ctx.Err() == nil && nc.IsConnected() && nc.FlushTimeout(apiTimeout) != nil {
			_ = nc.ForceReconnect()
		}
		if time.Since(began) > checkBeat {
			pause.reset()
		}
		select {
		case <-ctx.Done():
		case <-pause.after():
		}
	}
	r.handling.Wait()
	_ = nc.FlushTimeout(flushWait) // acknowledgements; lost ones cost a repetition
	return nil
}

// feedRun is the state of one Run.
type feedRun struct {
	*Feed
	ctx context.Context
	on  geo.FeedHandler
	js  jetstream.JetStream
	// again asks for a check now: the connection came back. One is enough.
	again    chan struct{}
	slots    chan struct{} // one for each batch being handled
	handling sync.WaitGroup
	underway underway
	setback  setback

	linkMu sync.Mutex
	up     bool

	// at is what was last known of the stream.
	at Position
}

func (r *feedRun) connect() (*nats.Conn, error) {
	name := fmt.Sprintf("atoll drain %s of %s", r.cfg.Node, r.cfg.Region)
	c := &complaints{logger: r.logger.With("origin", r.cfg.Origin)}
	opts := append(append(append(options(name), r.cfg.Access.options()...), c.options()...),
		nats.DisconnectErrHandler(func(*nats.Conn, error) { r.link(false) }),
		nats.ReconnectHandler(func(*nats.Conn) { r.look() }),
	)
	if r.cfg.Dialer != nil {
		opts = append(opts, nats.SetCustomDialer(r.cfg.Dialer))
	}
	return nats.Connect(strings.Join(r.cfg.URLs, ","), opts...)
}

// link tells the handler, once per change.
func (r *feedRun) link(up bool) {
	r.linkMu.Lock()
	defer r.linkMu.Unlock()
	if r.up != up {
		r.up = up
		r.on.Link(up)
	}
}

func (r *feedRun) look() {
	select {
	case r.again <- struct{}{}:
	default:
	}
}

// session pulls through one consumer handle until ctx ends or the handle is of
// no use any more.
func (r *feedRun) session() error {
	consumer, err := r.bind()
	if err != nil {
		return err
	}
	// stalled receives what ended the handle; the first word is enough.
	stalled := make(chan error, 1)
	handle, err := consumer.Consume(r.receive,
		jetstream.PullMaxMessagesWithBytesLimit(prefetch, prefetchBytes),
		jetstream.PullExpiry(pullExpiry),
		jetstream.PullHeartbeat(pullHeartbeat),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			if isStall(err) {
				select {
				case stalled <- err:
				default:
				}
			}
		}))
	if err != nil {
		return fmt.Errorf("consume: %w", err)
	}
	defer r.leave(handle)
	r.link(true)
	beat := time.NewTicker(checkBeat)
	defer beat.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return nil
		case err := <-stalled:
			return fmt.Errorf("handle stalled: %w", err)
		case <-handle.Closed():
			return errors.New("handle closed")
		case <-beat.C:
		case <-r.again:
		}
		// An origin that does not answer is a matter for the connection and
		// the heartbeats; what it answers matters here.
		if _, err := r.bind(); err == nil {
			r.link(true)
		} else if errors.Is(err, errNoStream) {
			return err
		}
	}
}

// leave ends a handle. On an orderly end what waits in the client is handed
// back, so that it need not wait for ackWait; a handle that stalled has nothing
// waiting, and a connection that is dead would not answer.
func (r *feedRun) leave(handle jetstream.ConsumeContext) {
	if r.ctx.Err() != nil && r.js.Conn().IsConnected() {
		handle.Drain()
		select {
		case <-handle.Closed():
			return
		case <-time.After(drainWait):
		}
	}
	handle.Stop()
}

func isStall(err error) bool {
	for _, end := range []error{
		jetstream.ErrNoHeartbeat, jetstream.ErrConsumerDeleted, jetstream.ErrConsumerNotFound,
		jetstream.ErrBadRequest, jetstream.ErrConnectionClosed, jetstream.ErrConsumerLeadershipChanged,
		nats.ErrNoResponders,
	} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}
