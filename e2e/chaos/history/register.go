package history

import "slices"

// Register is a key that one client alone writes. Its methods are called by
// that client, one after the other.
type Register struct {
	h   *History
	key string
	// may is what the key may be: what the last acknowledged operation left,
	// first, and what each later one of unknown outcome would leave. The zero
	// Element stands for absent.
	may     []Element
	was     map[Element]bool // that it was or may have been, ever
	retired bool
	twice   bool // the last put may be there as two siblings
	final   bool
}

const absent Element = 0

// Register returns the register of a key, absent until written.
func (h *History) Register(key string) *Register {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.regs == nil {
		h.regs = map[string]*Register{}
	}
	r := h.regs[key]
	if r == nil {
		r = &Register{h: h, key: key, may: []Element{absent}, was: map[Element]bool{}}
		h.regs[key] = r
	}
	return r
}

// Registers returns all, in the order of their keys.
func (h *History) Registers() []*Register {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []*Register
	for _, r := range h.regs {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b *Register) int {
		if a.key < b.key {
			return -1
		}
		return 1
	})
	return out
}

// Key of the register.
func (r *Register) Key() string { return r.key }

// Retired says that an operation's outcome is unknown, or that it may have been
// carried out twice, so that the register must not be written again: only then is
// it known for ever what it may be.
func (r *Register) Retired() bool { return r.retired }

// BeginPut is called before e is written, with the context of the register's
// last write; EndPut with what the client was told.
func (r *Register) BeginPut(e Element) { r.h.Begin(r.key, e, false) }

// EndPut ends what BeginPut began.
func (r *Register) EndPut(e Element, o Outcome) {
	r.h.End(e, o)
	if o != Refused {
		r.was[e] = true
	}
	r.became(e, o)
}

// Twice is called after EndPut if the client was told that the put may be there
// twice, whether it was acknowledged or its outcome is unknown: the next one would
// replace only that of the two of which the client knows.
func (r *Register) Twice() { r.retired, r.twice = true, true }

// BeginDelete is called before a delete with the context of the last write.
func (r *Register) BeginDelete() {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	r.h.counts.Writes++
}

// EndDelete ends what BeginDelete began.
func (r *Register) EndDelete(o Outcome) {
	r.h.mu.Lock()
	r.h.counts.tell(o)
	r.h.mu.Unlock()
	r.became(absent, o)
}

func (r *Register) became(e Element, o Outcome) {
	switch o {
	case Acked:
		r.may = []Element{e}
	case Refused:
	default:
		r.may = append(r.may, e)
		r.retired = true
	}
}

// Read is called with what a strong read, begun after the last operation's
// end, returned: the values of all siblings, none when the key is absent.
func (r *Register) Read(place string, siblings [][]byte) {
	vs := r.h.Saw(r.key, siblings)
	if len(vs) < len(siblings) {
		return // damaged: told already
	}
	got := make([]Element, 0, 1)
	for _, v := range vs {
		got = append(got, v.By)
	}
	if len(got) == 0 {
		got = append(got, absent)
	}
	for _, e := range got {
		if slices.Contains(r.may, e) {
			continue
		}
		want := ""
		for _, e := range r.may {
			want += r.h.about(e) + " "
		}
		switch {
		case e == absent:
			r.h.add(Lost, r.key, "absent at %s, has to be %s", place, want)
		case r.may[0] == absent && r.was[e]:
			r.h.add(Undead, r.key, "%s is back at %s", r.h.about(e), place)
		case r.was[e]:
			r.h.add(Stale, r.key, "%s at %s, has to be %s", r.h.about(e), place, want)
		default:
			r.h.add(Phantom, r.key, "%s at %s, has to be %s", r.h.about(e), place, want)
		}
	}
	if r.twice {
		slices.Sort(got)
		got = slices.Compact(got)
	}
	if len(got) > 1 {
		var who string
		for _, e := range got {
			who += "; " + r.h.about(e)
		}
		r.h.add(Stale, r.key, "%d siblings at %s of a key with one writer%s", len(got), place, who)
	}
}

// Final is a Read after everything has healed.
func (r *Register) Final(place string, siblings [][]byte) {
	r.Read(place, siblings)
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	r.final = true
	r.h.counts.Finals++
}
