package failover

import (
	"errors"
	"fmt"
	"strings"

	"github.com/atolldb/atoll/geo/regionmap"
)

// Operation is one that is under way, or has ended.
type Operation struct {
	// ID is the number of the map with which it began.
	ID   uint64
	Kind Kind
	// Region is what it is about; To gets the homes that are in Region; By is the
	// region whose nodes drive it.
	Region, To, By string
	// Forced changes need no majority of regions.
	Forced bool
	// Stage is the index in Stages.
	Stage uint8
	// Aborted: it was ended before its last stage, or leads back.
	Aborted bool
	Ended   bool
	// Began, Since and Closed are when it, its stage, and its end began:
	// milliseconds since 1970 by the drivers' clocks.
	Began, Since, Closed uint64
	// Missing is what is missing: of a failover, what the survivors were told of
	// and do not have; of a failback, what had not left the region when it was lost.
	Missing Missing
	// Had is, of a failover, what the survivors have of the lost region's own writes;
	// its failback tells by it what came late.
	Had Missing
	// Lost is what the operation has ceased to wait for, since disks were lost while it
	// was under way: no owner in the regions that it concerns has it any more. It is not
	// Counted where there was nothing.
	Lost Missing
}

// At is the stage.
func (o *Operation) At() Stage {
	stages := Stages(o.Kind)
	if int(o.Stage) >= len(stages) {
		return Stage{}
	}
	return stages[o.Stage]
}

// Facts are what the driver has found out since it saw the map with the stage.
type Facts struct {
	Now uint64 // milliseconds since 1970
	// Unaware nodes know an older map, Silent ones do not answer, by region.
	Unaware, Silent map[string][]string
	// Lacks is, for each of the stage's covers, how many writes are still missing
	// where; nil while that is not known, with Why.
	Lacks []Lack
	Why   string
	// Undecided is, for a stage that settles, how many proposals are undecided there.
	Undecided Lack
	// Leased is, for a stage that waits for leases, why one may still hold; "" for none.
	Leased string
}

// Lack is what is missing for a cover.
type Lack struct {
	Known  bool
	Writes uint64
	Detail string
}

// ErrRefused says that an operation cannot begin, or be aborted.
var ErrRefused = errors.New("refused")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}

// Begin puts a new operation into a map that nobody else sees, with its first
// stage's changes. The map's number is that before the change.
func Begin(m *regionmap.Map, o Operation) error {
	if before, err := Current(m); err != nil {
		return err
	} else if before != nil && !before.Ended && !o.Forced {
		return refuse("%s of %s is under way: wait for it, or abort it", before.Kind, before.Region)
	}
	state := m.State(o.Region)
	switch {
	case len(Stages(o.Kind)) == 0:
		return refuse("there is no operation %d", uint8(o.Kind))
	case state == 0:
		return refuse("there is no region %q", o.Region)
	case o.By == o.Region:
		return refuse("it is about region %s, and has to be asked of another one", o.Region)
	case state == regionmap.Removed:
		return refuse("region %s was removed, for good: one of its name comes in as a new region, with another number", o.Region)
	case o.Kind == Remove && state.Counts():
		return refuse("region %s is %s: take it out of service first, by a switchover, or by a failover if it is lost", o.Region, state)
	case o.Kind == Rebuild && state != regionmap.Fenced:
		return refuse("region %s is %s: only one that is FENCED, by a failover, begins anew", o.Region, state)
	case (o.Kind == Switchover || o.Kind == Failover) && !state.Counts():
		return refuse("region %s is %s already", o.Region, state)
	case o.Kind == Add && state != regionmap.Rejoining:
		return refuse("region %s is %s already", o.Region, state)
	case o.Kind == Failback && state != regionmap.Fenced && state != regionmap.Rejoining && state != regionmap.Rebuilding:
		return refuse("region %s is %s, there is nothing to come back from", o.Region, state)
	}
	left := 0
	for _, r := range m.Regions {
		if r.Name != o.Region && r.State.Counts() {
			left++
		}
	}
	if o.Kind == Rebuild && left == 0 {
		return refuse("no other region is in service")
	}
	if o.Kind != Failback && o.Kind != Rebuild {
		switch {
		case o.Kind == Add && left > 0:
		case left == 0:
			return refuse("no other region is in service")
		case !m.Counts(o.To) || o.To == o.Region:
			return refuse("homes cannot move to region %q, which is not in service", o.To)
		}
	}
	if before, err := Current(m); err == nil && before != nil && before.Region == o.Region {
		switch o.Kind {
		case Failback:
			o.Had = before.Had
		case Rebuild: // what was missing is lost for good
			o.Had, o.Missing = before.Had, before.Missing
		}
	}
	o.ID, o.Stage, o.Began, o.Ended = m.N+1, 0, o.Since, false
	return o.enter(m)
}

