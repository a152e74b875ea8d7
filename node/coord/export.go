package coord

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// Exported is one key of an export.
type Exported struct {
	Bucket string
	Key    []byte
	Record crdt.Record
}

// pageBytes is how much one owner is asked for at a time.
const pageBytes = 512 << 10

// Export calls yield for every record of the region, tombstones included, each
// merged over a quorum of owners, in the store's order (key hash, then full
// key): regions that hold equal data give equal sequences. bucket "" is all.
// An error of yield ends it.
func (c *Coordinator) Export(ctx context.Context, bucket string, yield func(Exported) error) error {
	if e := c.goneHere(c.Topology()); e != nil {
		return e
	}
	for p := range c.Topology().Table.Partitions() {
		if err := c.exportPartition(ctx, hashring.Partition(p), bucket, yield); err != nil {
			return fmt.Errorf("export partition %d: %w", p, err)
		}
	}
	return nil
}

// errMoved says that the owners of a partition changed while it was exported.
var errMoved = errors.New("the owners of the partition have changed")

// exportPartition exports from a majority of the slots' servers. When they
// change it goes on behind the last key with those of then: the old ones take
// no writes any more, and delete what they have.
func (c *Coordinator) exportPartition(ctx context.Context, p hashring.Partition, bucket string, yield func(Exported) error) error {
	var after []byte
	for {
		err := c.exportFrom(ctx, c.Topology(), p, bucket, &after, yield)
		if !errors.Is(err, errMoved) {
			return err
		}
	}
}

func (c *Coordinator) exportFrom(ctx context.Context, top *topology.Topology, p hashring.Partition, bucket string, after *[]byte, yield func(Exported) error) error {
	slots := top.Row(p).Slots
	need := len(slots)/2 + 1
	var sources []*pager
	var failed error
	for _, s := range slots {
		if len(sources) == need {
			break
		}
		if !c.alive(s.Serves()) {
			continue
		}
		s := &pager{c: c, p: p, from: s.Serves(), top: top, more: true, after: *after}
		if err := s.fill(ctx); err != nil {
			if errors.Is(err, errMoved) {
				return err
			}
			failed = err
			continue
		}
		sources = append(sources, s)
	}
	if len(sources) < need {
		return &Error{Code: CodeUnavailable, Detail: errors.Join(fmt.Errorf("an export needs %d of %d owners, %d answered", need, len(slots), len(sources)), failed).Error()}
	}
	for {
		var least []byte
		for _, s := range sources {
			if err := s.fill(ctx); err != nil {
				return err
			}
			if k := s.head(); k != nil && (least == nil || compareKeys(k, least) < 0) {
				least = k
			}
		}
		if least == nil {
			return nil
		}
		hash := hashring.KeyHash(least)
		var rec crdt.Record
		for _, s := range sources {
			if k := s.head(); k != nil && slices.Equal(k, least) {
				r, err := crdt.DecodeRecord(hash, s.take())
				if err != nil {
					return fmt.Errorf("record from %s: %w", s.from, err)
				}
				rec = crdt.Join(rec, r)
			}
		}
		*after = least
		b, key := SplitKey(least)
		if bucket != "" && b != bucket {
			continue
		}
		if err := yield(Exported{b, key, rec}); err != nil {
			return err
		}
	}
}

// compareKeys orders full keys as the store does.
func compareKeys(a, b []byte) int {
	if c := cmp.Compare(hashring.KeyHash(a), hashring.KeyHash(b)); c != 0 {
		return c
	}
	return slices.Compare(a, b)
}

// pager walks one owner's records of a partition.
type pager struct {
	c     *Coordinator
	p     hashring.Partition
	from  topology.NodeID
	top   *topology.Topology
	page  []wire.Entry
	after []byte
	more  bool
}

func (s *pager) head() []byte {
	if len(s.page) == 0 {
		return nil
	}
	return s.page[0].Key
}

func (s *pager) take() []byte {
	r := s.page[0].Record
	s.page = s.page[1:]
	return r
}

// fill makes sure that there is a head unless the partition is at its end.
func (s *pager) fill(ctx context.Context) error {
	if len(s.page) > 0 || !s.more {
		return nil
	}
	q := wire.Scan{Partition: s.p, Last: 1<<64 - 1, After: s.after, MaxBytes: pageBytes}
	page, err := s.c.scan(ctx, s.from, q)
	if s.c.Topology().SinceOf(s.p) > s.top.SinceOf(s.p) {
		return errMoved
	}
	if err != nil {
		return fmt.Errorf("scan %s: %w", s.from, err)
	}
	if page.Behind {
		return fmt.Errorf("scan %s: %w", s.from, replica.ErrBehind)
	}
	s.page, s.more = page.Entries, page.More
	if n := len(s.page); n > 0 {
		s.after = s.page[n-1].Key
	}
	return nil
}

func (c *Coordinator) scan(ctx context.Context, from topology.NodeID, q wire.Scan) (wire.Page, error) {
	if from == c.cfg.Self {
		return c.Replica.Scan(q)
	}
	req := peer.Request{Verb: peer.VerbScan, Epoch: c.Topology().Epoch, Timeout: 10 * time.Second, Body: wire.AppendScan(nil, q)}
	b, err := peer.Call(ctx, c.Transport, from, req)
	if err != nil {
		return wire.Page{}, err
	}
	return wire.DecodePage(b)
}
