package main

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/cmd/atoll/bulk"
)

// bulkFlags are those of import and restore: both write many items, in their order.
type bulkFlags struct {
	skip, inFlight int
	rate           float64
	patience       time.Duration

	item    string        // what there are many of
	most    int           // of them may be under way at a time
	longest time.Duration // may patience be; 0 is no limit
}

// add the flags; item, most and longest are set.
func (b *bulkFlags) add(cmd *cobra.Command, inFlight int) {
	f := cmd.Flags()
	f.Float64Var(&b.rate, "rate", 0, b.item+"s per second; without it, as fast as it goes")
	f.IntVar(&b.skip, "skip", 0, "so many "+b.item+"s at the beginning, to resume")
	f.IntVar(&b.inFlight, "in-flight", inFlight, b.item+"s under way at a time")
	patience := "how long to try again what was not applied"
	if b.longest > 0 {
		patience += fmt.Sprintf(", %.0fm at most", b.longest.Minutes())
	}
	f.DurationVar(&b.patience, "patience", time.Minute, patience)
}

// next is what to do about a run that ended early, with so many items from the start
// done with.
func (b *bulkFlags) next(why error, done int) string {
	when := ""
	if bulk.Hopeless(why) {
		when = "when that is mended, "
	}
	return fmt.Sprintf("%sthe same command with --skip %d", when, done)
}

func (b *bulkFlags) check(cmd *cobra.Command) error {
	switch {
	case b.rate < 0 || math.IsNaN(b.rate):
		return usage(cmd, errors.New("bad rate"+inputBounds("rate", ">= 0", fmt.Sprint(b.rate))))
	case b.skip < 0:
		return usage(cmd, errors.New("bad number of "+b.item+"s"+inputBounds("skip", ">= 0", fmt.Sprint(b.skip))))
	case b.inFlight < 1 || b.inFlight > b.most:
		return usage(cmd, errors.New("bad number of "+b.item+"s"+inputBounds("in-flight", fmt.Sprintf("1..%d", b.most), fmt.Sprint(b.inFlight))))
	case b.longest > 0 && (b.patience < 0 || b.patience > b.longest):
		return usage(cmd, errors.New("bad time"+inputBounds("patience", fmt.Sprintf("0s..%.0fm", b.longest.Minutes()), b.patience.String())))
	case b.patience < 0:
		return usage(cmd, errors.New("bad time"+inputBounds("patience", ">= 0", b.patience.String())))
	}
	return nil
}
