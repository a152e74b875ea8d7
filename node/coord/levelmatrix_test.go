package coord_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/quorum/leveltest"
	"github.com/atolldb/atoll/node/topology"
)

// situation is what is wrong with three regions of three nodes; the first one
// serves. All owners of a key are all nodes of a region.
type situation struct {
	leveltest.Situation
	arrange func(all []*region)
}

func downIn(r *region, n int) {
	owners := r.owners("default", "any")
	for _, m := range owners[len(owners)-n:] {
		r.kill(m.id)
	}
}

var situations = []situation{
	{leveltest.AllUp, func([]*region) {}},
	{leveltest.OneDown, func(all []*region) { downIn(all[0], 1) }},
	{leveltest.TwoDown, func(all []*region) { downIn(all[0], 2) }},
	{leveltest.TwoDownThere, func(all []*region) { downIn(all[1], 2) }},
	{leveltest.RegionDown, func(all []*region) { all[1].lose(true) }},
	{leveltest.CutUnnoticed, func(all []*region) { cut(all[0], all[1]); cut(all[0], all[2]) }},
	{leveltest.Cut, func(all []*region) {
		cut(all[0], all[1])
		cut(all[0], all[2])
		for _, r := range all[1:] {
			for _, id := range r.ids() {
				all[0].believe(id, true)
			}
		}
	}},
}

// told is what became of an operation.
func told(t *testing.T, write bool, err *coord.Error, took time.Duration) leveltest.Verdict {
	t.Helper()
	switch {
	case err == nil:
		return leveltest.OK
	case err.Code == coord.CodeUnavailable && err.Outcome == coord.NotApplied && took < patience/4:
		return leveltest.Refused
	case write && err.Code == coord.CodePartial && err.Outcome == coord.Applied && err.Applied != nil && took < patience:
		return leveltest.Waits
	case !write && err.Code == coord.CodeDeadline && err.Outcome == coord.NotApplied && took < patience:
		return leveltest.Waits
	}
	return leveltest.Verdict(fmt.Sprintf("%v after %v", err, took))
}

// TestLevelMatrix: each level, for writes and for reads, does in each situation
// what its definition promises, with the right error and outcome; and each read
// that is answered sees each acknowledged write that it is sure to see, though
// no stream between the regions carries anything here. The tables are those of
// docs/consistency.md.
func TestLevelMatrix(t *testing.T) {
	table := map[bool][][]string{} // by write
	for _, write := range []bool{true, false} {
		head := []string{"level"}
		for _, s := range situations {
			head = append(head, string(s.Situation))
		}
		table[write] = [][]string{head}
		for _, l := range leveltest.Levels {
			table[write] = append(table[write], []string{l.String()})
		}
	}
	for _, s := range situations {
		t.Run(string(s.Situation), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all := newRegions(t, 3, 3)
				here := all[0].owners("default", "any")[0]
				s.arrange(all)
				pairs := 0
				for i, wl := range leveltest.Levels {
					wrote := matrixPut(t, here, "w"+wl.String(), wl)
					if wrote != leveltest.Promised(wl, s.Situation) {
						t.Errorf("a write at %v: %s, want %s", wl, wrote, leveltest.Promised(wl, s.Situation))
					}
					table[true][i+1] = append(table[true][i+1], wrote.Cell(true))
					_, got := matrixGet(t, here, "none", wl)
					if got != leveltest.Promised(wl, s.Situation) {
						t.Errorf("a read at %v: %s, want %s", wl, got, leveltest.Promised(wl, s.Situation))
					}
					table[false][i+1] = append(table[false][i+1], got.Cell(false))
					pairs += matrixSees(t, all, wl)
				}
				t.Logf("%d reads had to see a write, and did", pairs)
			})
		})
	}
	writes, reads := markdown(table[true]), markdown(table[false])
	t.Logf("writes:\n%s\nreads:\n%s", writes, reads)
	inDocument(t, "writes under faults", writes)
	inDocument(t, "reads under faults", reads)
}

