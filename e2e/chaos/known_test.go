//go:build chaos && linux

package chaos

// shortcoming is something known to break C2 or C3.
type shortcoming struct {
	why string
	// sometimes: whether it happens depends on chance, for example on which
	// bit is flipped. Otherwise a run in which it does not happen fails, so
	// that the entry goes.
	sometimes bool
}

// known lists them by the name that a scenario gives to what is not met. It is
// empty, and stays as long as there may be others.
var known = map[string]shortcoming{}
