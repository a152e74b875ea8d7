package regions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/atolldb/atoll/geo/failover"
	"github.com/atolldb/atoll/geo/regionmap"
)

// Ask is what an operator asks for.
type Ask struct {
	Kind   failover.Kind
	Region string
	// To gets the homes; "" is the region that is asked.
	To string
	// Force makes changes without a majority of regions, and goes over checks.
	Force bool
	// Add is, for an add, who comes in; nil for all others.
	Add *Newcomer
	// Version of the map that the operator has seen; the operation is refused when
	// there is another one by now. 0: any.
	Version uint64
}

// Check is one thing that was looked at before.
type Check struct {
	Name   string
	OK     bool
	Detail string
}

// Plan is what an operation would do.
type Plan struct {
	Known  regionmap.Known
	Ask    Ask
	Checks []Check
	// Missing is, for a failover, what the survivors were told of and do not have; for
	// a switchover, what the others still have to get; for a removal, what is lost for
	// good with the region; for a failback nothing yet.
	Missing failover.Missing
}

// OK reports whether all checks hold.
func (p *Plan) OK() bool {
	for _, c := range p.Checks {
		if !c.OK {
			return false
		}
	}
	return true
}

// ErrChecks wraps the checks that do not hold.
var ErrChecks = errors.New("checks do not hold; force goes over them")

// ErrSeen says that the map is not the one that was shown.
var ErrSeen = errors.New("the map of regions has changed since it was shown: look again")

// maxBehind is how many writes may be under way when a switchover begins: it waits
// for them with writes stopped.
const maxBehind = 10_000

// Plan looks at everything, and changes nothing.
func (s *Steer) Plan(ctx context.Context, a Ask) (Plan, error) {
	p := Plan{Known: s.r.Known(), Ask: s.filled(a)}
	if p.Known.Map.Gone(uint8(s.r.cfg.ID)) {
		return p, fmt.Errorf("%w: this region was removed: ask another one", failover.ErrRefused)
	}
	m := p.Known.Map.Clone()
	if err := s.admit(m, p.Ask); err != nil {
		return p, err
	}
	if err := failover.Begin(m.Clone(), s.operation(p.Ask, failover.Missing{})); err != nil {
		return p, err
	}
	add := func(ok bool, name, format string, args ...any) {
		p.Checks = append(p.Checks, Check{name, ok, fmt.Sprintf(format, args...)})
	}
	add(!p.Known.Contested, "map", "version %s, contested: %v", m.Version, p.Known.Contested)
	voters := p.Known.Map.Voters()
	votes, quiet := (&proposal{r: s.r}).ask(ctx, voters, askLook, regionmap.Register{})
	add(len(votes) >= p.Known.Map.Majority(), "majority", "%d of %d regions can vote, %d are needed; silent: %s", len(votes), len(voters), p.Known.Map.Majority(), cmp.Or(strings.Join(quiet, "; "), "none"))
	answering, nodes := s.answering(ctx, m, a.Region)
	subject := answering > 0
	o := s.operation(p.Ask, failover.Missing{})
	others := s.side(m, &o, failover.Others)
	switch a.Kind {
	case failover.Failover:
		add(!subject, "lost", "%d of %d nodes of %s answer; a region that lives is switched over", answering, nodes, a.Region)
		add(true, "homes", "%s", s.twoHomes(m, a.Region, p.Ask.To))
		p.Missing = s.missing(ctx, m, &o, others)
		add(p.Missing.Counted, "counted", "what %s told the survivors, and when it was heard: %v", a.Region, p.Missing.Counted)
	case failover.Switchover:
		add(subject, "alive", "%d of %d nodes of %s answer", answering, nodes, a.Region)
		n, besides := s.whereHomesGo(m, a.Region, p.Ask.To)
		add(true, "homes", "%d homes move%s", n, besides)
		c, err := s.deps.Clocks(ctx, a.Region, idOf(m, a.Region))
		if err == nil {
			seen, err := s.seen(ctx, others, idOf(m, a.Region))
			if err == nil {
				p.Missing = s.tallied(ctx, a.Region, failover.Compare(c.Seen(), seen))
			}
		}
		add(p.Missing.Counted && p.Missing.Writes <= maxBehind, "behind", "%d writes have still to arrive, counted: %v; at most %d", p.Missing.Writes, p.Missing.Counted, maxBehind)
	case failover.Add:
		s.checkAdd(ctx, m, a.Add, add)
	case failover.Remove:
		s.checkRemove(ctx, m, &p, subject, others, add)
	case failover.Rebuild:
		add(!subject, "gone", "%d of %d nodes of %s answer; a region that has its disks comes back by a failback", answering, nodes, a.Region)
		if last, err := failover.Current(m); err == nil && last != nil && last.Region == a.Region {
			p.Missing = last.Missing
		}
	case failover.Failback:
		add(subject, "alive", "%d of %d nodes of %s answer", answering, nodes, a.Region)
	}
	return p, nil
}

