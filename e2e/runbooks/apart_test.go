//go:build runbooks && linux

package runbooks

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/e2e/runbooks/book"
)

var apart = flag.Duration("runbooks.apart", 0, "for how long both regions write while they are cut off from each other and one has been given up; 0: that is not tried")

// Two regions are cut off from each other, one gives up the other by force, and clients
// of both go on writing for long, the same keys too. When the cut has healed the failback
// brings the region back: what it tells to have come late is counted, every acknowledged
// write is there on both sides as a sibling or superseded, and both hold the same.
func TestFailbackAfterWritesOnBothSides(t *testing.T) {
	if *apart == 0 {
		t.Skip("-runbooks.apart=10m says for how long both regions write")
	}
	r := begin(t, &book.Book{Name: "apart", Regions: []string{"eu", "us"}, Nodes: 3, RPO: "0"})
	do := func(command string) string {
		t.Helper()
		began := time.Now()
		out, code, err := r.run(r.ctx, command)
		if err != nil || code != 0 {
			t.Fatalf("%s\nended with %d, %v; it said:\n%s", command, code, err, out)
		}
		r.say("%s (%v)", command, time.Since(began).Round(time.Millisecond))
		for l := range strings.Lines(strings.TrimSpace(out)) {
			r.say("    %s", strings.TrimSpace(l))
		}
		return out
	}
	wrote := func() (counts [2]int64) {
		return [2]int64{r.loads["eu"].t.Tally.OK(), r.loads["us"].t.Tally.OK()}
	}
	r.must(r.inject("cut eu us"))
	r.say("eu and us are cut off from each other")
	r.pause(5 * time.Second)
	do("atoll dr failover eu --force --confirm eu --wait --endpoints $US")
	before := wrote()
	r.pause(*apart)
	after := wrote()
	r.say("for %v clients of both regions worked: %d operations succeeded in eu, %d in us", *apart, after[0]-before[0], after[1]-before[1])
	if after[0] == before[0] || after[1] == before[1] {
		t.Error("one side did nothing")
	}
	r.must(r.net.Heal())
	healed := time.Now()
	if err := r.eventually(healTime, func(ctx context.Context) error {
		_, code, err := r.run(ctx, "atoll dr plan failback eu --endpoints $US")
		if err == nil && code != 0 {
			err = fmt.Errorf("the plan of a failback ends with %d", code)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	do("atoll dr failback eu --confirm eu --wait --endpoints $US")
	r.say("eu is in service %v after the cut has healed", time.Since(healed).Round(time.Millisecond))
	out, _, err := r.run(r.ctx, "atoll dr status -o json --endpoints $US")
	r.must(err)
	var st struct {
		Operation struct{ Missing struct{ Writes json.Number } }
	}
	if err := json.Unmarshal([]byte(out), &st); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n, err := st.Operation.Missing.Writes.Int64(); err != nil || n == 0 {
		t.Errorf("nothing is said to have come late: %s", out)
	}
	r.pause(5 * time.Second) // clients work on what was brought together
	r.conclude()
	do("atoll region verify eu us --endpoints $US")
}
