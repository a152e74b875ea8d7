package crdt_test

import (
	"testing"

	"github.com/atolldb/atoll/crdt"
)

func TestConditions(t *testing.T) {
	dot := func(n uint64) crdt.Dot { return crdt.Dot{Actor: crdt.MakeActor(1, 1), N: n} }
	rec := func(vs ...crdt.Version) crdt.Record { return crdt.Record{Versions: vs} }
	one := rec(crdt.Version{Dot: dot(1), Value: []byte("a")})
	two := rec(one.Versions[0], crdt.Version{Dot: dot(2), Value: []byte("b")})
	dead := rec(crdt.Version{Dot: dot(3), Dead: true})
	expired := rec(crdt.Version{Dot: dot(1), Value: []byte("a"), Expiry: 100})
	beside := rec(one.Versions[0], crdt.Version{Dot: dot(3), Dead: true})
	saw := func(d crdt.Dot) crdt.VV { return crdt.VV(nil).With(d) }

	const now = 100
	for _, c := range []struct {
		name string
		is   crdt.Condition
		rec  crdt.Record
		seen crdt.VV
		want bool
	}{
		{"always", crdt.Condition{}, two, nil, true},
		{"absent, nothing there", crdt.Condition{Kind: crdt.IfAbsent}, crdt.Record{}, nil, true},
		{"absent, deleted", crdt.Condition{Kind: crdt.IfAbsent}, dead, nil, true},
		{"absent, expired", crdt.Condition{Kind: crdt.IfAbsent}, expired, nil, true},
		{"absent, there", crdt.Condition{Kind: crdt.IfAbsent}, one, saw(dot(1)), false},
		{"present, there", crdt.Condition{Kind: crdt.IfPresent}, one, nil, true},
		{"present, deleted", crdt.Condition{Kind: crdt.IfPresent}, dead, nil, false},
		{"present, nothing there", crdt.Condition{Kind: crdt.IfPresent}, crdt.Record{}, nil, false},
		{"version, that one", crdt.Condition{Kind: crdt.IfVersion, Version: dot(1)}, one, nil, true},
		{"version, a delete beside it", crdt.Condition{Kind: crdt.IfVersion, Version: dot(1)}, beside, nil, true},
		{"version, another", crdt.Condition{Kind: crdt.IfVersion, Version: dot(2)}, one, nil, false},
		{"version, with a sibling", crdt.Condition{Kind: crdt.IfVersion, Version: dot(1)}, two, nil, false},
		{"version, expired", crdt.Condition{Kind: crdt.IfVersion, Version: dot(1)}, expired, nil, false},
		{"context, seen", crdt.Condition{Kind: crdt.IfContext}, two, saw(dot(2)), true},
		{"context, not all seen", crdt.Condition{Kind: crdt.IfContext}, two, saw(dot(1)), false},
		{"context, nothing there", crdt.Condition{Kind: crdt.IfContext}, crdt.Record{}, nil, true},
		{"context, unseen delete", crdt.Condition{Kind: crdt.IfContext}, dead, nil, true},
		{"unknown kind", crdt.Condition{Kind: 9}, crdt.Record{}, nil, false},
	} {
		if got := c.is.Holds(c.rec, c.seen, now); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	for c, want := range map[crdt.Condition]bool{
		{}: true, {Kind: crdt.IfContext}: true, {Kind: crdt.IfVersion, Version: dot(1)}: true,
		{Kind: crdt.IfVersion}: false, {Kind: crdt.IfAbsent, Version: dot(1)}: false, {Kind: 5}: false,
	} {
		if c.Valid() != want {
			t.Errorf("%v: valid is %v", c, !want)
		}
	}
}
