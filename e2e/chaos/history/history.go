package history

import (
	"fmt"
	"slices"
	"sync"
)

// Outcome of a write as its client was told.
type Outcome uint8

// The outcomes.
const (
	Pending Outcome = iota // not told yet: as Unknown, at the end
	Acked
	Refused // definitely not applied, now or later
	Unknown
)

func (o Outcome) String() string { return [...]string{"pending", "acked", "refused", "unknown"}[o] }

// History of one run. The zero History is empty.
type History struct {
	mu     sync.Mutex
	writes map[Element]*write
	sets   map[string]*set
	regs   map[string]*Register
	counts Counts
	violations
}

type write struct {
	key     string
	outcome Outcome
	seen    bool
	remark  string
}

type set struct {
	elements []Element // attempted
	finals   map[string][]Element
}

// Counts of a history.
type Counts struct {
	Writes, Acked, Refused, Unknown int
	Reads                           int // that returned something to check
	Finals                          int // final reads of sets and registers
	Sets, Registers                 int
}

// Begin is called before element e is written to the key; set says that the
// key is a set.
func (h *History) Begin(key string, e Element, isSet bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.writes == nil {
		h.writes, h.sets = map[Element]*write{}, map[string]*set{}
	}
	if h.writes[e] != nil {
		h.add(Corrupt, key, "%v is used twice: the test is broken", e)
	}
	h.writes[e] = &write{key: key}
	h.counts.Writes++
	if !isSet {
		return
	}
	s := h.sets[key]
	if s == nil {
		s = &set{finals: map[string][]Element{}}
		h.sets[key] = s
	}
	s.elements = append(s.elements, e)
}

// End is called with what the client was told of e.
func (h *History) End(e Element, o Outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writes[e].outcome = o
	h.counts.tell(o)
}

// Remark keeps a text about a write, such as how many attempts it took, which
// is told with violations that name it.
func (h *History) Remark(e Element, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writes[e].remark = text
}

// about names a write. Called without the lock.
func (h *History) about(e Element) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.writes[e]
	if w == nil {
		return e.String()
	}
	return fmt.Sprintf("%v (%v %s)", e, w.outcome, w.remark)
}

func (c *Counts) tell(o Outcome) {
	switch o {
	case Acked:
		c.Acked++
	case Refused:
		c.Refused++
	default:
		c.Unknown++
	}
}

// Saw is called with every value that any read returned, as bytes. It returns
// what the values say; damaged ones are violations and left out.
func (h *History) Saw(key string, siblings [][]byte) []Value {
	var out []Value
	for _, b := range siblings {
		v, err := Decode(key, b)
		if err != nil {
			h.add(Corrupt, key, "%v", err)
			continue
		}
		out = append(out, v)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts.Reads++
	for _, v := range out {
		for _, e := range append([]Element{v.By}, v.Elements...) {
			switch w := h.writes[e]; {
			case w == nil:
				h.add(Phantom, key, "%v was never written", e)
			case w.key != key:
				h.add(Phantom, key, "%v was written to %s", e, w.key)
			default:
				w.seen = true
			}
		}
	}
	return out
}

// Final is called with the union that a set has at a place (a region, a level,
// a node) after everything has healed.
func (h *History) Final(place, key string, union []Element) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.sets[key]; s != nil {
		s.finals[place] = union
		h.counts.Finals++
	}
}

// Unread says that a key could not be read at a place after healing.
func (h *History) Unread(place, key string, err error) {
	h.add(Unreachable, key, "at %s: %v", place, err)
}

// Differ says that places hold different things after converging.
func (h *History) Differ(what string) { h.add(Diverged, "all", "%s", what) }

// SetKeys returns the keys of all sets, in order.
func (h *History) SetKeys() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for k := range h.sets {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// Acked returns the elements of sets that are acknowledged by now, with their keys.
func (h *History) Acked() map[Element]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[Element]string{}
	for key, s := range h.sets {
		for _, e := range s.elements {
			if h.writes[e].outcome == Acked {
				out[e] = key
			}
		}
	}
	return out
}

// Counts returns how much was done so far.
func (h *History) Counts() Counts {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.counts
	c.Sets, c.Registers = len(h.sets), len(h.regs)
	return c
}

// Check is called once, after the final reads. It returns how many violations
// of each kind there were, and the first ones.
func (h *History) Check() (map[Kind]int, []Violation) {
	h.mu.Lock()
	for e, w := range h.writes {
		if w.outcome == Refused && w.seen {
			h.add(Dishonest, w.key, "%v was refused, and was seen", e)
		}
	}
	for key, s := range h.sets {
		if len(s.finals) == 0 {
			h.add(Unreachable, key, "nobody read it at the end")
		}
		for place, union := range s.finals {
			for _, e := range s.elements {
				if _, ok := slices.BinarySearch(union, e); !ok && h.writes[e].outcome == Acked {
					h.add(Lost, key, "%v is not at %s", e, place)
				}
			}
		}
		for a, ua := range s.finals {
			for b, ub := range s.finals {
				if a < b && !slices.Equal(ua, ub) {
					h.add(Diverged, key, "%d elements at %s, %d at %s", len(ua), a, len(ub), b)
				}
			}
		}
	}
	for key, r := range h.regs {
		if !r.final {
			h.add(Unreachable, key, "nobody read it at the end")
		}
	}
	h.mu.Unlock()
	return h.all()
}
