package process

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	// Field is its path: "listen.client", "regions[1].members[0].peer".
	Field string
	// Want says what is allowed, Seen what is there.
	Want, Seen string
}

func (p Problem) String() string {
	return fmt.Sprintf("%s: %s; seen: %s", p.Field, p.Want, p.Seen)
}

// Problems are all that is wrong with a configuration.
type Problems []Problem

func (ps Problems) Error() string {
	var b strings.Builder
	if len(ps) == 1 {
		b.WriteString("1 problem")
	} else {
		fmt.Fprintf(&b, "%d problems", len(ps))
	}
	for _, p := range ps {
		b.WriteString("\n  " + p.String())
	}
	return b.String()
}

// err is nil when there are none.
func (ps Problems) err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

// bare is a text that is not quoted.
type bare string

func (ps *Problems) add(field, want string, seen any) {
	text := fmt.Sprintf("%#v", seen)
	if b, ok := seen.(bare); ok {
		text = string(b)
	}
	*ps = append(*ps, Problem{field, want, text})
}

// listed shows a set of names.
func listed[N ~string](names map[N]bool) bare {
	var out []string
	for _, n := range slices.Sorted(maps.Keys(names)) {
		out = append(out, string(n))
	}
	return bare(strings.Join(out, ", "))
}
