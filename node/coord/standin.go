package coord

import (
	"cmp"
	"slices"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// standIns are the nodes that could stand in for those who take writes of p,
// best first: rack by rack in turn, beginning behind the rack of the row's last
// server, and in each rack beginning at another node for each partition. All
// nodes that go by one topology have the same order.
func standIns(t *topology.Topology, p hashring.Partition) []topology.NodeID {
	takers := t.Takers(p)
	racks := map[string][]topology.NodeID{}
	for _, m := range t.Members {
		if m.State == topology.Up && !slices.Contains(takers, m.ID) {
			racks[m.Rack] = append(racks[m.Rack], m.ID)
		}
	}
	last := ""
	if slots := t.Row(p).Slots; len(slots) > 0 {
		if m := t.Member(slots[len(slots)-1].Serves()); m != nil {
			last = m.Rack
		}
	}
	var names []string
	for name, ids := range racks {
		names = append(names, name)
		slices.Sort(ids)
		first := int(p) % len(ids)
		racks[name] = slices.Concat(ids[first:], ids[:first])
	}
	turn := func(rack string) int { // names behind last come first
		if rack > last {
			return 0
		}
		return 1
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(turn(a)-turn(b), cmp.Compare(a, b)) })
	var out []topology.NodeID
	for i := 0; len(names) > 0; i++ {
		names = slices.DeleteFunc(names, func(name string) bool {
			if i == len(racks[name]) {
				return true
			}
			out = append(out, racks[name][i])
			return false
		})
	}
	return out
}

// healthyStandIns are the stand-ins worth asking.
func (c *Coordinator) healthyStandIns(k *key) []topology.NodeID {
	return slices.DeleteFunc(standIns(k.top, k.part), func(id topology.NodeID) bool { return id == c.cfg.Self || !c.Alive(id) })
}

// cover is what a round of a sloppy write knows of the nodes that do not
// acknowledge, and of those who stand in for them. The fanout's lock is over it.
//
// A stand-in is asked only when fewer slots than needed could acknowledge
// without it. Each stands in for one node, so that acknowledgements still are
// those of distinct nodes.
type cover struct {
	seats  []seatState // two for each slot
	nodes  []topology.NodeID
	listed bool // nodes are known
	hinted []topology.NodeID
}

// seatState is how it stands with one node of the row.
type seatState struct {
	state coverState
	// open: the node's own answer is still to come; own: it acknowledged.
	open, own bool
	id        topology.NodeID
}

type coverState uint8

const (
	absent  coverState = iota // there is no such node
	trying                    // it may acknowledge
	missing                   // it will not, or not in time
	hinting                   // somebody is asked to stand in
	covered                   // it, or who stood in, acknowledged
	failed                    // it will not, and nobody stands in
)

func newCover(k *key, everybody bool) *cover {
	v := &cover{seats: make([]seatState, 2*(len(k.row.Slots)+1))}
	for i, s := range k.row.Slots {
		v.seats[2*i] = seatState{state: trying, open: true, id: s.Owner}
		if s.Moving() {
			v.seats[2*i+1] = seatState{state: trying, open: true, id: s.Next}
		}
	}
	if everybody {
		v.seats[2*len(k.row.Slots)] = seatState{state: trying, open: true, id: k.row.Extra}
	}
	return v
}

func (v *cover) seat(i int, second bool) *seatState {
	if second {
		return &v.seats[2*i+1]
	}
	return &v.seats[2*i]
}

// possible is how many slots may still acknowledge.
func (v *cover) possible() int {
	n := 0
	for i := 0; i < len(v.seats); i += 2 {
		a, b := v.seats[i].state, v.seats[i+1].state
		if a != absent && a != missing && a != failed && b != missing && b != failed {
			n++
		}
	}
	return n
}

