// Package arch holds the rules about which code may know what, and checks them
// against the source of the whole tree. It runs as a test and has no other use.
//
// It parses every Go file, whatever its build tags, and asks:
//
//   - layers.go: does a package import only what is below it?
//   - libraries.go: is each heavy library known in one place only?
//   - purity.go: do the pure packages stay free of time, chance, I/O and
//     concurrency, so that a test can replay every decision?
//   - habits.go: the small rules of the house (one logger, no init, packages
//     that say what they are for).
//   - sleep.go: does a test wait for real time?
//
// What the parser cannot see (what a package drags in through others) is asked
// of `go list -deps` in arch_test.go.
//
// Test files are free to import across layers (a driver's test needs a memory
// twin); the libraries' and the house rules hold for them too.
//
// Each failure gives the rule's reason. A rule that is in the way is changed
// here, with its reason, in the commit that needs it. planted_test.go holds a
// violation of every rule, so that none can stop working unnoticed.
package arch

import (
	"fmt"
	"go/token"
)

const module = "github.com/atolldb/atoll"

// Violation is one place that breaks a rule.
type Violation struct {
	Pos  token.Position
	What string
	Why  string
}

func (v Violation) String() string {
	return fmt.Sprintf("%s:%d: %s\n\twhy not: %s", v.Pos.Filename, v.Pos.Line, v.What, v.Why)
}

// Check returns every violation in the tree.
func Check(t *Tree) []Violation {
	var out []Violation
	for _, f := range t.Files {
		out = append(out, checkLayers(t, f)...)
		out = append(out, checkLibraries(t, f)...)
		if f.Generated {
			continue
		}
		out = append(out, checkPurity(t, f)...)
		out = append(out, checkHabits(t, f)...)
	}
	out = append(out, checkSleep(t)...)
	return append(out, checkPackages(t)...)
}
