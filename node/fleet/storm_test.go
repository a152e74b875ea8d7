package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/topology"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// mute is a network that loses the answer to the first attempt of every write:
// what comes back is the answer to a retry. On streams the client hears nothing, or
// (told) that the outcome is unknown, as when the node that it asked has lost the
// answer of the one that minted. A single call breaks off.
type mute struct {
	told          bool
	lost, retries atomic.Int64
}

func (m *mute) options() client.Option {
	return client.DialOptions(grpc.WithChainStreamInterceptor(
		func(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, method string, next grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			s, err := next(ctx, d, cc, method, opts...)
			if err != nil {
				return s, err
			}
			return &muteStream{ClientStream: s, m: m, first: map[uint64]bool{}}, nil
		}))
}

type muteStream struct {
	grpc.ClientStream
	m     *mute
	mu    sync.Mutex
	first map[uint64]bool // of the writes that were sent, whether it was not a retry
}

// wrote notes a write; a single call has number 0.
func (s *muteStream) wrote(id uint64, req any) {
	switch q := req.(type) {
	case *atollv1.PutRequest:
		s.first[id] = !q.Retry
	case *atollv1.DeleteRequest:
		s.first[id] = !q.Retry
	case *atollv1.StreamCall_Put:
		s.wrote(id, q.Put)
	case *atollv1.StreamCall_Delete:
		s.wrote(id, q.Delete)
	}
}

// loses reports whether an answer gets lost.
func (s *muteStream) loses(id uint64) bool {
	first, write := s.first[id]
	delete(s.first, id)
	switch {
	case first:
		s.m.lost.Add(1)
	case write:
		s.m.retries.Add(1)
	}
	return first
}

func (s *muteStream) SendMsg(msg any) error {
	s.mu.Lock()
	s.wrote(0, msg)
	if q, ok := msg.(*atollv1.StreamRequest); ok {
		for _, call := range q.Calls {
			s.wrote(call.Id, call.Op)
		}
	}
	s.mu.Unlock()
	return s.ClientStream.SendMsg(msg)
}

func (s *muteStream) RecvMsg(msg any) error {
	if err := s.ClientStream.RecvMsg(msg); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := msg.(*atollv1.StreamResponse)
	if !ok {
		if s.loses(0) {
			return status.Error(codes.Unavailable, "connection reset by peer")
		}
		return nil
	}
	kept := a.Replies[:0]
	for _, r := range a.Replies {
		if s.loses(r.Id) {
			if !s.m.told {
				continue
			}
			r.Result = &atollv1.StreamReply_Error{Error: &atollv1.Error{
				Code: uint32(codes.Unknown), Reason: atollv1.Reason_REASON_UNKNOWN_OUTCOME, Outcome: "unknown", Message: "no answer of the node that mints",
			}}
		}
		kept = append(kept, r)
	}
	a.Replies = kept
	return nil
}

// stormLevels are those at which a write that is sent again is one event. Beyond the
// region a client waits for the first answer as long as it has time: there it has to
// be told.
var stormLevels = []struct {
	client.Level
	told bool
	from topology.Region
}{
	{client.LocalTwo, false, "eu"},
	{client.LocalQuorum, false, "eu"},
	{client.LocalQuorum, true, "eu"},
	{client.LocalAll, false, "eu"},
	{client.Quorum, true, "eu"},
	{client.EachQuorum, true, "eu"},
	{client.All, true, "eu"},
	{client.LocalSerial, false, "eu"},
	{client.LocalSerial, true, "eu"},
	{client.Serial, false, stormHome},
	{client.Serial, true, "us"},
}

// stormBucket has stormHome as its home.
const (
	stormBucket = "storm"
	stormHome   = "eu"
)

// storm writes in every way there is, and keeps count of the events that have to
// come of it.
type storm struct {
	t      *testing.T
	ctx    context.Context
	c      *client.Client
	level  client.Level
	space  int // of keys
	events atomic.Int64
	// replayed and doubtful answers.
	replayed, doubtful atomic.Int64
	// unknown outcomes that a client was told, and wrote again.
	unknown atomic.Int64
}

func (s *storm) key(name string) string { return fmt.Sprintf("%d/%s", s.space, name) }

func (s *storm) wrote(info *client.Info, err error) {
	s.t.Helper()
	if err != nil {
		s.t.Errorf("%v: %v", s.level, err)
		return
	}
	s.events.Add(1)
	if info.Attempts < 2 {
		s.t.Errorf("%v: an answer to a first attempt came through", s.level)
	}
	if info.Replayed {
		s.replayed.Add(1)
	}
	if info.MaybeDuplicate {
		s.doubtful.Add(1)
	}
}

// write does it again, as a client would, while its outcome is not known: on a machine
// that is busy nodes take each other for down now and then.
func (s *storm) write(do func(...client.WriteOption) (client.Version, error), opts ...client.WriteOption) client.Version {
	s.t.Helper()
	var info client.Info
	opts = append(slices.Clone(opts), s.level, client.Explain(&info))
	v, err := do(opts...)
	for errors.Is(err, client.ErrUnknownOutcome) && s.ctx.Err() == nil {
		var e *client.Error
		if !errors.As(err, &e) {
			break
		}
		s.unknown.Add(1)
		v, err = do(append(slices.Clone(opts), client.Again(e.RequestID).TriedIn(e.TriedIn...))...)
		info.Attempts++ // the first one was lost, see mute
	}
	s.wrote(&info, err)
	return v
}

func (s *storm) put(name, value string, opts ...client.WriteOption) client.Version {
	s.t.Helper()
	return s.write(func(o ...client.WriteOption) (client.Version, error) {
		return s.c.Put(s.ctx, s.key(name), []byte(value), o...)
	}, opts...)
}

