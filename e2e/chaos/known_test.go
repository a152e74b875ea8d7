//go:build chaos && linux

package chaos

// known lists what is known to break C2 or C3, by the name that a scenario
// gives it, with the reason. An entry that no longer happens fails the run.
var known = map[string]string{
	"flip-stopped sst":      noQuarantine,
	"flip-stopped manifest": noQuarantine,
	"flip-running sst":      noQuarantine,
	"flip-running manifest": noQuarantine,
}

const noQuarantine = "a store that does not open is not set aside: an operator has to wipe it"
