package client_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crdt"
)

// Siblings of 5 MiB together come whole, as one read each, and in one answer to
// those who ask for less.
func TestLargeSiblingsAreFetched(t *testing.T) {
	r, c := start(t, 3)
	var want [][]byte
	for i := range 10 {
		v := bytes.Repeat([]byte{byte('a' + i)}, 512<<10)
		r.Store.Blind("", "k", crdt.MakeActor(uint32(100+i), 2), string(v))
		want = append(want, v)
	}
	obj, err := c.Get(testContext(t), "k")
	if !errors.Is(err, client.ErrSiblings) || len(obj.Siblings()) != len(want) {
		t.Fatalf("%d siblings, %v", len(obj.Siblings()), err)
	}
	for i, s := range obj.Siblings() {
		if !bytes.Equal(s.Value, want[i]) || s.Size != len(want[i]) || s.Omitted {
			t.Errorf("sibling %d: %d bytes, size %d, omitted %v", i, len(s.Value), s.Size, s.Omitted)
		}
	}
	for _, got := range c.GetMany(testContext(t), []string{"k", "none"})[:1] {
		if s := got.Object.Siblings(); !errors.Is(got.Err, client.ErrSiblings) || !bytes.Equal(s[9].Value, want[9]) {
			t.Error(got.Err)
		}
	}
	few, err := c.Get(testContext(t), "k", client.OmitLarge())
	if !errors.Is(err, client.ErrSiblings) {
		t.Fatal(err)
	}
	whole := 0
	for i, s := range few.Siblings() {
		if s.Size != len(want[i]) || s.Omitted == (len(s.Value) > 0) {
			t.Errorf("sibling %d: %d bytes, size %d, omitted %v", i, len(s.Value), s.Size, s.Omitted)
		}
		if !s.Omitted {
			whole++
		}
	}
	if whole != 2 { // of 1 MiB
		t.Errorf("%d values are in the answer", whole)
	}
	last := few.Siblings()[9].ID
	if s, err := c.GetVersion(testContext(t), "k", last, client.LocalQuorum); err != nil || !bytes.Equal(s.Value, want[9]) {
		t.Error(err)
	}
	if _, err := c.Put(testContext(t), "k", []byte("one"), client.After(few.Version())); err != nil {
		t.Fatal(err)
	}
	if _, err := c.GetVersion(testContext(t), "k", last); !errors.Is(err, client.ErrNoVersion) {
		t.Error(err)
	}
	for _, id := range []client.VersionID{{}, {Actor: 65}, {N: 1}} {
		if _, err := c.GetVersion(testContext(t), "k", id); !errors.Is(err, client.ErrInvalid) {
			t.Errorf("%v: %v", id, err)
		}
	}
	if _, err := c.In("none").GetVersion(testContext(t), "k", last); !errors.Is(err, client.ErrNoBucket) {
		t.Error(err)
	}
}

// A value that stands alone is never left out, however large.
func TestOneLargeValueIsWhole(t *testing.T) {
	r, c := start(t, 3)
	v := bytes.Repeat([]byte{'x'}, 3<<20)
	r.Store.Blind("", "k", crdt.MakeActor(100, 2), string(v))
	if obj, err := c.Get(testContext(t), "k", client.OmitLarge()); err != nil || !bytes.Equal(obj.Value(), v) {
		t.Error(err)
	}
}
