package geotest

import (
	"fmt"
	"sync"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/hashring"
)

// Outbox is a geo.Source in memory: the dots one actor minted, in order.
type Outbox struct {
	actor crdt.Actor
	wake  chan struct{}

	mu        sync.Mutex
	minted    []mint
	counters  map[hashring.Partition]uint64
	latest    map[string][]byte
	cursor    int // into minted: what Peek gives out next
	confirmed map[hashring.Partition]uint64
	open      uint64
}

type mint struct {
	partition hashring.Partition
	n         uint64
	key       string
}

// NewOutbox returns an empty source for actor.
func NewOutbox(actor crdt.Actor) *Outbox {
	return &Outbox{
		actor: actor, wake: make(chan struct{}, 1),
		counters: make(map[hashring.Partition]uint64), confirmed: make(map[hashring.Partition]uint64),
		latest: make(map[string][]byte),
	}
}

// Mint makes record the current one of key and returns its dot.
func (o *Outbox) Mint(p hashring.Partition, key string, record []byte) crdt.Dot {
	o.mu.Lock()
	o.counters[p]++
	d := crdt.Dot{Actor: o.actor, N: o.counters[p]}
	o.minted = append(o.minted, mint{p, d.N, key})
	o.latest[key] = record
	o.open++
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return d
}

// Peek implements geo.Source.
func (o *Outbox) Peek(limit int) ([]geo.Entry, []geo.Mark, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var entries []geo.Entry
	at := make(map[string]int)
	reach := make(map[hashring.Partition]uint64)
	var order []hashring.Partition
	for size := 0; o.cursor < len(o.minted) && size < limit; o.cursor++ {
		m := o.minted[o.cursor]
		if _, ok := reach[m.partition]; !ok {
			order = append(order, m.partition)
		}
		reach[m.partition] = m.n
		dot := crdt.Dot{Actor: o.actor, N: m.n}
		if i, ok := at[m.key]; ok {
			entries[i].Dots = append(entries[i].Dots, dot)
			continue
		}
		at[m.key] = len(entries)
		e := geo.Entry{Partition: m.partition, Key: []byte(m.key), Record: o.latest[m.key], Dots: []crdt.Dot{dot}}
		size += len(e.Key) + len(e.Record)
		entries = append(entries, e)
	}
	var marks []geo.Mark
	for _, p := range order {
		marks = append(marks, geo.Mark{Partition: p, Actor: o.actor, N: reach[p]})
	}
	return entries, marks, nil
}

// Rewind implements geo.Source.
func (o *Outbox) Rewind() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.cursor = 0; o.cursor < len(o.minted); o.cursor++ {
		if m := o.minted[o.cursor]; m.n > o.confirmed[m.partition] {
			return
		}
	}
}

// Confirm implements geo.Source. It refuses marks that go backwards.
func (o *Outbox) Confirm(marks []geo.Mark) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range marks {
		if m.N <= o.confirmed[m.Partition] {
			panic(fmt.Sprintf("geotest: mark %d of partition %d confirmed after %d", m.N, m.Partition, o.confirmed[m.Partition]))
		}
		o.open -= m.N - o.confirmed[m.Partition]
		o.confirmed[m.Partition] = m.N
	}
	return nil
}

// Pending implements geo.Source.
func (o *Outbox) Pending() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.open
}

// Wake implements geo.Source.
func (o *Outbox) Wake() <-chan struct{} { return o.wake }
