package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/geo/geotest"
	"github.com/atolldb/atoll/geo/jetstream"
	"github.com/atolldb/atoll/geo/natsd/natsdtest"
)

// world is region east on real servers, seen from west through a gate.
type world struct {
	t     testing.TB
	nodes []*natsdtest.Node
	log   *jetstream.Log
	gate  jetstream.Gate
	admin natsjs.JetStream
	feeds int
}

func newWorld(t testing.TB, nodes []*natsdtest.Node) *world {
	t.Helper()
	w := &world{t: t, nodes: nodes}
	nc := nodes[0].Client(t)
	log, err := jetstream.NewLog(jetstream.LogConfig{Region: "east", Node: "east-1", Replicas: len(nodes), MaxBytes: 1 << 30}, nc, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	w.log = log
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- log.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("log: %v", err)
		}
	})
	select {
	case <-log.Ready():
	case <-time.After(30 * time.Second):
		t.Fatal("log is not ready")
	}
	if w.admin, err = natsjs.New(nodes[0].Client(t)); err != nil {
		t.Fatal(err)
	}
	return w
}

func solo(t *testing.T) *world {
	return newWorld(t, []*natsdtest.Node{natsdtest.Solo(t, "east", t.TempDir())})
}

func (w *world) Log() geo.Log { return w.log }

func (w *world) Feed() geo.Feed {
	w.feeds++
	return jetstream.NewFeed(jetstream.FeedConfig{
		Origin: "east", Region: "west", Node: fmt.Sprintf("west-%d", w.feeds), URLs: w.urls(), Dialer: &w.gate,
	}, hclog.NewNullLogger())
}

func (w *world) urls() (urls []string) {
	for _, n := range w.nodes {
		urls = append(urls, n.ClientURL())
	}
	return urls
}

func (w *world) Cut(cut bool) { w.gate.Shut(cut) }

func (w *world) Forget() {
	stream, err := w.admin.Stream(w.t.Context(), "GEO_east")
	if err == nil {
		err = stream.Purge(w.t.Context())
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) Recreate() {
	if err := w.admin.DeleteStream(w.t.Context(), "GEO_east"); err != nil {
		w.t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	for _, c := range geotest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			c.Run(t, solo(t))
		})
	}
}

func TestStreamSettings(t *testing.T) {
	w := solo(t)
	stream, err := w.admin.Stream(t.Context(), "GEO_east")
	if err != nil {
		t.Fatal(err)
	}
	c := stream.CachedInfo().Config
	if c.Storage != natsjs.FileStorage || c.Discard != natsjs.DiscardOld || c.Retention != natsjs.LimitsPolicy ||
		!c.DenyDelete || c.AllowDirect || c.MaxAge != 72*time.Hour || c.MaxMsgSize != geo.MaxMessage || c.Metadata["atoll-id"] == "" {
		t.Fatalf("stream is %+v", c)
	}
	// A node with another bound changes the stream and keeps its id.
	log, err := jetstream.NewLog(jetstream.LogConfig{Region: "east", Node: "east-2", MaxBytes: 2 << 30}, w.nodes[0].Client(t), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- log.Run(ctx) }()
	<-log.Ready()
	cancel()
	<-done
	info, err := stream.Info(t.Context())
	if err != nil || info.Config.MaxBytes != 2<<30 || info.Config.Metadata["atoll-id"] != c.Metadata["atoll-id"] {
		t.Fatalf("stream is %+v, %v", info.Config, err)
	}
}

// A message up to the bound passes; one above it is refused for good.
func TestLargestMessage(t *testing.T) {
	w := solo(t)
	body := make([]byte, geo.MaxBody-200)
	for i := range body {
		body[i] = byte(i * i >> 8)
	}
	send := func(data []byte) error {
		done := make(chan error, 1)
		w.log.Append(geo.Batch{Header: geo.Header{
			Origin: "east", Node: "east-1", Incarnation: 65, Session: 1, Number: 1, Count: 1, Codec: geo.CodecNone,
		}, Data: data}, func(err error) { done <- err })
		return <-done
	}
	if err := send(body); err != nil {
		t.Fatal(err)
	}
	got := make(chan int, 1)
	feed := w.Feed()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- feed.Run(ctx, sizes(got)) }()
	select {
	case n := <-got:
		if n != len(body) {
			t.Errorf("%d bytes came", n)
		}
	case <-time.After(20 * time.Second):
		t.Error("the largest message never came")
	}
	cancel()
	<-ended
	if err := send(make([]byte, geo.MaxMessage+1)); err == nil || !errors.Is(err, geo.ErrTooLarge) {
		t.Errorf("above the bound: %v", err)
	}
}

type sizes chan int

func (s sizes) Batch(_ context.Context, b geo.Batch) error { s <- len(b.Data); return nil }
func (s sizes) Announced([]byte)                           {}
func (s sizes) Gap(string)                                 {}
func (s sizes) Link(bool)                                  {}
