//go:build runbooks && linux

package runbooks

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/e2e/chaos/history"
	"github.com/atolldb/atoll/e2e/chaos/traffic"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

const (
	partitions = 64
	// largeSize is more than what crosses between regions by a log, and largeClient who
	// writes that in the history.
	largeSize   = 100 << 10
	largeClient = 1000
	// tells is within what time a node has told other regions of a write that it has: three
	// of its beats. A region was heard last when one of its nodes was, so what was made less
	// than that before need not be known.
	tells = time.Second
	// shown is how many runs of missing writes a table has.
	shown = 20
)

// dot names one write: the n-th of an actor in a partition.
type dot struct {
	partition hashring.Partition
	actor     crdt.Actor
	n         uint64
}

func (d dot) String() string {
	return fmt.Sprintf("%d of %v in partition %d", d.n, d.actor, d.partition)
}

// missing is what a lost region is known to have written, what a failover has printed of
// that, and when the region was heard last before it.
type missing struct {
	mu      sync.Mutex
	acked   []acked
	held    map[dot]string // what has not left the region, and its keys
	printed map[dot]bool   // nil: there was no failover
	heard   time.Time      // not later than the region was
}

// acked is a write when its client was told of it.
type acked struct {
	region, key string
	version     client.Version
	at          time.Time
}

func (m *missing) ack(region, key string, v client.Version) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.acked = append(m.acked, acked{region, key, v, time.Now()})
}

