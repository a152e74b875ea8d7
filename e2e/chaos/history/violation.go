package history

import (
	"fmt"
	"sync"
)

// Kind of a violation.
type Kind string

// The kinds.
const (
	Lost        Kind = "lost"        // acknowledged, and gone
	Undead      Kind = "resurrected" // deleted, and back
	Dishonest   Kind = "dishonest"   // said to be not applied, and seen
	Phantom     Kind = "phantom"     // seen, and never written (to this key)
	Stale       Kind = "stale"       // a strong read that misses the last write
	Corrupt     Kind = "corrupt"     // a value that is not what was written
	Diverged    Kind = "diverged"    // places that differ after convergence
	Unreachable Kind = "unread"      // a key that could not be read at the end
)

// Violation is one thing that must not have happened.
type Violation struct {
	Kind Kind
	Key  string
	What string
}

func (v Violation) String() string { return fmt.Sprintf("%s: %s: %s", v.Kind, v.Key, v.What) }

// maxTold bounds how many violations of a kind are kept word for word.
const maxTold = 5

// violations collects them: all are counted, the first of each kind are kept.
type violations struct {
	mu    sync.Mutex
	count map[Kind]int
	told  []Violation
}

func (vs *violations) add(kind Kind, key, format string, args ...any) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	if vs.count == nil {
		vs.count = map[Kind]int{}
	}
	vs.count[kind]++
	if vs.count[kind] <= maxTold {
		vs.told = append(vs.told, Violation{kind, key, fmt.Sprintf(format, args...)})
	}
}

func (vs *violations) all() (map[Kind]int, []Violation) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	count := map[Kind]int{}
	for k, n := range vs.count {
		count[k] = n
	}
	return count, append([]Violation(nil), vs.told...)
}
