package api

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/status"

	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/overload"
	"github.com/atolldb/atoll/node/topology"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// KVService serves atoll.v1.KV.
type KVService struct {
	atollv1.UnimplementedKVServer
	wire
	coord  Coordinator
	log    hclog.Logger
	limits *limiter
	hot    *hotCounter
	awaits atomic.Int64 // calls of AwaitReplication that wait
	// mapNumber is that of the map of regions, for clients that follow it; nil for none.
	mapNumber func() uint64
	// encoded is the last refusal on a stream: most are equal.
	encoded atomic.Pointer[encodedRefusal]

	stopping chan struct{}
	stop     sync.Once
	streams  sync.WaitGroup // one for each stream's receiver and sender
	entry    sync.RWMutex   // orders streams.Add before streams.Wait
}

// NewKVService serves clients of region. regionName names the region of an
// actor; it is called for every sibling of every reply and must be quick.
func NewKVService(
	c Coordinator, region topology.Region, regionName func(topology.RegionID) topology.Region, log hclog.Logger,
) *KVService {
	return &KVService{
		wire:     wire{region: string(region), regionName: regionName},
		coord:    c,
		log:      log,
		limits:   newLimiter(overload.Config{}),
		hot:      newHotCounter(),
		stopping: make(chan struct{}),
	}
}

// SetLimits replaces the bounds of what runs and waits at a time. Call it
// before the service serves anybody; without it the defaults hold.
func (s *KVService) SetLimits(cfg overload.Config) { s.limits = newLimiter(cfg) }

// Drain refuses new calls with STOPPING from now on and ends each stream when
// what it had started is answered. It returns when the streams have ended, or
// with ctx's error. Unary calls are the gRPC server's to wait for.
func (s *KVService) Drain(ctx context.Context) error {
	s.stop.Do(func() {
		s.entry.Lock()
		close(s.stopping)
		s.entry.Unlock()
	})
	ended := make(chan struct{})
	go func() {
		s.streams.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *KVService) isStopping() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

// deadline of a unary call.
func deadline(ctx context.Context) time.Time {
	now := time.Now()
	d, ok := ctx.Deadline()
	if !ok {
		return now.Add(coord.DefaultTimeout)
	}
	if most := now.Add(coord.MaxTimeout); d.After(most) {
		return most
	}
	return d
}

func (s *KVService) Get(ctx context.Context, q *atollv1.GetRequest) (*atollv1.GetResponse, error) {
	if s.isStopping() {
		return nil, ToStatus(stopping()).Err()
	}
	g, bad := parseGet(q, deadline(ctx))
	if bad != nil {
		return nil, ToStatus(bad).Err()
	}
	type answer struct {
		r   coord.GetResult
		err error
	}
	ch := make(chan answer, 1)
	s.get(time.Now(), connection(ctx), getSize(&g), g, func(r coord.GetResult, err error) { ch <- answer{r, err} })
	select {
	case a := <-ch:
		if a.err != nil {
			return nil, s.errorStatus(classify(a.err, false)).Err()
		}
		return s.getResponse(a.r), nil
	case <-ctx.Done(): // nobody reads the answer any more
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

func (s *KVService) Put(ctx context.Context, q *atollv1.PutRequest) (*atollv1.PutResponse, error) {
	if s.isStopping() {
		return nil, ToStatus(ofRequest(stopping(), q.Retry)).Err()
	}
	p, bad := parsePut(q, deadline(ctx))
	if bad != nil {
		return nil, ToStatus(bad).Err()
	}
	r, err := s.write(ctx, p)
	if err != nil {
		return nil, err
	}
	return s.putResponse(r), nil
}

func (s *KVService) Delete(ctx context.Context, q *atollv1.DeleteRequest) (*atollv1.DeleteResponse, error) {
	if s.isStopping() {
		return nil, ToStatus(ofRequest(stopping(), q.Retry)).Err()
	}
	p, bad := parseDelete(q, deadline(ctx))
	if bad != nil {
		return nil, ToStatus(bad).Err()
	}
	r, err := s.write(ctx, p)
	if err != nil {
		return nil, err
	}
	return s.deleteResponse(r), nil
}

// write waits for a put; its error is a status.
func (s *KVService) write(ctx context.Context, p coord.Put) (coord.PutResult, error) {
	type answer struct {
		r   coord.PutResult
		err error
	}
	ch := make(chan answer, 1)
	s.put(time.Now(), connection(ctx), putSize(&p), p, func(r coord.PutResult, err error) { ch <- answer{r, err} })
	select {
	case a := <-ch:
		if a.err != nil {
			return coord.PutResult{}, s.errorStatus(classify(a.err, true)).Err()
		}
		return a.r, nil
	case <-ctx.Done(): // the client's clock may be behind: this is read then
		return coord.PutResult{}, ToStatus(&coord.Error{
			Code: coord.CodeDeadline, Outcome: coord.Unknown, MaybeDuplicate: p.Retry, Detail: ctx.Err().Error(),
		}).Err()
	}
}

// holds is about what an operation takes besides its key, value and context.
const holds = 64

func putSize(p *coord.Put) int {
	return holds + len(p.Key) + len(p.Value) + len(p.Context) + len(p.Session)
}

func getSize(g *coord.Get) int { return holds + len(g.Key) + len(g.Session) }
