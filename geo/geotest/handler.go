package geotest

import (
	"context"
	"slices"

	"github.com/atolldb/atoll/geo"
)

// handler records what a feed calls.
type handler struct {
	signal
	// answer, when not nil, decides on the n-th delivery (from 1) of a batch.
	answer    func(b geo.Batch, n int) error
	came      map[uint64]int // deliveries by batch number
	handled   map[uint64]int // of those, answered with nil
	announced []string
	gaps      []string
	links     []bool
	running   int
	most      int // running at once
}

func newHandler(answer func(geo.Batch, int) error) *handler {
	return &handler{signal: newSignal(), answer: answer, came: make(map[uint64]int), handled: make(map[uint64]int)}
}

func (h *handler) Batch(_ context.Context, b geo.Batch) error {
	var n int
	h.update(func() {
		h.came[b.Header.Number]++
		n = h.came[b.Header.Number]
		h.running++
		h.most = max(h.most, h.running)
	})
	var err error
	if h.answer != nil {
		err = h.answer(b, n)
	}
	h.update(func() {
		h.running--
		if err == nil {
			h.handled[b.Header.Number]++
		}
	})
	return err
}

func (h *handler) Announced(data []byte) {
	h.update(func() { h.announced = append(h.announced, string(data)) })
}

func (h *handler) Gap(reason string) { h.update(func() { h.gaps = append(h.gaps, reason) }) }

func (h *handler) Link(up bool) { h.update(func() { h.links = append(h.links, up) }) }

func (h *handler) isUp() bool { return len(h.links) > 0 && h.links[len(h.links)-1] }

func (h *handler) has(numbers ...uint64) bool {
	return !slices.ContainsFunc(numbers, func(n uint64) bool { return h.handled[n] == 0 })
}
