package recovery

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

const at = 1_764_000_000_000

// record of versions that say their values: "-" is a delete, "x" has expired, and
// what ends with ~ lives for five seconds more.
func record(values ...string) *adminv1.ExportRecord {
	r := &adminv1.ExportRecord{Bucket: "default", Key: []byte("k")}
	for i, s := range values {
		v := &adminv1.ExportVersion{Actor: uint32(i + 1), N: 1, Stamp: uint64(at-len(values)+i) << 16}
		switch {
		case s == "-":
			v.Deleted = true
		case s == "x":
			v.Value, v.ExpiresAt = []byte(s), at
		case s[len(s)-1] == '~':
			v.Value, v.ExpiresAt = []byte(s[:len(s)-1]), at+5000
		default:
			v.Value = []byte(s)
		}
		r.Versions = append(r.Versions, v)
	}
	return r
}

func held(values ...string) now {
	if len(values) == 1 && values[0] == "-" {
		return now{deleted: true}
	}
	var n now
	for _, v := range values {
		n.values = append(n.values, []byte(v))
	}
	return n
}

func (p plan) texts() (out []string) {
	for _, v := range p.puts {
		s := string(v.bytes)
		if v.ttl > 0 {
			s += "~" + v.ttl.String()
		}
		out = append(out, s)
	}
	return out
}

func TestDecide(t *testing.T) {
	of := func(v ...string) []string { return v }
	for _, c := range []struct {
		what     string
		backup   *adminv1.ExportRecord
		now      now
		conflict Conflict
		lww      bool
		want     Verdict
		puts     []string
	}{
		{"absent", record("a"), held(), Keep, false, Written, of("a")},
		{"absent, siblings", record("a", "b"), held(), Keep, false, Written, of("a", "b")},
		{"absent, a delete beside it", record("a", "-"), held(), Keep, false, Written, of("a")},
		{"absent, expires", record("a~"), held(), Keep, false, Written, of("a~5s")},
		{"absent, equal siblings", record("a", "a~"), held(), Keep, false, Written, of("a")},
		{"absent, equal siblings that expire", record("a~", "a~"), held(), Keep, false, Written, of("a~5s")},
		{"absent, one has expired", record("x", "b"), held(), Keep, false, Written, of("b")},
		{"deleted in the backup", record("-"), held("b"), Replace, false, Dead, nil},
		{"deleted in both", record("-"), held("-"), Replace, false, Dead, nil},
		{"expired", record("x"), held(), Replace, false, Expired, nil},
		{"there", record("a"), held("a"), Replace, false, Present, nil},
		{"there, and more", record("a"), held("a", "b"), Keep, false, Present, nil},
		{"there, and more, beside", record("a"), held("a", "b"), Sibling, false, Present, nil},
		{"there, and more, replaced", record("a"), held("a", "b"), Replace, false, Replaced, of("a")},
		{"another", record("a"), held("b"), Keep, false, Left, nil},
		{"another, beside", record("a"), held("b"), Sibling, false, Added, of("a")},
		{"another, replaced", record("a"), held("b"), Replace, false, Replaced, of("a")},
		{"half of it", record("a", "b"), held("b"), Keep, false, Left, nil},
		{"half of it, beside", record("a", "b"), held("b"), Sibling, false, Added, of("a")},
		{"deleted since", record("a"), held("-"), Keep, false, LeftDeleted, nil},
		{"deleted since, beside", record("a"), held("-"), Sibling, false, LeftDeleted, nil},
		{"deleted since, replaced", record("a"), held("-"), Replace, false, Replaced, of("a")},
		{"lww: the last one", record("a", "b"), held(), Keep, true, Written, of("b")},
		{"lww: the last one is a delete", record("a", "-"), held(), Keep, true, Dead, nil},
		{"lww: another", record("a"), held("b"), Sibling, true, Left, nil},
		{"lww: another, replaced", record("a"), held("b"), Replace, true, Replaced, of("a")},
	} {
		p := decide(c.backup, c.lww, c.now, c.conflict, at)
		if p.verdict != c.want || !slices.Equal(p.texts(), c.puts) {
			t.Errorf("%s, %v: %v %q, want %v %q", c.what, c.conflict, p.verdict, p.texts(), c.want, c.puts)
		}
	}
}

// What follows holds for whatever is in the backup and whatever is there: doing as
// decided and deciding again changes nothing (R3), keep changes no key that was
// written (R1), sibling takes no value away, and replace leaves what the backup has.
func TestDecideLaws(t *testing.T) {
	some := rapid.SampledFrom([]string{"a", "b", "c", "a~", "x", "-"})
	is := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 0, 3, rapid.ID)
	rapid.Check(t, func(rt *rapid.T) {
		r := record(rapid.SliceOfN(some, 1, 4).Draw(rt, "backup")...)
		n := held(is.Draw(rt, "there")...)
		n.deleted = len(n.values) == 0 && rapid.Bool().Draw(rt, "deleted")
		c := rapid.SampledFrom([]Conflict{Keep, Sibling, Replace}).Draw(rt, "conflict")
		lww := rapid.Bool().Draw(rt, "lww")
		p := decide(r, lww, n, c, at)
		wrote := len(p.puts) > 0
		fresh := len(n.values) == 0 && !n.deleted
		if wrote && c == Keep && !fresh {
			rt.Fatalf("keep writes %q where %q is", p.texts(), n.values)
		}
		if wrote && n.deleted && c != Replace {
			rt.Fatalf("%v brings %q back", c, p.texts())
		}
		if !wrote {
			return
		}
		after := now{}
		if p.verdict == Added {
			after.values = slices.Clone(n.values)
		}
		for _, v := range p.puts {
			after.values = append(after.values, v.bytes)
			if v.ttl < 0 || v.ttl > 5*time.Second {
				rt.Fatalf("a life of %v", v.ttl)
			}
		}
		want, _ := live(r, lww, at)
		for _, w := range want {
			if !slices.ContainsFunc(after.values, func(b []byte) bool { return string(b) == string(w.bytes) }) {
				rt.Fatalf("%q of the backup is not there", w.bytes)
			}
		}
		if p.verdict == Replaced && len(after.values) != len(want) {
			rt.Fatalf("%q is there, the backup has %d values", after.values, len(want))
		}
		if again := decide(r, lww, after, c, at); again.verdict != Present || len(again.puts) > 0 {
			rt.Fatalf("the second time it is %v %q", again.verdict, again.texts())
		}
	})
}
