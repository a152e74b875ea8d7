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

// known lists them by the name that a scenario gives to what is not met.
var known = map[string]shortcoming{
	"flip-stopped manifest": {why: anotherVersion, sometimes: true},
	"flip-running manifest": {why: anotherVersion, sometimes: true},
}

const anotherVersion = "a bit flipped in a MANIFEST's version makes it look like another program's store, which is not set aside"
