package crdt

import "fmt"

// Condition says what must be there for a write to happen. The zero Condition
// always holds.
type Condition struct {
	Kind ConditionKind
	// Version of IfVersion.
	Version Dot
}

// ConditionKind is what a Condition asks. The numbers are wire format.
type ConditionKind uint8

// The kinds. What is dead, or has expired, is not there.
const (
	Always ConditionKind = 0
	// IfAbsent: no live version.
	IfAbsent ConditionKind = 1
	// IfPresent: at least one live version.
	IfPresent ConditionKind = 2
	// IfVersion: Condition.Version, and no live version beside it.
	IfVersion ConditionKind = 3
	// IfContext: no live version that the writer's context has not seen.
	IfContext ConditionKind = 4
)

// Valid reports whether c is a condition that can be judged.
func (c Condition) Valid() bool {
	return c.Kind <= IfContext && (c.Kind == IfVersion) != c.Version.IsZero()
}

// Holds judges c of a record at nowMs (milliseconds since 1970) for a writer
// that has seen so much. It judges versions, whatever kind of register shows
// them.
func (c Condition) Holds(r Record, seen VV, nowMs int64) bool {
	live, unseen, match := 0, false, false
	for i := range r.Versions {
		v := &r.Versions[i]
		if v.DeadAt(nowMs) {
			continue
		}
		live++
		unseen = unseen || !seen.Covers(v.Dot)
		match = match || v.Dot == c.Version
	}
	switch c.Kind {
	case Always:
		return true
	case IfAbsent:
		return live == 0
	case IfPresent:
		return live > 0
	case IfVersion:
		return live == 1 && match
	case IfContext:
		return !unseen
	}
	return false
}

func (c Condition) String() string {
	switch c.Kind {
	case Always:
		return "always"
	case IfAbsent:
		return "if_absent"
	case IfPresent:
		return "if_present"
	case IfVersion:
		return "if_version " + c.Version.String()
	case IfContext:
		return "if_context"
	}
	return fmt.Sprintf("condition %d", uint8(c.Kind))
}
