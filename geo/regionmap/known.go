package regionmap

import "bytes"

// Known is what a node knows of the map. The zero Known knows nothing.
type Known struct {
	Map *Map
	// Contested says that two contents of this number were seen: what must not
	// happen twice, as deciding for all regions, stops, and a person has to make a
	// change with a higher number.
	Contested bool
}

// Join returns what is known of both. See R1.
func Join(a, b Known) Known {
	switch {
	case a.Map == nil:
		return b
	case b.Map == nil:
		return a
	case a.Map.N > b.Map.N:
		return a
	case b.Map.N > a.Map.N:
		return b
	}
	out := a
	differ := false
	switch x, y := AppendMap(nil, a.Map), AppendMap(nil, b.Map); {
	case a.Map.N == 0 || bytes.Equal(x, y):
	default:
		differ = true
		if c := a.Map.Version.Compare(b.Map.Version); c < 0 || c == 0 && bytes.Compare(x, y) < 0 {
			out = b
		}
	}
	out.Contested = a.Contested || b.Contested || differ
	return out
}

// News reports whether b has something that a has not.
func News(a, b Known) bool {
	j := Join(a, b)
	switch {
	case j.Map == nil:
		return false
	case a.Map == nil:
		return true
	}
	return j.Contested != a.Contested || j.Map != a.Map && !j.Map.Equal(a.Map)
}
