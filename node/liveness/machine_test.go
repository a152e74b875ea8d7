package liveness

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"
)

// TestMachine runs testdata/machine. Each line is a time since the start and
// what happens then (answer, lost, timeout, each with an optional count);
// the state after it is printed, with the span of the next ping.
func TestMachine(t *testing.T) {
	datadriven.RunTest(t, "testdata/machine", func(t *testing.T, d *datadriven.TestData) string {
		var m Machine
		var out strings.Builder
		start := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
		for line := range strings.Lines(d.Input) {
			var at, what string
			times := 1
			if n, _ := fmt.Sscan(line, &at, &what, &times); n < 2 {
				d.Fatalf(t, "bad line %q", line)
			}
			after, err := time.ParseDuration(at)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			now := start.Add(after)
			for range times {
				switch what {
				case "answer":
					m.Answer(now)
				case "lost":
					m.Fail(now, Lost)
				case "timeout":
					m.Fail(now, Timeout)
				default:
					d.Fatalf(t, "unknown event %q", what)
				}
			}
			fmt.Fprintf(&out, "%s %s: %s, ping after %s..%s\n", at, what, m.State(), m.Wait(1), m.Wait(0))
		}
		return out.String()
	})
}

// A peer that is down had two failures burstSpan apart (L1), and one that came
// back had two such answers since its fall (L2).
func TestMachineLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m Machine
		now := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
		var fails, answers []time.Time // since the last answer; since the last fall or failure
		for range rapid.IntRange(1, 200).Draw(t, "events") {
			now = now.Add(time.Duration(rapid.IntRange(0, 150).Draw(t, "ms")) * time.Millisecond)
			before := m.State()
			if rapid.Bool().Draw(t, "answered") {
				answers = append(answers, now)
				after := m.Answer(now)
				if before == Down && after != Down && now.Sub(answers[0]) < burstSpan {
					t.Fatalf("up again by answers within %s", now.Sub(answers[0]))
				}
				if before != Down && after != Up {
					t.Fatalf("%s after an answer, %s before", after, before)
				}
				if after == Up {
					fails = nil
				}
			} else {
				fails, answers = append(fails, now), nil
				after := m.Fail(now, rapid.SampledFrom([]Failure{Lost, Timeout}).Draw(t, "failure"))
				if before != Down && after == Down && now.Sub(fails[0]) < burstSpan {
					t.Fatalf("down by failures within %s", now.Sub(fails[0]))
				}
			}
			if m.Clean() != (m.State() == Up && len(fails) == 0) {
				t.Fatalf("clean with %d failures", len(fails))
			}
		}
	})
}
