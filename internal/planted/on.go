//go:build planted

package planted

// Enabled says whether bugs can be planted in this build.
const Enabled = true

var bug string

// Bug reports whether a bug is planted.
func Bug(name string) bool { return bug == name }

// Plant plants one bug, instead of the one before. Call it before anything
// runs.
func Plant(name string) { bug = name }
