package jetstream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/atolldb/atoll/geo"
)

const (
	defaultMaxBytes = 4 << 30
	defaultMaxAge   = 72 * time.Hour
	maxConsumers    = 64
	dedupeWindow    = 2 * time.Minute
	// lookBeat is how often a node looks whether the stream is there.
	lookBeat = 30 * time.Second

	// publishTimeout is how long a batch waits for its confirmation, and
	// publishGiveUp when its goroutine stops believing that the client
	// library will say so.
	publishTimeout = 5 * time.Second
	publishGiveUp  = 3 * publishTimeout
	// publishPending is above what a pump has under way, so that Append never
	// stalls in the library.
	publishPending = 1024
)

// LogConfig describes the own region's log.
type LogConfig struct {
	// Region owns the log, Node publishes to it.
	Region, Node string
	// Replicas of the stream: 1 on a standalone server, else 3.
	Replicas int
	// MaxBytes bounds the stream; the oldest batches go first. 0 means 4 GiB.
	// It must be below the servers' store bound.
	MaxBytes int64
	// MaxAge of a batch; 0 means 72 h.
	MaxAge time.Duration
}

// Log is the own region's log.
type Log struct {
	cfg    LogConfig
	nc     *nats.Conn
	js     jetstream.JetStream
	logger hclog.Logger
	// missing says that a publish found no stream; one is enough.
	missing chan struct{}
	ready   chan struct{}
	// appended counts; unwanted and sated are what the last look at the consumers
	// came to: nobody takes anything, or those who do have enough to take.
	appended atomic.Uint64
	unwanted atomic.Bool
	sated    atomic.Bool
	silence  geo.Silence
	heard    atomic.Uint64 // counts what silence was told of
	state    atomic.Pointer[geo.LogState]
	// released are the consumers of regions that were removed; look asks for a look
	// at the consumers now, one is enough.
	released atomic.Pointer[[]string]
	look     chan struct{}
}

var (
	_ geo.Log    = (*Log)(nil)
	_ geo.Stated = (*Log)(nil)
)

// NewLog returns a log on nc, a connection to the own region's servers. Run
// makes the stream; until then appends fail.
func NewLog(cfg LogConfig, nc *nats.Conn, logger hclog.Logger) (*Log, error) {
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = defaultMaxBytes
	}
	if cfg.MaxAge == 0 {
		cfg.MaxAge = defaultMaxAge
	}
	js, err := jetstream.New(nc,
		jetstream.WithPublishAsyncMaxPending(publishPending),
		jetstream.WithPublishAsyncTimeout(publishTimeout))
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", cfg.Region, err)
	}
	return &Log{
		cfg: cfg, nc: nc, js: js, logger: logger,
		missing: make(chan struct{}, 1), ready: make(chan struct{}), look: make(chan struct{}, 1),
	}, nil
}

// Ready is closed when the stream exists.
func (l *Log) Ready() <-chan struct{} { return l.ready }

// Run makes the stream, and makes it again should it vanish, until ctx ends.
func (l *Log) Run(ctx context.Context) error {
	var watch sync.WaitGroup
	defer watch.Wait()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	watch.Go(func() { l.watchTakers(watching) })
	defer l.hear()()
	beat := time.NewTicker(lookBeat)
	defer beat.Stop()
	var pause backoff
	// Bounds are brought into line once: nodes whose bounds differ, while they
	// are changed, do not take turns.
	align := true
	for {
		switch err := l.ensure(ctx, align); {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			l.logger.Log(pause.level(), "cannot make stream", "region", l.cfg.Region, "error", err)
			select {
			case <-pause.after():
			case <-ctx.Done():
				return nil
			}
			continue
		}
		pause.reset()
		align = false
		select {
		case <-l.ready:
		default:
			close(l.ready)
		}
		select {
		case <-l.missing:
		case <-beat.C: // while nothing is appended nobody else would notice
		case <-ctx.Done():
			return nil
		}
	}
}

// ensure makes the stream, or brings the one there is into line if align is set.
func (l *Log) ensure(ctx context.Context, align bool) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	stream, err := l.js.Stream(ctx, streamName(l.cfg.Region))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		id := nuid.Next()
		_, err = l.js.CreateStream(ctx, l.config(map[string]string{metaID: id, metaFormat: format}))
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return nil // another node was first
		}
		if err == nil {
			l.logger.Info("made stream", "region", l.cfg.Region, "id", id, "replicas", l.cfg.Replicas)
		}
		return err
	}
	if err != nil {
		return err
	}
	have := stream.CachedInfo().Config
	if f := have.Metadata[metaFormat]; f != format {
		return fmt.Errorf("stream has format %q, this is %s", f, format)
	}
	want := l.config(maps.Clone(have.Metadata))
	if !align || slices.Equal(have.Subjects, want.Subjects) && have.Replicas == want.Replicas && have.MaxBytes == want.MaxBytes && have.MaxAge == want.MaxAge && have.MaxMsgSize == want.MaxMsgSize {
		return nil
	}
	_, err = l.js.UpdateStream(ctx, want)
	return err
}

func (l *Log) config(metadata map[string]string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:     streamName(l.cfg.Region),
		Subjects: []string{logSubject(l.cfg.Region, "*"), laneSubject(l.cfg.Region, "*", "*")},
		// A destination that is away must not pin the disk, and a full log
		// must not fail local writes: the oldest batches go.
		Retention:    jetstream.LimitsPolicy,
		Discard:      jetstream.DiscardOld,
		Storage:      jetstream.FileStorage,
		Replicas:     max(l.cfg.Replicas, 1),
		MaxBytes:     l.cfg.MaxBytes,
		MaxAge:       l.cfg.MaxAge,
		MaxMsgSize:   geo.MaxMessage,
		MaxConsumers: maxConsumers,
		Duplicates:   dedupeWindow,
		DenyDelete:   true,
		AllowDirect:  false, // any replica would answer, with the past
		Metadata:     metadata,
	}
}

// Append publishes b and returns at once; see geo.Log.
func (l *Log) Append(b geo.Batch, done func(error)) {
	l.appended.Add(1)
	subject := logSubject(l.cfg.Region, b.Header.Node)
	if b.To != "" {
		subject = laneSubject(l.cfg.Region, b.To, b.Header.Node)
	}
	msg := nats.NewMsg(subject)
	msg.Header.Set(headerName, encodeHeader(b.Header))
	msg.Data = b.Data
	future, err := l.js.PublishMsgAsync(msg,
		jetstream.WithMsgID(b.Header.ID()),
		jetstream.WithExpectStream(streamName(l.cfg.Region)))
	if err != nil {
		go done(l.explain(err))
		return
	}
	go func() {
		giveUp := time.NewTimer(publishGiveUp)
		defer giveUp.Stop()
		select {
		case <-future.Ok():
			l.silence.Appended(time.Now())
			done(nil)
		case err := <-future.Err():
			done(l.explain(err))
		case <-giveUp.C:
			done(errors.New("publish batch: no answer"))
		}
	}()
}

// explain turns a publish error into the terms of geo.Log.
func (l *Log) explain(err error) error {
	switch {
	case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, jetstream.ErrStreamMessageExceedsMaximum):
		return fmt.Errorf("publish batch: %w: %w", geo.ErrTooLarge, err)
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrStreamNotFound):
		select {
		case l.missing <- struct{}{}:
		default:
		}
	}
	return fmt.Errorf("publish batch: %w", err)
}

// Announce publishes data to whoever listens now.
func (l *Log) Announce(data []byte) error {
	if err := l.nc.Publish(clockSubject(l.cfg.Region, l.cfg.Node), data); err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	return nil
}
