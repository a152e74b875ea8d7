//go:build planted

package planted

import "os"

// Enabled says whether bugs can be planted in this build.
const Enabled = true

// Variable is the environment variable that names the bug which a test begins
// with.
const Variable = "ATOLL_PLANTED_BUG"

var bug = os.Getenv(Variable)

// Bug reports whether a bug is planted.
func Bug(name string) bool { return bug == name }

// Plant plants one bug, instead of the one before. Call it before anything
// runs.
func Plant(name string) { bug = name }
