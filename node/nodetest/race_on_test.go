//go:build race

package nodetest

// seeds is how many Worlds of a sort a test looks at by itself: few, where each is
// ten times as slow, and where many in one process have brought the race detector
// down (a fault in its own code, below synctest.Run, after a million goroutines).
func seeds(int) int { return 1 }
