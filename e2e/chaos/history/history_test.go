package history

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func value(key string, by Element, set ...Element) []byte {
	return Encode(Value{Key: key, By: by, Elements: set}, 10)
}

// good is a history without a violation: two clients add to a set, one of
// whose writes has no known outcome, and registers are put, deleted and read.
func good() *History {
	h := &History{}
	const key = "s"
	for i, o := range []Outcome{Acked, Acked, Refused, Unknown} {
		h.Begin(key, Element(i+1), true)
		h.End(Element(i+1), o)
	}
	h.Saw(key, [][]byte{value(key, 1, 1), value(key, 2, 2)})
	h.Final("eu", key, []Element{1, 2, 4})
	h.Final("us", key, []Element{1, 2, 4})

	r := h.Register("r")
	r.Read("eu", nil)
	put(r, 10, Acked)
	r.Read("eu", [][]byte{value("r", 10)})
	put(r, 11, Refused)
	r.Read("eu", [][]byte{value("r", 10)})
	r.BeginDelete()
	r.EndDelete(Acked)
	r.Read("eu", nil)
	put(r, 12, Unknown)
	r.Read("eu", nil)
	r.Final("eu", [][]byte{value("r", 12)})
	return h
}

func put(r *Register, e Element, o Outcome) {
	r.BeginPut(e)
	r.EndPut(e, o)
}

func TestAGoodHistoryHasNoViolation(t *testing.T) {
	h := good()
	if n, told := h.Check(); len(n) > 0 {
		t.Error(n, told)
	}
	c := h.Counts()
	want := Counts{Writes: 8, Acked: 4, Refused: 2, Unknown: 2, Reads: 7, Finals: 3, Sets: 1, Registers: 1}
	if c != want {
		t.Errorf("got %+v, want %+v", c, want)
	}
}

// Every kind of violation, planted, is found, and nothing else is.
func TestPlantedViolations(t *testing.T) {
	for _, c := range []struct {
		name  string
		kind  Kind
		plant func(h *History)
	}{
		{"an acknowledged element is gone", Lost, func(h *History) {
			h.Final("eu", "s", []Element{1, 4})
			h.Final("us", "s", []Element{1, 4})
		}},
		{"an acknowledged set is gone", Lost, func(h *History) {
			h.Final("eu", "s", nil)
			h.Final("us", "s", nil)
		}},
		{"a region lacks what it need not have", Diverged, func(h *History) { h.Final("us", "s", []Element{1, 2}) }},
		{"a refused write is seen", Dishonest, func(h *History) { h.Saw("s", [][]byte{value("s", 3, 3)}) }},
		{"a refused write is in the union of another", Dishonest, func(h *History) { h.Saw("s", [][]byte{value("s", 2, 2, 3)}) }},
		{"a write seen first and refused later", Dishonest, func(h *History) {
			h.Begin("s", 5, true)
			h.Saw("s", [][]byte{value("s", 5, 5)})
			h.End(5, Refused)
		}},
		{"an element that nobody wrote", Phantom, func(h *History) { h.Saw("s", [][]byte{value("s", 2, 2, 99)}) }},
		{"an element of another key", Phantom, func(h *History) { h.Saw("s", [][]byte{value("s", 2, 2, 10)}) }},
		{"a value of another key", Corrupt, func(h *History) { h.Saw("s", [][]byte{value("r", 10)}) }},
		{"a value of no bytes", Corrupt, func(h *History) { h.Saw("s", [][]byte{{}}) }},
		{"a flipped bit", Corrupt, func(h *History) {
			b := value("s", 1, 1)
			b[len(b)/2] ^= 4
			h.Saw("s", [][]byte{b})
		}},
		{"a register loses its put", Lost, func(h *History) {
			r := h.Register("r2")
			put(r, 20, Acked)
			r.Final("eu", nil)
		}},
		{"a register shows the put before the last", Stale, func(h *History) {
			r := h.Register("r2")
			put(r, 20, Acked)
			put(r, 21, Acked)
			r.Final("eu", [][]byte{value("r2", 20)})
		}},
		{"a register keeps what was replaced as a sibling", Stale, func(h *History) {
			r := h.Register("r2")
			put(r, 20, Acked)
			put(r, 21, Unknown)
			r.Final("eu", [][]byte{value("r2", 20), value("r2", 21)})
		}},
		{"a deleted value is back", Undead, func(h *History) {
			r := h.Register("r2")
			put(r, 20, Acked)
			r.BeginDelete()
			r.EndDelete(Acked)
			r.Final("eu", [][]byte{value("r2", 20)})
		}},
		{"a set that cannot be read", Unreachable, func(h *History) { h.Unread("eu", "s", errors.New("no")) }},
		{"a set that was forgotten", Unreachable, func(h *History) {
			h.Begin("s2", 30, true)
			h.End(30, Acked)
		}},
		{"a register that was forgotten", Unreachable, func(h *History) { put(h.Register("r2"), 20, Acked) }},
		{"digests differ", Diverged, func(h *History) { h.Differ("digests") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := good()
			c.plant(h)
			n, told := h.Check()
			if n[c.kind] == 0 || len(told) == 0 {
				t.Errorf("not found: got %v %v", n, told)
			}
			delete(n, c.kind)
			if len(n) > 0 {
				t.Errorf("beside %s, found %v: %v", c.kind, n, told)
			}
		})
	}
}

