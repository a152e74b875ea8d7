package model

import (
	"fmt"
	"strings"
)

type field struct {
	name string
	n    *int
}

func (s *Stats) fields() []field {
	return []field{
		{"events", &s.Events},
		{"acked", &s.Acked},
		{"deletes", &s.Deletes},
		{"crashes", &s.Crashes},
		{"batches taken back", &s.TakenBack},
		{"wipes", &s.Wipes},
		{"copied disks", &s.Copies},
		{"clean stops", &s.CleanStops},
		{"silent faults", &s.SilentFaults},
		{"faults refused", &s.Refused},
		{"clock syncs", &s.ClockSyncs},
		{"full syncs", &s.FullSyncs},
		{"digest repairs", &s.DigestRepairs},
		{"rounds", &s.Rounds},
		{"rounds off", &s.RoundsOff},
		{"collected", &s.Collected},
		{"void runs", &s.Voided},
		{"late kept back", &s.LateKept},
		{"late confirmed", &s.LateConfirmed},
		{"late waits", &s.LateWaits},
		{"sifted", &s.Sifted},
		{"amnesia", &s.Amnesia},
		{"excused", &s.Excused},
		{"excused and lost", &s.ExcusedLost},
		{"revived", &s.Revived},
		{"only in side logs", &s.OnlyInSideLogs},
		{"very late messages", &s.Slept},
		{"excused, given up", &s.ExcusedGivenUp},
	}
}

// Add sums counts of several histories.
func (s *Stats) Add(o *Stats) { s.add(o) }

func (s *Stats) String() string {
	var b strings.Builder
	for _, f := range s.fields() {
		fmt.Fprintf(&b, "%-22s %d\n", f.name, *f.n)
	}
	return b.String()
}
