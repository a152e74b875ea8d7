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
	"flip-stopped sst":          {why: noQuarantine},
	"flip-stopped manifest":     {why: noQuarantine},
	"flip-stopped key registry": {why: noQuarantine, sometimes: true},
	"flip-running sst":          {why: noQuarantine},
	"flip-running manifest":     {why: noQuarantine},
	"flip-running key registry": {why: noQuarantine, sometimes: true},
}

const noQuarantine = "a store that does not open is not set aside: an operator has to wipe it"
