package workload

import (
	"math"
	"math/rand/v2"
	"testing"
)

// The twin of zipf: the probabilities, summed up.
func zipfProbabilities(n int, s float64) []float64 {
	p, sum := make([]float64, n), 0.0
	for i := range p {
		p[i] = math.Pow(float64(i+1), -s)
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
	return p
}

func TestZipfDrawsItsProbabilities(t *testing.T) {
	const draws = 200_000
	for _, c := range []struct {
		n int
		s float64
	}{{1, Skew}, {2, Skew}, {50, Skew}, {50, 1}, {50, 0.5}, {50, 2}, {1000, Skew}} {
		z, rng := newZipf(c.n, c.s), rand.New(rand.NewPCG(1, 2))
		seen := make([]int, c.n)
		for range draws {
			seen[z.Choose(rng, false)]++
		}
		chi := 0.0
		for i, p := range zipfProbabilities(c.n, c.s) {
			want := p * draws
			chi += (float64(seen[i]) - want) * (float64(seen[i]) - want) / want
		}
		// The mean of chi square is n-1, its deviation sqrt(2(n-1)).
		if limit := float64(c.n-1) + 5*math.Sqrt(2*float64(c.n)); chi > limit {
			t.Errorf("n %d, s %v: chi square %.1f, limit %.1f", c.n, c.s, chi, limit)
		}
	}
}

func TestUniformIsEven(t *testing.T) {
	c, err := NewChooser("uniform", 10)
	if err != nil {
		t.Fatal(err)
	}
	rng, seen := rand.New(rand.NewPCG(1, 2)), make([]int, 10)
	for range 100_000 {
		seen[c.Choose(rng, false)]++
	}
	for i, n := range seen {
		if n < 9_500 || n > 10_500 {
			t.Errorf("key %d came %d times in 100000", i, n)
		}
	}
}

func TestLatestReadsWhatWasWrittenLately(t *testing.T) {
	c, err := NewChooser("latest", 100)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	if k := c.Choose(rng, false); k < 0 || k >= 100 {
		t.Fatalf("before any write it reads key %d", k)
	}
	for i := range 250 {
		if k := c.Choose(rng, true); k != i%100 {
			t.Fatalf("write %d goes to key %d", i, k)
		}
	}
	p, seen := zipfProbabilities(100, Skew), make([]int, 100)
	for range 100_000 {
		seen[c.Choose(rng, false)]++
	}
	for back := range 5 { // the last write went to key 49
		got, want := float64(seen[49-back]), p[back]*100_000
		if math.Abs(got-want) > 5*math.Sqrt(want) {
			t.Errorf("%d writes ago: read %v times, want about %v", back, got, want)
		}
	}
}

func TestUnknownNames(t *testing.T) {
	if _, err := NewChooser("normal", 1); err == nil {
		t.Error("a distribution that does not exist")
	}
	if _, err := ParseMix("z"); err == nil {
		t.Error("a mix that does not exist")
	}
	for _, name := range Distributions {
		if c, err := NewChooser(name, 1); err != nil || c.Choose(rand.New(rand.NewPCG(1, 2)), true) != 0 {
			t.Errorf("%s over one key", name)
		}
	}
}

func TestMixes(t *testing.T) {
	want := map[string]Mix{
		"a": {50, 50, 0}, "b": {95, 5, 0}, "c": {100, 0, 0},
		"get": {100, 0, 0}, "put": {0, 100, 0}, "rmw": {0, 0, 100},
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, name := range Mixes {
		m, err := ParseMix(name)
		if err != nil || m != want[name] {
			t.Errorf("mix %s is %v, %v", name, m, err)
		}
		var seen [kinds]int
		for range 10_000 {
			seen[m.choose(rng)]++
		}
		for k, n := range seen {
			if math.Abs(float64(n)-float64(m[k])*100) > 250 {
				t.Errorf("mix %s: %d of 10000 are %s", name, n, Kind(k))
			}
		}
	}
}

func TestAppendKey(t *testing.T) {
	for n, want := range map[int]string{
		0: "p/000000000000", 7: "p/000000000007", 1234567890: "p/001234567890", 999999999999: "p/999999999999",
	} {
		if got := string(AppendKey(nil, "p/", n)); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

func TestValues(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{0, 1, 100, 1 << 20} {
		v := NewValues(rng, size)
		a, b := v.Next(rng), v.Next(rng)
		if len(a) != size || len(b) != size || cap(a) != size {
			t.Errorf("size %d: %d and %d bytes", size, len(a), len(b))
		}
		if size >= 100 && string(a) == string(b) {
			t.Errorf("size %d: the same value twice", size)
		}
	}
}

func BenchmarkZipf(b *testing.B) {
	z, rng := newZipf(1_000_000, Skew), rand.New(rand.NewPCG(1, 2))
	for b.Loop() {
		z.Choose(rng, false)
	}
}
