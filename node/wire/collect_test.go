package wire_test

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/wire"
)

func collects() []wire.Collect {
	var had, void crdt.Clock
	had.AddSpan(crdt.Dots{Actor: 7, Span: crdt.Span{Lo: 2, Hi: 9}})
	void.AddSpan(crdt.Dots{Actor: 7, Span: crdt.Span{Lo: 1, Hi: 9}})
	return []wire.Collect{
		{Kind: wire.CollectPass, Partition: 3, Floor: 99 << 16, Round: 1 << 63, Pass: 1},
		{Kind: wire.CollectPass, Partition: 300, Floor: 99 << 16, Round: 5, Pass: 2, From: 8, Had: &had, Void: &void, Closed: []crdt.Actor{7, 9}},
		{Kind: wire.CollectWaiting, Partition: 1, Floor: 1},
		{Kind: wire.CollectSought, Partition: 3},
		{Kind: wire.CollectDoubts, Partition: 2, Doubts: []wire.Doubt{{Key: []byte("b\x00k"), Dots: []crdt.Dot{{Actor: 1, N: 2}, {Actor: 3, N: 4}}}}},
	}
}

func TestCollect(t *testing.T) {
	for _, m := range collects() {
		b := wire.AppendCollect(nil, &m)
		got, err := wire.DecodeCollect(b)
		if err != nil || !bytes.Equal(wire.AppendCollect(nil, &got), b) {
			t.Errorf("%+v: %+v, %v", m, got, err)
		}
		for n := range b {
			if _, err := wire.DecodeCollect(b[:n]); err == nil {
				t.Errorf("%+v: %d of %d bytes decode", m, n, len(b))
			}
		}
	}
	a := wire.CollectAnswer{Actor: 4, Boot: 5, Completed: 6, Clock: &crdt.Clock{}, Settled: true, Count: 7, Digest: 8, Takers: []string{"n1", "n2"}, Former: []crdt.Actor{1, 1 << 31}}
	if got, err := wire.DecodeCollectAnswer(wire.AppendCollectAnswer(nil, &a)); err != nil || !reflect.DeepEqual(got, a) {
		t.Errorf("%+v, %v", got, err)
	}
	ws := []wire.Words{{Words: []wire.Word{wire.Holds, wire.Covers}, Record: []byte("r")}, {Words: []wire.Word{wire.Silent}, Record: []byte{}}}
	if got, err := wire.DecodeWords(wire.AppendWords(nil, ws)); err != nil || !reflect.DeepEqual(got, ws) {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzCollect(f *testing.F) {
	for _, m := range collects() {
		f.Add(wire.AppendCollect(nil, &m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := wire.DecodeCollect(b); err == nil {
			again, err := wire.DecodeCollect(wire.AppendCollect(nil, &m))
			if err != nil || !reflect.DeepEqual(m, again) {
				t.Errorf("%+v, %+v, %v", m, again, err)
			}
		}
		if m, err := wire.DecodeCollectAnswer(b); err == nil {
			if again, err := wire.DecodeCollectAnswer(wire.AppendCollectAnswer(nil, &m)); err != nil || !reflect.DeepEqual(m, again) {
				t.Errorf("%+v, %+v, %v", m, again, err)
			}
		}
		if m, err := wire.DecodeWords(b); err == nil {
			if again, err := wire.DecodeWords(wire.AppendWords(nil, m)); err != nil || !reflect.DeepEqual(m, again) {
				t.Errorf("%+v, %+v, %v", m, again, err)
			}
		}
	})
}
