//go:build !race

package nodetest

// seeds is how many Worlds of a sort a test looks at by itself.
func seeds(n int) int { return n }

// together says whether Worlds of several seeds run at a time.
const together = true
