package geo

// Releasing is a log that can let go of regions that were removed: nothing is kept
// for them any more, and what they still ask is undone when it is seen.
type Releasing interface {
	// Release says which regions are gone, instead of those said before. It does not
	// wait, and is called again now and then.
	Release(regions []string)
}