// coverable returns a slot with a node that is missing and none that has
// failed, the one that takes the fewest stand-ins, or -1.
func (v *cover) coverable() (slot, missed int) {
	slot = -1
	for i := 0; i < len(v.seats); i += 2 {
		n, bad := 0, false
		for _, s := range v.seats[i : i+2] {
			if s.state == missing {
				n++
			}
			bad = bad || s.state == failed
		}
		if n > 0 && !bad && (slot < 0 || n < missed) {
			slot, missed = i/2, n
		}
	}
	return slot, missed
}

// answered counts what a node itself said. Called with the lock held.
func (r *round) answered(i int, second bool, err error) quorum.Verdict {
	s := r.cover.seat(i, second)
	s.open = false
	if err == nil {
		s.state, s.own = covered, true
		return r.tally.Ack(i, second)
	}
	if s.state == trying {
		s.state = missing
	}
	return r.standIn()
}

// standIn asks as many nodes to stand in as it takes, and gives up what nobody
// can stand in for. Called with the lock held.
func (r *round) standIn() quorum.Verdict {
	v := r.cover
	for v.possible() < r.tally.Need() {
		if !v.listed {
			v.nodes, v.listed = r.c.healthyStandIns(&r.k), true
		}
		slot, n := v.coverable()
		if slot < 0 || n > len(v.nodes) {
			break
		}
		for _, second := range []bool{false, true} {
			if s := v.seat(slot, second); s.state == missing {
				s.state = hinting
				r.hint(slot, second, s.id, v.nodes[0])
				v.nodes = v.nodes[1:]
			}
		}
	}
	if v.possible() < r.tally.Need() {
		for j := range v.seats {
			if s := &v.seats[j]; s.state == missing && !s.open {
				s.state = failed
				r.tally.Fail(j/2, j%2 == 1)
			}
		}
	}
	return r.tally.Verdict()
}

// hint asks a node to keep the record for owner.
func (r *round) hint(i int, second bool, owner, by topology.NodeID) {
	r.c.stats.Hints.Add(1)
	body := wire.AppendHint(nil, &wire.Hint{Owner: string(owner), Entry: r.entry(r.minted.Record)})
	r.c.send(by, r.k.top.Epoch, peer.VerbHint, body, r.p.Deadline, func(_ []byte, err error) {
		if err != nil && stale(err) {
			r.c.learn(by, r.k.top.Epoch, func(newer bool) {
				if !newer || !r.renew() {
					r.kept(i, second, by, err)
				}
			})
			return
		}
		r.kept(i, second, by, err)
	})
}

// kept takes what a stand-in said.
func (r *round) kept(i int, second bool, by topology.NodeID, err error) {
	r.mu.Lock()
	s := r.cover.seat(i, second)
	v := r.tally.Verdict()
	switch {
	case err == nil:
		r.cover.hinted = append(r.cover.hinted, by)
		s.state = covered
		v = r.tally.Ack(i, second)
	case s.state == hinting:
		s.state = missing
		v = r.standIn()
	}
	r.conclude(v)
}

// late has others stand in for who has not answered for a while.
func (r *round) late() {
	r.mu.Lock()
	if r.closed || r.round != r {
		r.mu.Unlock()
		return
	}
	for j := range r.cover.seats {
		if s := &r.cover.seats[j]; s.state == trying && s.id != r.c.cfg.Self {
			s.state = missing
		}
	}
	r.conclude(r.standIn())
}

// coverable reports whether others can stand in for as many nodes as a sloppy
// write lacks when only live slots of its row can acknowledge.
func (w *write) coverable(live int) bool {
	if !w.p.Sloppy {
		return false
	}
	v := newCover(&w.k, false)
	for j := range v.seats {
		if s := &v.seats[j]; s.state == trying && !w.c.alive(s.id) {
			s.state = missing
		}
	}
	left := len(w.c.healthyStandIns(&w.k))
	for ; live < w.need; live++ {
		slot, n := v.coverable()
		if slot < 0 || n > left {
			return false
		}
		left -= n
		for _, second := range []bool{false, true} {
			if s := v.seat(slot, second); s.state == missing {
				s.state = covered
			}
		}
	}
	return true
}