func matrixPut(t *testing.T, m *member, k string, l quorum.Level) leveltest.Verdict {
	began := time.Now()
	_, err := m.put(t, leveled(k, "v", l))
	return told(t, true, err, time.Since(began))
}

func matrixGet(t *testing.T, m *member, k string, l quorum.Level) ([]string, leveltest.Verdict) {
	g := get(k)
	g.Level = l
	began := time.Now()
	res, err := m.get(t, g)
	return live(res.View), told(t, false, err, time.Since(began))
}

// matrixSees writes at a level, once for each way of reading, so that no read
// repairs what the next one meets, and has reads that are sure to see it do so.
func matrixSees(t *testing.T, all []*region, wl quorum.Level) (n int) {
	for _, rl := range leveltest.Levels {
		for at, r := range all {
			if !leveltest.Sure(wl, rl, at == 0) {
				continue
			}
			k := fmt.Sprint(wl, "-", rl, "-", at)
			if wrote := matrixPut(t, all[0].owners("default", "any")[0], k, wl); wrote != leveltest.OK {
				break // nothing is promised
			}
			for _, m := range r.owners("default", "any") {
				if !r.alive(m.id) && at == 0 {
					continue
				}
				if seen, got := matrixGet(t, m, k, rl); got == leveltest.OK && !slices.Equal(seen, []string{"v"}) {
					t.Errorf("written at %v here, read at %v through %s: %v", wl, rl, m.id, seen)
				} else if got == leveltest.OK {
					n++
				}
			}
		}
	}
	return n
}

// TestIntersection compares the document's tables of who sees whom with what
// counting gives, and has quorum's own law (TestQuorumsOfQuorumsMeet) stand
// behind that.
func TestIntersection(t *testing.T) {
	for name, same := range map[string]bool{"who sees whom in one region": true, "who sees whom across regions": false} {
		rows := [][]string{{"read \\ written at"}}
		for _, w := range leveltest.Levels {
			rows[0] = append(rows[0], w.String())
		}
		for _, r := range leveltest.Levels {
			row := []string{r.String()}
			for _, w := range leveltest.Levels {
				if leveltest.Sure(w, r, same) {
					row = append(row, "yes")
				} else {
					row = append(row, "·")
				}
			}
			rows = append(rows, row)
		}
		inDocument(t, name, markdown(rows))
	}
}

// What is not sure does happen: the table's dots are no modesty.
func TestNotSureIsNotSure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newRegions(t, 3, 3)
		missed := 0
		for _, wl := range leveltest.Levels {
			for _, rl := range leveltest.Levels {
				if leveltest.Sure(wl, rl, false) {
					continue
				}
				// The write reaches as few as its level lets it: c is cut off from a.
				all[0].fabric.HealAll()
				if wl.Regions(3) < 3 {
					cut(all[0], all[2])
				}
				k := fmt.Sprint(wl, "-", rl)
				if matrixPut(t, all[0].owners("default", "any")[0], k, wl) != leveltest.OK {
					continue
				}
				if seen, got := matrixGet(t, all[2].nodes[topology.NodeID("cn1")], k, rl); got == leveltest.OK && len(seen) == 0 {
					missed++
				}
			}
		}
		if missed < 10 {
			t.Errorf("only %d reads missed a write that they need not see", missed)
		}
	})
}

func markdown(rows [][]string) string {
	var b strings.Builder
	for i, row := range rows {
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
		if i == 0 {
			b.WriteString(strings.Repeat("|---", len(row)) + "|\n")
		}
	}
	return b.String()
}

// inDocument checks that docs/consistency.md has a table between its marks.
func inDocument(t *testing.T, name, want string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/consistency.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "<!-- table: "+name+" -->\n")
	got, _, end := strings.Cut(rest, "<!-- end -->")
	if !ok || !end || strings.TrimSpace(got) != strings.TrimSpace(want) {
		t.Errorf("docs/consistency.md: the table %q is not, or no longer:\n%s", name, want)
	}
}
