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
	"github.com/atolldb/atoll/node/topology"
)

// The levels of docs/consistency.md, but for those by consensus.
var matrixLevels = []quorum.Level{
	quorum.LocalOne, quorum.LocalTwo, quorum.LocalThree, quorum.LocalQuorum, quorum.LocalAll,
	quorum.Quorum, quorum.EachQuorum, quorum.All,
}

// situation is what is wrong with three regions of three nodes; the first one
// serves. All owners of a key are all nodes of a region.
type situation struct {
	name    string
	arrange func(all []*region)
}

func downIn(r *region, n int) {
	owners := r.owners("default", "any")
	for _, m := range owners[len(owners)-n:] {
		r.kill(m.id)
	}
}

var situations = []situation{
	{"all up", func([]*region) {}},
	{"1 node down here", func(all []*region) { downIn(all[0], 1) }},
	{"2 nodes down here", func(all []*region) { downIn(all[0], 2) }},
	{"2 nodes down in another region", func(all []*region) { downIn(all[1], 2) }},
	{"another region down", func(all []*region) { all[1].lose(true) }},
	{"cut off, not noticed yet", func(all []*region) { cut(all[0], all[1]); cut(all[0], all[2]) }},
	{"cut off", func(all []*region) {
		cut(all[0], all[1])
		cut(all[0], all[2])
		for _, r := range all[1:] {
			for _, id := range r.ids() {
				all[0].believe(id, true)
			}
		}
	}},
}

// promised is what a level's definition says of an operation, worked out by
// counting alone: met, refused at once, or waited for in vain.
func promised(l quorum.Level, situation string) string {
	const owners, regions = 3, 3
	inEach, inRegions, err := quorum.Ask{Level: l}.Bounds(owners, regions)
	if err != nil {
		panic(err)
	}
	up := [regions]int{owners, owners, owners} // owners that can take part
	known := regions                           // regions of which some node is thought to be up
	switch situation {
	case "1 node down here":
		up[0] = 2
	case "2 nodes down here":
		up[0] = 1
	case "2 nodes down in another region":
		up[1] = 1
	case "another region down":
		up[1], known = 0, 2
	case "cut off, not noticed yet":
		up[1], up[2] = 0, 0
	case "cut off":
		up[1], up[2], known = 0, 0, 1
	}
	met := 0
	for _, n := range up {
		if n >= inEach {
			met++
		}
	}
	switch {
	case up[0] < inEach || known < inRegions:
		return "refused"
	case met < inRegions:
		return "waits"
	}
	return "ok"
}

// told is what became of an operation.
func told(t *testing.T, write bool, err *coord.Error, took time.Duration) string {
	t.Helper()
	switch {
	case err == nil:
		return "ok"
	case err.Code == coord.CodeUnavailable && err.Outcome == coord.NotApplied && took < patience/4:
		return "refused"
	case write && err.Code == coord.CodePartial && err.Outcome == coord.Applied && err.Applied != nil && took < patience:
		return "waits"
	case !write && err.Code == coord.CodeDeadline && err.Outcome == coord.NotApplied && took < patience:
		return "waits"
	}
	return fmt.Sprintf("%v after %v", err, took)
}

// cell is how the table says it.
func cell(verdict string, write bool) string {
	switch {
	case verdict == "waits" && write:
		return "PARTIAL"
	case verdict == "waits":
		return "DEADLINE"
	case verdict == "refused":
		return "UNAVAILABLE"
	}
	return verdict
}

// sure reports whether each read sees each write, by counting: their owners
// overlap in each region that both take part in, and there is such a region.
func sure(write, read quorum.Level, sameRegion bool) bool {
	const owners, regions = 3, 3
	we, wr, _ := quorum.Ask{Level: write}.Bounds(owners, regions)
	re, rr, _ := quorum.Ask{Level: read}.Bounds(owners, regions)
	return we+re > owners && (sameRegion || wr+rr > regions)
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
			head = append(head, s.name)
		}
		table[write] = [][]string{head}
		for _, l := range matrixLevels {
			table[write] = append(table[write], []string{l.String()})
		}
	}
	for _, s := range situations {
		t.Run(s.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all := newRegions(t, 3, 3)
				here := all[0].owners("default", "any")[0]
				s.arrange(all)
				pairs := 0
				for i, wl := range matrixLevels {
					wrote := matrixPut(t, here, "w"+wl.String(), wl)
					if wrote != promised(wl, s.name) {
						t.Errorf("a write at %v: %s, want %s", wl, wrote, promised(wl, s.name))
					}
					table[true][i+1] = append(table[true][i+1], cell(wrote, true))
					_, got := matrixGet(t, here, "none", wl)
					if got != promised(wl, s.name) {
						t.Errorf("a read at %v: %s, want %s", wl, got, promised(wl, s.name))
					}
					table[false][i+1] = append(table[false][i+1], cell(got, false))
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

func matrixPut(t *testing.T, m *member, k string, l quorum.Level) string {
	began := time.Now()
	_, err := m.put(t, leveled(k, "v", l))
	return told(t, true, err, time.Since(began))
}

func matrixGet(t *testing.T, m *member, k string, l quorum.Level) ([]string, string) {
	g := get(k)
	g.Level = l
	began := time.Now()
	res, err := m.get(t, g)
	return live(res.View), told(t, false, err, time.Since(began))
}

// matrixSees writes at a level, once for each way of reading, so that no read
// repairs what the next one meets, and has reads that are sure to see it do so.
func matrixSees(t *testing.T, all []*region, wl quorum.Level) (n int) {
	for _, rl := range matrixLevels {
		for at, r := range all {
			if !sure(wl, rl, at == 0) {
				continue
			}
			k := fmt.Sprint(wl, "-", rl, "-", at)
			if wrote := matrixPut(t, all[0].owners("default", "any")[0], k, wl); wrote != "ok" {
				break // nothing is promised
			}
			for _, m := range r.owners("default", "any") {
				if !r.alive(m.id) && at == 0 {
					continue
				}
				if seen, got := matrixGet(t, m, k, rl); got == "ok" && !slices.Equal(seen, []string{"v"}) {
					t.Errorf("written at %v here, read at %v through %s: %v", wl, rl, m.id, seen)
				} else if got == "ok" {
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
		for _, w := range matrixLevels {
			rows[0] = append(rows[0], w.String())
		}
		for _, r := range matrixLevels {
			row := []string{r.String()}
			for _, w := range matrixLevels {
				if sure(w, r, same) {
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
		for _, wl := range matrixLevels {
			for _, rl := range matrixLevels {
				if sure(wl, rl, false) {
					continue
				}
				// The write reaches as few as its level lets it: c is cut off from a.
				all[0].fabric.HealAll()
				if wl.Regions(3) < 3 {
					cut(all[0], all[2])
				}
				k := fmt.Sprint(wl, "-", rl)
				if matrixPut(t, all[0].owners("default", "any")[0], k, wl) != "ok" {
					continue
				}
				if seen, got := matrixGet(t, all[2].nodes[topology.NodeID("cn1")], k, rl); got == "ok" && len(seen) == 0 {
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
