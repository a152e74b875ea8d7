package repair

import "sync"

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
