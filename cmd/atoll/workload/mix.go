package workload

import (
	"fmt"
	"math/rand/v2"
)

// Kind of an operation.
type Kind uint8

// The kinds. Update reads a key and writes it after what it read.
const (
	Get Kind = iota
	Put
	Update
	kinds
)

func (k Kind) String() string { return [...]string{"get", "put", "rmw"}[k] }

// Mixes are the names that ParseMix knows: a, b and c are YCSB's.
var Mixes = []string{"a", "b", "c", "get", "put", "rmw"}

// Mix is how many of a hundred operations are of each kind.
type Mix [kinds]int

// ParseMix returns one of Mixes.
func ParseMix(name string) (Mix, error) {
	switch name {
	case "a":
		return Mix{Get: 50, Put: 50}, nil
	case "b":
		return Mix{Get: 95, Put: 5}, nil
	case "c", "get":
		return Mix{Get: 100}, nil
	case "put":
		return Mix{Put: 100}, nil
	case "rmw":
		return Mix{Update: 100}, nil
	}
	return Mix{}, fmt.Errorf("no mix %q", name)
}

func (m Mix) choose(rng *rand.Rand) Kind {
	n := rng.IntN(100)
	for k := range kinds {
		if n -= m[k]; n < 0 {
			return k
		}
	}
	return Get
}

// AppendKey adds the key of number n, all of the same length below 10^12.
func AppendKey(dst []byte, prefix string, n int) []byte {
	dst = append(dst, prefix...)
	start := len(dst)
	dst = append(dst, "000000000000"...)
	for i := len(dst) - 1; i >= start && n > 0; i-- {
		dst[i] = byte('0' + n%10)
		n /= 10
	}
	return dst
}

// Values are bytes that no compression makes smaller, cut from a block at
// random places, which costs nothing per value.
type Values struct {
	block []byte
	size  int
}

// NewValues makes values of size bytes.
func NewValues(rng *rand.Rand, size int) Values {
	v := Values{make([]byte, 2*size+64), size}
	for i := range v.block {
		v.block[i] = byte(rng.Uint32())
	}
	return v
}

// Next value; it must not be changed.
func (v Values) Next(rng *rand.Rand) []byte {
	at := rng.IntN(len(v.block) - v.size)
	return v.block[at : at+v.size : at+v.size]
}