func TestCountsAllAndTellsSome(t *testing.T) {
	h := good()
	for range 3 * maxTold {
		h.Saw("s", [][]byte{nil})
	}
	n, told := h.Check()
	if n[Corrupt] != 3*maxTold || len(told) != maxTold {
		t.Errorf("got %v, %d told", n, len(told))
	}
}

func TestValuesComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := Value{Key: rapid.String().Draw(t, "key"), By: Element(rapid.Uint64().Draw(t, "by"))}
		for _, e := range rapid.SliceOf(rapid.Uint64()).Draw(t, "elements") {
			v.Elements = append(v.Elements, Element(e))
		}
		v.Elements = Union(v.Elements)
		if len(v.Elements) == 0 {
			v.Elements = nil
		}
		b := Encode(v, rapid.IntRange(0, 300).Draw(t, "pad"))
		got, err := Decode(v.Key, b)
		if err != nil || got.Key != v.Key || got.By != v.By || !slices.Equal(got.Elements, v.Elements) {
			t.Fatalf("got %v, %v", got, err)
		}
		at := rapid.IntRange(0, len(b)*8-1).Draw(t, "bit")
		b[at/8] ^= 1 << (at % 8)
		if _, err := Decode(v.Key, b); err == nil {
			t.Fatalf("bit %d flipped, not noticed", at)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add("k", value("k", 1, 1, 2))
	f.Add("", []byte("aC"))
	f.Fuzz(func(t *testing.T, key string, b []byte) {
		v, err := Decode(key, b)
		if err != nil {
			return
		}
		if again := Encode(v, 0); len(again) > len(b)+10 || !bytes.HasPrefix(b, []byte(magic)) {
			t.Errorf("decoded %d bytes, encoded %d", len(b), len(again))
		}
	})
}

// What may be there twice may show twice, and nothing else beside it.
func TestAPutThatMayBeThereTwice(t *testing.T) {
	h := &History{}
	r := h.Register("r")
	put(r, 1, Acked)
	put(r, 2, Acked)
	r.Twice()
	if !r.Retired() {
		t.Error("is written again")
	}
	r.Read("eu", [][]byte{value("r", 2), value("r", 2)})
	r.Final("eu", [][]byte{value("r", 2)})
	if n, told := h.Check(); len(n) > 0 {
		t.Error(n, told)
	}
	r.Read("eu", [][]byte{value("r", 2), value("r", 1)})
	if n, _ := h.Check(); n[Stale] != 2 {
		t.Errorf("an old value beside it: %v", n)
	}
}

// The same for one of which no more is known, and for no other.
func TestAnUnknownPutThatMayBeThereTwice(t *testing.T) {
	for _, told := range []bool{true, false} {
		h := &History{}
		r := h.Register("r")
		put(r, 1, Acked)
		if put(r, 2, Unknown); told {
			r.Twice()
		}
		r.Final("eu", [][]byte{value("r", 2), value("r", 2)})
		if n, what := h.Check(); (n[Stale] == 0) != told {
			t.Errorf("told %v: %v", told, what)
		}
	}
}
