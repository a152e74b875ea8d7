package hint

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
)

// Config of Hints.
type Config struct {
	Self topology.NodeID
	// MaxBytes of hints that this node keeps, keys and overhead included; 0 is
	// 1 GiB. More stands in for longer, and takes longer to hand over.
	MaxBytes int64
	// MaxAge of the oldest hint for an owner beyond which no more are taken for
	// it; 0 is 3 h.
	MaxAge time.Duration
	// BytesPerSecond handed over; 0 is 8 MiB. More catches up sooner, and takes
	// more from clients' requests.
	BytesPerSecond int
	// Beat is how often at most hints wait for another try; 0 is 5 s.
	Beat time.Duration
}

// Deps are what Hints work with.
type Deps struct {
	// Replica of this node: its topology fences, and its committer writes.
	Replica *replica.Replica
	// Engine of that replica. It is only read.
	Engine    storage.Engine
	Transport peer.Transport
	Alive     func(topology.NodeID) bool
	// Observe gets the outcome of every request to a peer.
	Observe func(topology.NodeID, error)
	// Learn is that of the coordinator; nil where the topology never changes.
	Learn  func(from topology.NodeID, then func())
	Logger hclog.Logger
}

// Hints are what this node keeps for others.
type Hints struct {
	cfg     Config
	deps    Deps
	maxSize int // of one value
	kick    chan struct{}
	stats   Stats

	mu    sync.Mutex
	bytes int64
	owed  map[topology.NodeID]*Owed
}

// Stats count since start.
type Stats struct {
	// Taken are hints that were voted for, Refused those that were not.
	Taken, Refused atomic.Uint64
	// Handed are hints that those they were for have by now.
	Handed, HandedBytes atomic.Uint64
	// Unreadable hints were met in the store and left there. What they stood for
	// counts one acknowledgement less.
	Unreadable atomic.Uint64
}

// Owed is what is kept for one owner.
type Owed struct {
	Owner topology.NodeID
	Count int
	Bytes int64
	// Oldest is when the first of them came.
	Oldest time.Time
}

var (
	// ErrNoRoom says that MaxBytes are kept already.
	ErrNoRoom = errors.New("no room for more hints")
	// ErrTooOld says that the owner has been away for longer than MaxAge.
	ErrTooOld = errors.New("the owner has been away for too long")
	// ErrLeaving says that this node leaves the region: what it took would leave with it.
	ErrLeaving = errors.New("this node leaves the region")
)

// Open finds the hints that this node keeps.
func Open(cfg Config, deps Deps) (*Hints, error) {
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 1 << 30
	}
	if cfg.MaxAge == 0 {
		cfg.MaxAge = 3 * time.Hour
	}
	if cfg.BytesPerSecond == 0 {
		cfg.BytesPerSecond = 8 << 20
	}
	if cfg.Beat == 0 {
		cfg.Beat = 5 * time.Second
	}
	h := &Hints{
		cfg: cfg, deps: deps, maxSize: storage.MaxOp(deps.Engine) / 2,
		kick: make(chan struct{}, 1), owed: map[topology.NodeID]*Owed{},
	}
	unreadable, err := scan(deps.Engine, []byte{space}, []byte{space + 1}, func(key, value []byte) (bool, error) {
		owner, _, err := splitKey(key)
		if err != nil {
			return true, err
		}
		k, err := decodeKept(value)
		if err != nil {
			return true, err
		}
		h.account(owner, 1, size(key, value), k.since)
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read hints: %w", err)
	}
	if unreadable > 0 {
		h.stats.Unreadable.Add(uint64(unreadable))
		deps.Logger.Error("hints are unreadable: what they stood for has one copy less", "count", unreadable)
	}
	return h, nil
}

// scan calls each for what is in a range until it says that it wants no more.
// It goes on behind what cannot be read, by the store or by each, and returns
// the number of those.
func scan(r storage.Reader, lo, hi []byte, each func(key, value []byte) (more bool, err error)) (unreadable int, err error) {
	for {
		err := r.Scan(lo, hi, func(kv storage.KV) bool {
			more, err := each(kv.Key, kv.Value)
			if err != nil {
				unreadable++
			}
			return more
		})
		bad := (*storage.CorruptError)(nil)
		if !errors.As(err, &bad) {
			return unreadable, err
		}
		unreadable++
		lo = append(slices.Clone(bad.Key), 0)
	}
}

// size is what a hint counts for, with what the store adds.
func size(key, value []byte) int64 { return int64(len(key) + len(value) + 64) }

// account takes changes of what is kept for an owner.
func (h *Hints) account(owner topology.NodeID, count int, bytes, since int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.accountLocked(owner, count, bytes, since)
}

func (h *Hints) accountLocked(owner topology.NodeID, count int, bytes, since int64) {
	h.bytes += bytes
	o := h.owed[owner]
	if o == nil {
		o = &Owed{Owner: owner}
		h.owed[owner] = o
	}
	if at := time.UnixMilli(since); count > 0 && (o.Count == 0 || at.Before(o.Oldest)) {
		o.Oldest = at
	}
	o.Count += count
	o.Bytes += bytes
	if o.Count == 0 {
		delete(h.owed, owner)
	}
}

// Stats of this node's hints.
func (h *Hints) Stats() *Stats { return &h.stats }

// Owed lists what is kept, by owner.
func (h *Hints) Owed() []Owed {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]Owed, 0, len(h.owed))
	for _, o := range h.owed {
		out = append(out, *o)
	}
	slices.SortFunc(out, func(a, b Owed) int {
		if a.Owner < b.Owner {
			return -1
		}
		return 1
	})
	return out
}

// Owners lists for whom hints are kept, also those that are not durable yet.
func (h *Hints) Owners() []topology.NodeID {
	var out []topology.NodeID
	for _, o := range h.Owed() {
		out = append(out, o.Owner)
	}
	return out
}

// Up says that a peer is back. It does not block.
func (h *Hints) Up(topology.NodeID) {
	select {
	case h.kick <- struct{}{}:
	default:
	}
}
