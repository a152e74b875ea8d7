//go:build !planted

package planted

// Enabled says whether bugs can be planted in this build.
const Enabled = false

// Bug reports whether a bug is planted: never, in this build.
func Bug(string) bool { return false }

// Plant does nothing in this build.
func Plant(string) {}
