package repair

import (
	"sync"

	"github.com/atolldb/atoll/hashring"
)

// each calls f for the numbers below count, at most n at a time, and waits.
func each(n, count int, f func(int)) {
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(n, count) {
		workers.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range count {
		next <- i
	}
	close(next)
	workers.Wait()
}

// partitionSet can be used by many goroutines. The zero value is empty.
type partitionSet struct {
	mu sync.Mutex
	in map[hashring.Partition]bool
}

// add reports whether p is new.
func (s *partitionSet) add(p hashring.Partition) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.in == nil {
		s.in = map[hashring.Partition]bool{}
	}
	was := s.in[p]
	s.in[p] = true
	return !was
}

func (s *partitionSet) has(p hashring.Partition) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.in[p]
}

func (s *partitionSet) empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.in) == 0
}