// missing compares what nodes were told of the lost region with what survivors have.
func (s *Steer) missing(ctx context.Context, m *regionmap.Map, o *failover.Operation, others []string) failover.Missing {
	told, ago, err := s.deps.Told(ctx, o.Region)
	if err != nil {
		return failover.Missing{}
	}
	seen, err := s.seen(ctx, others, idOf(m, o.Region))
	if err != nil {
		return failover.Missing{}
	}
	out := failover.Compare(told, seen)
	out.HeardMs = uint64(ago.Milliseconds())
	return out
}

// answering counts the nodes of a region that answer, of those that are known here.
func (s *Steer) answering(ctx context.Context, m *regionmap.Map, region string) (n, of int) {
	_, silent := s.aware(ctx, m, &failover.Operation{Kind: failover.Switchover})
	of = len(s.deps.Nodes(region))
	return max(of-len(silent[region]), 0), of
}

func (s *Steer) filled(a Ask) Ask {
	if a.To == "" {
		a.To = string(s.r.cfg.Region)
	}
	return a
}

func (s *Steer) operation(a Ask, missing failover.Missing) failover.Operation {
	return failover.Operation{
		Kind: a.Kind, Region: a.Region, To: a.To, By: string(s.r.cfg.Region), Forced: a.Force,
		Since: uint64(time.Now().UnixMilli()), Missing: missing,
	}
}

// admit puts a region that is configured into a map that was decided before it was:
// it comes into service as one that returns does.
func (s *Steer) admit(m *regionmap.Map, a Ask) error {
	switch r := s.r.cfg.First.Get(a.Region); {
	case a.Kind == failover.Add:
		return s.newcomer(m, a)
	case a.Kind == failover.Failback && r != nil && !m.Gone(r.ID):
		return m.Add(r.Name, r.ID, regionmap.Contact{})
	}
	return nil
}

// Begin begins an operation, whose nodes of this region drive it from then on.
func (s *Steer) Begin(ctx context.Context, a Ask) (Plan, error) {
	p, err := s.Plan(ctx, a)
	if err != nil {
		return p, err
	}
	a = p.Ask
	switch {
	case a.Version != 0 && a.Version != p.Known.Map.N+1:
		return p, ErrSeen
	case !p.OK() && !a.Force:
		return p, ErrChecks
	}
	missing := p.Missing
	if a.Kind != failover.Failover && a.Kind != failover.Remove {
		missing = failover.Missing{}
	}
	p.Known, err = s.r.Change(ctx, a.Force, func(m *regionmap.Map) error {
		if a.Version != 0 && a.Version != m.N+1 {
			return ErrSeen
		}
		if err := s.admit(m, a); err != nil {
			return err
		}
		return failover.Begin(m, s.operation(a, missing))
	})
	return p, err
}

// Abort ends what is under way, or turns it back; see failover.Abort.
func (s *Steer) Abort(ctx context.Context, force bool) (regionmap.Known, error) {
	return s.r.Change(ctx, force, func(m *regionmap.Map) error {
		return failover.Abort(m, uint64(time.Now().UnixMilli()))
	})
}