// enter makes the stage's changes, but for homes, which the driver moves: it knows
// which buckets have one.
func (o *Operation) enter(m *regionmap.Map) error {
	s := o.At()
	if s.State != 0 {
		if err := m.Set(o.Region, s.State); err != nil {
			return refuse("%v", err)
		}
	}
	if s.Last {
		o.Ended, o.Closed = true, o.Since
	}
	m.Operation = o.Append(nil)
	return nil
}

// Current is the operation in a map, nil before the first.
func Current(m *regionmap.Map) (*Operation, error) {
	if len(m.Operation) == 0 {
		return nil, nil
	}
	return Decode(m.Operation)
}

// Waits says what keeps the operation from its next stage, "" for nothing.
func (o *Operation) Waits(f *Facts) string {
	s := o.At()
	var why []string
	if s.Aware {
		for region, nodes := range f.Unaware {
			why = append(why, fmt.Sprintf("not known yet to %s of %s", strings.Join(nodes, ", "), region))
		}
		if silent := f.Silent[o.Region]; s.Strict && len(silent) > 0 {
			why = append(why, fmt.Sprintf("no answer from %s of %s", strings.Join(silent, ", "), o.Region))
		}
	}
	if s.Lapsed && f.Leased != "" {
		why = append(why, f.Leased)
	}
	switch {
	case !s.Settled:
	case !f.Undecided.Known:
		why = append(why, "not known what is undecided: "+f.Undecided.Detail)
	case f.Undecided.Writes > 0:
		why = append(why, fmt.Sprintf("%d proposals are undecided", f.Undecided.Writes))
	}
	for i := range s.Covers {
		switch {
		case i >= len(f.Lacks) || !f.Lacks[i].Known:
			text := f.Why
			if text == "" && i < len(f.Lacks) {
				text = f.Lacks[i].Detail
			}
			why = append(why, "not known what is missing: "+text)
		case f.Lacks[i].Writes > 0:
			why = append(why, fmt.Sprintf("%d writes are missing %s", f.Lacks[i].Writes, f.Lacks[i].Detail))
		}
	}
	return strings.Join(why, "; ")
}

// Advance takes the operation of a map that nobody else sees to its next stage, if
// facts allow it; it reports whether they do. seen is the operation to which the
// facts belong: if the map has another one by now nothing happens (F1).
func Advance(m *regionmap.Map, seen *Operation, f *Facts) (bool, error) {
	now, err := Current(m)
	switch {
	case err != nil:
		return false, err
	case now == nil || now.ID != seen.ID || now.Kind != seen.Kind || now.Stage != seen.Stage || now.Ended:
		return false, nil
	case seen.Waits(f) != "":
		return false, nil
	}
	now.Stage++
	now.Since, now.Missing, now.Had, now.Lost = f.Now, seen.Missing, seen.Had, seen.Lost
	return true, now.enter(m)
}

// Abort ends the operation of a map, or turns it back: a region that was fenced
// returns by the stages of failback.
func Abort(m *regionmap.Map, now uint64) error {
	o, err := Current(m)
	switch {
	case err != nil:
		return err
	case o == nil || o.Ended:
		return refuse("nothing is under way")
	case !o.At().Abort:
		return refuse("%s is %s, from where there is no way back but to its end", o.Kind, o.At().Name)
	}
	o.Aborted, o.Since = true, now
	if o.Kind == Remove || o.Kind == Add { // it stays what it was, or goes as it came
		if o.Kind == Add {
			if err := m.Set(o.Region, regionmap.Removed); err != nil {
				return refuse("%v", err)
			}
		}
		o.Ended, o.Closed = true, now
		m.Operation = o.Append(nil)
		return nil
	}
	if m.State(o.Region) == regionmap.Fenced {
		o.Kind, o.Stage = Failback, 0
		return o.enter(m)
	}
	if err := m.Set(o.Region, regionmap.Active); err != nil {
		return refuse("%v", err)
	}
	o.Ended, o.Closed = true, now
	m.Operation = o.Append(nil)
	return nil
}
