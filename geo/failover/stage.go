package failover

import (
	"fmt"
	"slices"
	"strings"

	"github.com/atolldb/atoll/geo/regionmap"
)

// Kind of an operation. The numbers are wire format.
type Kind uint8

// The kinds.
const (
	Switchover Kind = 1
	Failover   Kind = 2
	Failback   Kind = 3
	Remove     Kind = 4
	Add        Kind = 5
	Rebuild    Kind = 6
)

var kindNames = map[Kind]string{Switchover: "switchover", Failover: "failover", Failback: "failback", Remove: "remove", Add: "add", Rebuild: "rebuild"}

func (k Kind) String() string {
	if s, ok := kindNames[k]; ok {
		return s
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// ParseKind is the inverse of String.
func ParseKind(s string) (Kind, bool) {
	for k, name := range kindNames {
		if name == s {
			return k, true
		}
	}
	return 0, false
}

// Side is one side of what has to be held.
type Side uint8

// The sides: the region that the operation is about, and those that are counted
// beside it.
const (
	Subject Side = iota + 1
	Others
)

// Cover says that one side has to have all that the other had seen when the stage
// began, by all actors or by those of the subject alone.
type Cover struct {
	Of, At Side
	// Own: only what the subject's own nodes have minted.
	Own bool
}

// Stage is one step. It is entered with its changes of the map, and left when its
// guard holds.
type Stage struct {
	Name string
	// State that the subject gets; 0: it keeps its own.
	State regionmap.State
	// Homes of the subject move.
	Homes bool
	// Aware: all nodes that answer know of the map; Strict: the subject's all answer.
	Aware, Strict bool
	Covers        []Cover
	// Settled: no owner in the subject holds a proposal at SERIAL that is undecided.
	Settled bool
	// Lapsed: no node of the subject has a lease any more by which it decides at SERIAL.
	Lapsed bool
	// Last: there is nothing to wait for any more.
	Last bool
	// Abort is whether it can be taken back from here.
	Abort bool
	// Doing tells people what is waited for.
	Doing string
}

// Stages of a kind, in order.
func Stages(k Kind) []Stage {
	switch k {
	case Switchover:
		return []Stage{
			{Name: "draining", State: regionmap.Draining, Aware: true, Abort: true, Doing: "clients move to other regions"},
			{Name: "fencing", State: regionmap.Fenced, Aware: true, Strict: true, Abort: true, Doing: "every node of the region refuses writes"},
			{Name: "settling", Settled: true, Abort: true, Doing: "what is proposed there and not decided is finished or passed over"},
			{Name: "catching-up", Covers: []Cover{{Of: Subject, At: Others, Own: true}}, Abort: true, Doing: "the others get what it has taken"},
			{Name: "moved", Homes: true, Last: true, Doing: "homes are moved; the region is out of service"},
		}
	case Failover:
		return []Stage{
			{Name: "fencing", State: regionmap.Fenced, Aware: true, Abort: true, Doing: "nobody waits for the lost region any more"},
			{Name: "levelling", Covers: []Cover{{Of: Others, At: Others, Own: true}}, Lapsed: true, Abort: true, Doing: "survivors give each other what only some of them have of it"},
			{Name: "moved", Homes: true, Last: true, Doing: "homes are moved; the survivors serve everything"},
		}
	case Failback:
		return []Stage{
			{Name: "rejoining", State: regionmap.Rejoining, Aware: true, Strict: true, Doing: "every node of the region knows that it is back"},
			{Name: "catching-up", Covers: []Cover{{Of: Subject, At: Others}, {Of: Others, At: Subject}}, Doing: "it gets what it missed, and gives what it had not sent"},
			{Name: "counting", State: regionmap.Draining, Aware: true, Strict: true, Covers: []Cover{{Of: Others, At: Subject}}, Doing: "everybody counts it again"},
			{Name: "active", State: regionmap.Active, Last: true, Doing: "it serves"},
		}
	case Rebuild:
		return []Stage{
			{Name: "emptied", State: regionmap.Rebuilding, Aware: true, Strict: true, Doing: "its nodes start with empty disks, and serve nobody"},
			{Name: "full-sync", Covers: []Cover{{Of: Others, At: Subject}}, Doing: "every owner there gets all that there is"},
			{Name: "counting", State: regionmap.Draining, Aware: true, Strict: true, Covers: []Cover{{Of: Others, At: Subject}}, Doing: "everybody counts it again"},
			{Name: "active", State: regionmap.Active, Last: true, Doing: "it serves"},
		}
	case Add:
		return []Stage{
			{Name: "joining", State: regionmap.Rejoining, Aware: true, Strict: true, Abort: true, Doing: "all regions begin to replicate to and from it"},
			{Name: "filling", Covers: []Cover{{Of: Subject, At: Others}, {Of: Others, At: Subject}}, Abort: true, Doing: "it gets everything that there is"},
			{Name: "counting", State: regionmap.Draining, Aware: true, Strict: true, Covers: []Cover{{Of: Others, At: Subject}}, Abort: true, Doing: "everybody counts it"},
			{Name: "active", State: regionmap.Active, Last: true, Doing: "it serves"},
		}
	case Remove:
		return []Stage{
			{Name: "levelling", Covers: []Cover{{Of: Others, At: Others, Own: true}}, Lapsed: true, Abort: true, Doing: "those that stay give each other what only some of them have of it"},
			{Name: "removing", State: regionmap.Removed, Homes: true, Aware: true, Doing: "nobody asks the region, keeps anything for it, or serves it any more"},
			{Name: "removed", Last: true, Doing: "it is gone for good"},
		}
	}
	return nil
}

// Diagram draws the stages of a kind.
func Diagram(k Kind) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", k)
	for i, s := range Stages(k) {
		if i > 0 {
			b.WriteString("    |\n    v\n")
		}
		fmt.Fprintf(&b, "[%s]", s.Name)
		if s.State != 0 {
			fmt.Fprintf(&b, " the region is %s", s.State)
		}
		if s.Homes {
			b.WriteString(" homes move")
		}
		fmt.Fprintf(&b, ": %s\n", s.Doing)
		for _, g := range s.guards() {
			fmt.Fprintf(&b, "    |  until %s\n", g)
		}
		if s.Abort {
			b.WriteString("    |  abort: " + abortText(k, i) + "\n")
		}
	}
	return b.String()
}

func (s Stage) guards() (out []string) {
	switch {
	case s.Strict:
		out = append(out, "all nodes of the region, and all others that answer, know of it")
	case s.Aware:
		out = append(out, "all nodes that answer know of it")
	}
	if s.Settled {
		out = append(out, "all nodes of the region hold nothing undecided")
	}
	if s.Lapsed {
		out = append(out, "leases of the region have run out, where there are leases")
	}
	whose := func(own bool) string {
		if own {
			return "the region had taken itself"
		}
		return "it had"
	}
	for _, c := range s.Covers {
		switch {
		case c.Of == Subject:
			out = append(out, "the others have all that "+whose(c.Own))
		case c.At == Subject:
			out = append(out, "the region has all that the others had")
		default:
			out = append(out, "each survivor has all that any survivor has of what the region had taken")
		}
	}
	return out
}

// abortText is where an abort leads: a region that was never fenced is active again
// at once, another one comes back by failback.
func abortText(k Kind, stage int) string {
	switch k {
	case Remove:
		return "the region stays as it was"
	case Add:
		return "the region is REMOVED"
	}
	if slices.ContainsFunc(Stages(k)[:stage+1], func(s Stage) bool { return s.State == regionmap.Fenced }) {
		return "failback"
	}
	return "the region is ACTIVE"
}