// hold keeps the nodes of another region from asking those of a region. So they do not get
// its large values, and cannot compare what they have with it; all else crosses.
func (r *rehearsal) hold(region, from string) error {
	of, by := r.Region(region), r.Region(from)
	if len(of) == 0 || len(by) == 0 {
		return fmt.Errorf("hold REGION REGION: %q %q", region, from)
	}
	for _, a := range of {
		for _, b := range by {
			if err := r.net.CutPeer(b.ID, a.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// large writes large values, each to a key of its own, and waits until all other regions
// were told that they are there and say that they lack them, as they do while it is held.
func (r *rehearsal) large(region, count string) error {
	n, err := strconv.Atoi(count)
	c := r.clients[region]
	if err != nil || c == nil {
		return fmt.Errorf("large REGION NUMBER: %q %q", region, count)
	}
	r.missing.held = map[dot]string{}
	for i := range n {
		key, e := fmt.Sprint("large/", i), history.NewElement(largeClient, uint64(i+1))
		reg := r.history.Register(key)
		reg.BeginPut(e)
		version, err := c.Put(r.ctx, key, history.Encode(history.Value{Key: key, By: e}, largeSize), client.LocalQuorum)
		reg.EndPut(e, traffic.OutcomeOf(err))
		if err != nil {
			return err
		}
		r.missing.ack(region, key, version)
		obj, err := c.Get(r.ctx, key, client.LocalQuorum)
		if err != nil {
			return err
		}
		for _, s := range obj.Siblings() {
			r.missing.held[dot{partitionOf(key), crdt.Actor(s.ID.Actor), s.ID.N}] = key
		}
	}
	return r.eventually(healTime, func(ctx context.Context) error {
		for _, other := range r.Regions() {
			if other == region {
				continue
			}
			links, err := r.Lag(ctx, r.Region(other)[0])
			if err != nil {
				return err
			}
			i := slices.IndexFunc(links, func(l *adminv1.RegionLink) bool { return l.Origin == region && l.SeenBy == other })
			if i < 0 || links[i].Pending < uint64(n) {
				return fmt.Errorf("region %s does not say that it lacks %d writes: %v", other, n, links)
			}
		}
		return nil
	})
}

func partitionOf(key string) hashring.Partition {
	return hashring.PartitionOf(hashring.KeyHash(coord.FullKey("default", []byte(key))), partitions)
}

// ended is an operation that has, as a region that is served tells it, and what it lists.
func (r *rehearsal) ended(kind string) (*adminv1.RegionOperation, map[dot]bool, error) {
	var o *adminv1.RegionOperation
	err := r.eventually(5*time.Second, func(ctx context.Context) error { // the node that is asked may be the last to know
		// The exit code says whether all regions are in service.
		out, _, err := r.bash(ctx, "atoll dr status -o json --endpoints "+r.Target(r.book.Serving[0])+" 2>/dev/null")
		if err != nil {
			return err
		}
		var st adminv1.GetRegionsResponse
		if err := protojson.Unmarshal([]byte(out), &st); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		if o = st.GetOperation(); o.GetKind() != kind || !o.GetEnded() || !o.GetMissing().GetCounted() {
			return fmt.Errorf("no %s has ended that has counted its writes: %v", kind, o)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	list := map[dot]bool{}
	for _, run := range o.Missing.Runs {
		for n := run.First; n <= run.Last; n++ {
			list[dot{hashring.Partition(run.Partition), crdt.Actor(run.Actor), n}] = true
		}
	}
	if uint64(len(list)) != o.Missing.Writes {
		return nil, nil, fmt.Errorf("%d writes are counted, %d are listed", o.Missing.Writes, len(list))
	}
	return o, list, nil
}

// failedOver compares what a failover printed as missing, before it was confirmed, with
// what it has kept, and with what has not left the region.
func (r *rehearsal) failedOver(began time.Time, output string) error {
	o, list, err := r.ended("failover")
	if err != nil {
		return err
	}
	if want := fmt.Sprintf("%d writes are known to be missing\n", o.Missing.Writes); !strings.Contains(output, want) {
		return fmt.Errorf("it did not print %q:\n%s", want, output)
	}
	var rows, want []string
	for l := range strings.Lines(output) {
		if f := strings.Fields(l); len(f) == 4 && strings.Contains(f[1], "@") {
			rows = append(rows, strings.Join(f, " "))
		}
	}
	for _, run := range o.Missing.Runs[:min(shown, len(o.Missing.Runs))] {
		want = append(want, fmt.Sprint(run.Partition, " ", crdt.Actor(run.Actor), " ", run.First, " ", run.Last))
	}
	if !slices.Equal(rows, want) {
		return fmt.Errorf("it printed as missing %q, and has kept %q", rows, want)
	}
	m := &r.missing
	for d, key := range m.held {
		if !list[d] {
			return fmt.Errorf("write %v, which has not left the region and is known of, was not printed as missing: %s", d, key)
		}
	}
	m.printed, m.heard = list, began.Add(-time.Duration(o.Missing.HeardMs)*time.Millisecond)
	r.say("printed as missing: %d writes, %d of them known to be; the region was heard %d ms before", len(list), len(m.held), o.Missing.HeardMs)
	return nil
}

// failedBack compares what came late with what the failover had printed, when there was
// one. What was printed comes late; and what comes late was printed, but for what was made
// after the region was heard last, or so shortly before that not all of its nodes have told.
func (r *rehearsal) failedBack(output string) error {
	m := &r.missing
	if m.printed == nil {
		return nil
	}
	o, late, err := r.ended("failback")
	if err != nil {
		return err
	}
	var errs []error
	if want := fmt.Sprintf("%d writes came late", o.Missing.Writes); !strings.Contains(output, want) {
		errs = append(errs, fmt.Errorf("it did not print %q:\n%s", want, output))
	}
	for d := range m.printed {
		if !late[d] {
			errs = append(errs, fmt.Errorf("write %v was printed as missing, and has not come late", d))
		}
	}
	told, err := m.madeBefore(o.Region, m.heard.Add(-tells), r.Keys())
	if err != nil {
		return err
	}
	after := 0
	for d := range late {
		switch {
		case m.printed[d]:
		case d.n <= told[dot{d.partition, d.actor, 0}]:
			errs = append(errs, fmt.Errorf("write %v has come late, and was not printed as missing, though it was made more than %v before the region was heard last", d, tells))
		default:
			after++
		}
	}
	r.say("came late: %d writes, %d of them made when nobody may have heard of it", len(late), after)
	return errors.Join(errs...)
}

// madeBefore are the highest numbers that the actors of each partition, with n 0, are
// known to have given by a time: those that the versions of acknowledged writes have seen.
func (m *missing) madeBefore(region string, at time.Time, keys crdt.Keys) (map[dot]uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[dot]uint64{}
	for _, a := range m.acked {
		if a.region != region || !a.at.Before(at) {
			continue
		}
		b, err := base64.RawURLEncoding.DecodeString(a.version.String())
		if err != nil {
			return nil, err
		}
		seen, err := crdt.DecodeContext(keys, coord.FullKey("default", []byte(a.key)), b)
		if err != nil {
			return nil, fmt.Errorf("version of %s: %w", a.key, err)
		}
		for _, e := range seen.Seen {
			of := dot{partitionOf(a.key), e.Actor, 0}
			out[of] = max(out[of], e.N)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no write of %s was acknowledged before %v: nothing was rehearsed", region, at)
	}
	return out, nil
}