func (s *storm) del(name string, opts ...client.WriteOption) client.Version {
	s.t.Helper()
	return s.write(func(o ...client.WriteOption) (client.Version, error) {
		return s.c.Delete(s.ctx, s.key(name), o...)
	}, opts...)
}

// holds fails unless the key has exactly these values, each once.
func (s *storm) holds(name string, want ...string) {
	s.t.Helper()
	level := client.LocalAll
	if s.level == client.Serial { // the home may be elsewhere
		level = client.Serial
	}
	obj, err := s.c.Get(s.ctx, s.key(name), level)
	if err != nil && !errors.Is(err, client.ErrNotFound) && !errors.Is(err, client.ErrSiblings) {
		s.t.Errorf("%v: %s: %v", s.level, name, err)
		return
	}
	got := map[string]int{}
	for _, v := range obj.Siblings() {
		if !v.Deleted {
			got[clip(string(v.Value))]++
		}
	}
	wrong := len(got) != len(want)
	for _, w := range want {
		wrong = wrong || got[clip(w)] != 1
	}
	if wrong {
		s.t.Errorf("%v: %s holds %v, want each once of %d", s.level, name, got, len(want))
	}
}

func clip(s string) string { return fmt.Sprintf("%.20s(%d)", s, len(s)) }

// blow does all of it once, as worker w.
func (s *storm) blow(w int) {
	name := func(of string) string { return fmt.Sprintf("%s/%d", of, w) }

	var blind []string
	for i := range 4 { // siblings, none twice
		blind = append(blind, strconv.Itoa(i))
		s.put(name("blind"), strconv.Itoa(i))
	}
	if s.level == client.LocalSerial || s.level == client.Serial { // there each replaces what is there
		blind = blind[len(blind)-1:]
	}
	s.holds(name("blind"), blind...)
	s.put(name("blind"), "over", client.Overwrite())
	s.holds(name("blind"), "over")

	v := s.put(name("count"), "0", client.IfAbsent()) // a counter by compare-and-set
	for i := 1; i <= 4; i++ {
		v = s.put(name("count"), strconv.Itoa(i), client.IfUnchanged(v))
	}
	s.holds(name("count"), "4")
	s.del(name("count"), client.IfPresent())
	s.holds(name("count"))
	s.put(name("count"), "again", client.IfAbsent())
	s.holds(name("count"), "again")

	v = s.put(name("chain"), "1")
	v = s.put(name("chain"), "2", client.After(v))
	v = s.del(name("chain"), client.After(v))
	s.holds(name("chain"))
	s.put(name("chain"), "3", client.After(v))
	s.holds(name("chain"), "3")
	s.del(name("chain")) // which looks first
	s.holds(name("chain"))

	large := strings.Repeat("x", 100<<10) // goes by a call of its own
	v = s.put(name("large"), large)
	s.holds(name("large"), large)
	s.del(name("large"), client.After(v))
	s.holds(name("large"))
}

// All writes are sent twice, since the answer to each first attempt is lost: there
// is one event for each, no sibling shows twice, and what follows or deletes a
// write finds exactly that.
func TestRetryStorm(t *testing.T) {
	f, ctx := start(t, fleet.Config{Regions: []topology.Region{"eu", "us"}})
	operator, err := client.Open(ctx, strings.Join(f.Endpoints(stormHome), ","))
	if err != nil {
		t.Fatal(err)
	}
	defer operator.Close() //nolint:errcheck // nothing is under way
	if _, err := operator.Buckets().Create(ctx, client.BucketInfo{Name: stormBucket, Home: stormHome}); err != nil {
		t.Fatal(err)
	}
	for i, level := range stormLevels {
		t.Run(fmt.Sprintf("%v told %v from %s", level, level.told, level.from), func(t *testing.T) {
			network := &mute{told: level.told}
			c, err := client.Open(ctx, strings.Join(f.Endpoints(level.from), ","), network.options(), client.Bucket(stormBucket), client.HedgeWrites(40*time.Millisecond), client.Timeout(20*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close() //nolint:errcheck // nothing is under way
			eventually(t, ctx, "all is the same everywhere", func() bool { return f.Converged() == nil })
			before := clocks(f)
			s := &storm{t: t, ctx: ctx, c: c, level: level.Level, space: i}
			var all sync.WaitGroup
			for w := range 4 {
				all.Go(func() { s.blow(w) })
			}
			all.Wait()
			eventually(t, ctx, "all is the same everywhere", func() bool { return f.Converged() == nil })
			minted := uint64(0)
			for p, now := range clocks(f) {
				minted += before[p].CountMissing(now)
			}
			if want := uint64(s.events.Load()); minted != want {
				t.Errorf("%d writes became %d events", want, minted)
			}
			// On a slow machine some retries overtake their first attempts, which are
			// refused then.
			if n := int64(minted); network.lost.Load() < n/2 || network.retries.Load() < n {
				t.Errorf("%d answers lost, %d retries of %d writes: the test shows nothing", network.lost.Load(), network.retries.Load(), minted)
			}
			t.Logf("%d writes, %d answers lost, %d replayed, %d said to be there twice, perhaps, %d written again by the client", minted, network.lost.Load(), s.replayed.Load(), s.doubtful.Load(), s.unknown.Load())
		})
	}
}

// clocks of all partitions, by whoever has them: nodes have converged.
func clocks(f *fleet.Fleet) map[hashring.Partition]*crdt.Clock {
	out := map[hashring.Partition]*crdt.Clock{}
	for _, id := range f.Nodes() {
		r := f.Process(id).Node().Replica()
		for _, p := range r.Owned() {
			if out[p] == nil {
				out[p] = r.Clock(p).Clone()
			}
		}
	}
	return out
}
