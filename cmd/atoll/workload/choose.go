package workload

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
)

// Distributions are the names that NewChooser knows.
var Distributions = []string{"uniform", "zipfian", "latest"}

// Skew is the exponent of zipfian and latest, that of YCSB.
const Skew = 0.99

// Chooser picks keys by number. It is safe for concurrent use, with a source
// for each goroutine.
type Chooser interface {
	// Choose returns a number from 0 to below the number of keys.
	Choose(rng *rand.Rand, write bool) int
}

// NewChooser returns one of Distributions over keys.
//
//   - uniform: all keys alike.
//   - zipfian: the key of number i, from 0, comes in proportion to
//     1/(i+1)^Skew. Neighbours in number are not neighbours in the store, which
//     hashes keys, so there is no need to scramble.
//   - latest: a write goes to the next key in turn, a read to one that was
//     written lately, by how many writes ago in the same proportion.
func NewChooser(distribution string, keys int) (Chooser, error) {
	switch distribution {
	case "uniform":
		return uniform(keys), nil
	case "zipfian":
		return newZipf(keys, Skew), nil
	case "latest":
		return &latest{zipf: newZipf(keys, Skew)}, nil
	}
	return nil, fmt.Errorf("no distribution %q", distribution)
}

type uniform int

func (n uniform) Choose(rng *rand.Rand, _ bool) int { return rng.IntN(int(n)) }

type latest struct {
	zipf *zipf
	head atomic.Int64 // writes so far
}

func (l *latest) Choose(rng *rand.Rand, write bool) int {
	n := int64(l.zipf.n)
	if write {
		return int((l.head.Add(1) - 1) % n)
	}
	back := int64(l.zipf.Choose(rng, false)) + 1
	return int(((l.head.Load()-back)%n + n) % n)
}

// zipf draws by rejection-inversion (Hörmann and Derflinger, "Rejection-
// inversion to generate variates from monotone discrete distributions", ACM
// TOMACS 6(3), 1996): exact, without a table, for any exponent above 0. The
// integral of x^-s is written by expm1 and log1p so that it is smooth at s = 1.
type zipf struct {
	n, s            float64
	hX1, hN, reject float64
}

func newZipf(n int, s float64) *zipf {
	z := &zipf{n: float64(n), s: s}
	z.hX1 = z.integral(1.5) - 1
	z.hN = z.integral(z.n + 0.5)
	z.reject = 2 - z.inverse(z.integral(2.5)-z.density(2))
	return z
}

func (z *zipf) Choose(rng *rand.Rand, _ bool) int {
	for {
		u := z.hN + rng.Float64()*(z.hX1-z.hN)
		x := z.inverse(u)
		k := min(max(math.Floor(x+0.5), 1), z.n)
		if k-x <= z.reject || u >= z.integral(k+0.5)-z.density(k) {
			return int(k) - 1
		}
	}
}

func (z *zipf) density(x float64) float64 { return math.Exp(-z.s * math.Log(x)) }

// integral of the density, up to a constant.
func (z *zipf) integral(x float64) float64 {
	l := math.Log(x)
	return expm1Ratio((1-z.s)*l) * l
}

func (z *zipf) inverse(x float64) float64 {
	t := max(x*(1-z.s), -1) // rounding
	return math.Exp(log1pRatio(t) * x)
}

// expm1Ratio is (e^x-1)/x, log1pRatio is ln(1+x)/x; by their series near 0.
func expm1Ratio(x float64) float64 {
	if math.Abs(x) > 1e-8 {
		return math.Expm1(x) / x
	}
	return 1 + x/2*(1+x/3)
}

func log1pRatio(x float64) float64 {
	if math.Abs(x) > 1e-8 {
		return math.Log1p(x) / x
	}
	return 1 - x*(0.5-x/3)
}
