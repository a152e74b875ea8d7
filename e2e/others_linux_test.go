//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Who waits for a processor that strangers use waits for as long as they like,
// and a latency says nothing of the region: so it is measured how much of the
// processors others had.

// othersMost is how much of one processor others may use while a latency is
// measured that cannot be measured again and again.
const othersMost = .25

// usage of the processors until now: by everybody, by this test with its nodes, and
// by its nodes. Kernel threads are others; what they do for the nodes is little.
type usage struct {
	all, own, nodes time.Duration
	at              time.Time
}

// jiffy is what /proc counts processor time in.
const jiffy = 10 * time.Millisecond

func (r *region) usage() usage {
	r.t.Helper()
	u := usage{at: time.Now(), all: processorsUsed(r.t)}
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var took unix.Rusage
		if err := unix.Getrusage(who, &took); err != nil {
			r.t.Fatal(err)
		}
		u.own += time.Duration(took.Utime.Nano() + took.Stime.Nano())
	}
	for _, p := range r.procs {
		if !p.Running() {
			continue
		}
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid()))
		if err != nil {
			r.t.Fatal(err)
		}
		_, rest, _ := bytes.Cut(b, []byte(") "))
		for _, f := range bytes.Fields(rest)[11:13] {
			n, err := strconv.Atoi(string(f))
			if err != nil {
				r.t.Fatal(err)
			}
			u.nodes += time.Duration(n) * jiffy
		}
	}
	u.own += u.nodes
	return u
}

// processorsUsed is the time that all processors have worked until now, for anybody.
func processorsUsed(t *testing.T) (all time.Duration) {
	t.Helper()
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	for i, f := range bytes.Fields(line)[1:] {
		if i == 3 || i == 4 || i > 7 { // idle, waiting for disks, guests (in user)
			continue
		}
		n, err := strconv.Atoi(string(f))
		if err != nil {
			t.Fatal(err)
		}
		all += time.Duration(n) * jiffy
	}
	return all
}

// others is how many processors others have used since then, on average.
func (r *region) others(since usage) float64 {
	now := r.usage()
	return max(float64((now.all-since.all)-(now.own-since.own))/float64(now.at.Sub(since.at)), 0)
}
