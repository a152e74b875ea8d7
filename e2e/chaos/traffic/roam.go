package traffic

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/crdt/session/sessiontest"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// RoamConfig of clients that ask another node, of any region, each time.
type RoamConfig struct {
	// Nodes of all regions, one connection each. They may be down.
	Nodes []grpc.ClientConnInterface
	// Keys with which the deployment signs contexts.
	Keys crdt.Keys
	// Roamers at a time, each with Rate operations per second, on KeyCount keys
	// whose names begin with Prefix. Tokens: they carry the tokens of sessions.
	Roamers  int
	Rate     float64
	KeyCount int
	Prefix   string
	Tokens   bool
	Seed     uint64
}

// sessionLength is after how many operations a roamer begins a new session, so
// that a history can be judged in little time.
const sessionLength = 60

// roamTimeout bounds an operation.
const roamTimeout = 2 * time.Second

// Roam is what such clients did and saw, at LOCAL_ONE.
type Roam struct {
	cfg   RoamConfig
	Tally Tally

	mu  sync.Mutex
	ops []sessiontest.Op
	// moved counts the operations that another node answered than the one before.
	moved int
	odd   []string
}

// NewRoam returns clients that have not begun.
func NewRoam(cfg RoamConfig) *Roam { return &Roam{cfg: cfg} }

// Ops returns what succeeded, for sessiontest.Check, and how many of them another
// node answered than the one before it in its session. odd are answers that
// cannot be right, whatever a session is promised.
func (r *Roam) Ops() (ops []sessiontest.Op, moved int, odd []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ops, r.moved, r.odd
}

// Run works until ctx ends.
func (r *Roam) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for i := range r.cfg.Roamers {
		c := &roamer{r: r, name: fmt.Sprint(r.cfg.Prefix, i), rng: rand.New(rand.NewPCG(r.cfg.Seed, uint64(i)))}
		c.anew()
		wg.Go(func() { c.run(ctx) })
	}
	wg.Wait()
}

type roamer struct {
	r    *Roam
	name string
	rng  *rand.Rand
	// n is the number of the session, left how many operations it still has.
	n, left int
	token   []byte
	held    map[string][]byte // the last context, by key
	at      int               // the node that answered last
}

func (c *roamer) anew() {
	c.n, c.left, c.held, c.token = c.n+1, sessionLength, map[string][]byte{}, nil
	if c.r.cfg.Tokens {
		c.token = session.Begin()
	}
}

func (c *roamer) run(ctx context.Context) {
	tick := time.NewTicker(time.Duration(float64(time.Second) / c.r.cfg.Rate))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.step(context.WithoutCancel(ctx))
		}
	}
}

func (c *roamer) step(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, roamTimeout)
	defer cancel()
	if c.left--; c.left < 0 {
		c.anew()
	}
	at := c.rng.IntN(len(c.r.cfg.Nodes))
	kv := atollv1.NewKVClient(c.r.cfg.Nodes[at])
	key := fmt.Sprint(c.r.cfg.Prefix, c.rng.IntN(c.r.cfg.KeyCount))
	op := sessiontest.Op{Session: fmt.Sprint(c.name, ".", c.n), Key: key}
	began := time.Now()
	var err error
	switch n := c.rng.IntN(10); {
	case n < 5:
		err = c.look(ctx, kv, &op)
	case n < 6:
		err = c.change(ctx, kv, &op, nil)
	default:
		err = c.change(ctx, kv, &op, c.held[key])
	}
	if err != nil {
		c.r.Tally.note(began, named(err), err)
		return
	}
	c.r.Tally.ok.Add(1)
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	c.r.ops = append(c.r.ops, op)
	if at != c.at {
		c.r.moved++
	}
	c.at = at
}

func (c *roamer) look(ctx context.Context, kv atollv1.KVClient, op *sessiontest.Op) error {
	res, err := kv.Get(ctx, &atollv1.GetRequest{Key: []byte(op.Key), Level: atollv1.Level_LEVEL_LOCAL_ONE, Session: c.token})
	if err != nil {
		return err
	}
	c.took(op.Key, res.Session, res.Context)
	seen, err := crdt.DecodeContext(c.r.cfg.Keys, append([]byte("default\x00"), op.Key...), res.Context)
	if err != nil || res.ContextOmitted {
		c.r.wrong("context of %s (omitted: %v): %v", op.Key, res.ContextOmitted, err)
	}
	op.Seen = seen.Seen
	for _, s := range res.Siblings {
		op.Shown = append(op.Shown, dotOf(s.Version))
	}
	return nil
}

func (c *roamer) change(ctx context.Context, kv atollv1.KVClient, op *sessiontest.Op, after []byte) error {
	const level = atollv1.Level_LEVEL_LOCAL_ONE
	if len(after) > 0 && c.rng.IntN(5) == 0 {
		res, err := kv.Delete(ctx, &atollv1.DeleteRequest{Key: []byte(op.Key), Context: after, Level: level, Session: c.token})
		if err != nil {
			return err
		}
		c.took(op.Key, res.Session, res.Context)
		op.Wrote = dotOf(res.Version)
		return nil
	}
	res, err := kv.Put(ctx, &atollv1.PutRequest{Key: []byte(op.Key), Value: []byte(op.Session), Context: after, Level: level, Session: c.token})
	if err != nil {
		return err
	}
	c.took(op.Key, res.Session, res.Context)
	op.Wrote = dotOf(res.Version)
	return nil
}

// took keeps what an answer brought along.
func (c *roamer) took(key string, token, context []byte) {
	c.held[key] = context
	if !c.r.cfg.Tokens {
		return
	}
	if len(token) == 0 {
		c.r.wrong("an answer for %s lost its session's token", key)
		return
	}
	c.token = token
}

func (r *Roam) wrong(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.odd = append(r.odd, fmt.Sprintf(format, args...))
}

func dotOf(v *atollv1.Version) crdt.Dot {
	return crdt.Dot{Actor: crdt.Actor(v.GetActor()), N: v.GetN()}
}

// named is the node's name for an error, or gRPC's.
func named(err error) string {
	st := status.Convert(err)
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.Reason
		}
	}
	return st.Code().String()
}
