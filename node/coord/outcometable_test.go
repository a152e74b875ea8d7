package coord_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
)

// failing is a way in which a write fails.
type failing struct {
	what string
	code coord.Code
	// outcome of a first attempt, and of a retry of which no attempt was carried out.
	outcome, retried coord.Outcome
	// arrange makes it so, and may change the put and who is asked.
	arrange func(r *region, at *member, p *coord.Put) *member
}

var reasons = map[coord.Code]string{
	coord.CodeInvalid: "INVALID", coord.CodeUnavailable: "UNAVAILABLE",
	coord.CodeTooManySiblings: "TOO_MANY_SIBLINGS", coord.CodeClockSkew: "CLOCK_SKEW", coord.CodeBadContext: "BAD_CONTEXT",
	coord.CodeNoBucket: "NO_BUCKET", coord.CodeInternal: "INTERNAL", coord.CodeDeadline: "DEADLINE", coord.CodePartial: "PARTIAL",
	coord.CodeConditionFailed: "CONDITION_FAILED", coord.CodeContextRequired: "CONTEXT_REQUIRED", coord.CodeSessionBehind: "SESSION_BEHIND",
}

const (
	not     = coord.NotApplied
	unknown = coord.Unknown
	applied = coord.Applied
)

var failings = []failing{
	{"a value that is too large, or other bad input", coord.CodeInvalid, not, unknown, func(_ *region, at *member, p *coord.Put) *member {
		p.Value = make([]byte, coord.DefaultMaxValue+1)
		return at
	}},
	{"no such bucket", coord.CodeNoBucket, not, unknown, func(_ *region, at *member, p *coord.Put) *member {
		p.Bucket = "none"
		return at
	}},
	{"a context that was made up", coord.CodeBadContext, not, unknown, func(_ *region, at *member, p *coord.Put) *member {
		p.Context = []byte("made up")
		return at
	}},
	{"the bucket wants a context", coord.CodeContextRequired, not, not, func(r *region, at *member, p *coord.Put) *member {
		p.Bucket = "strict"
		at.mustPut(r.t, coord.Put{Bucket: "strict", Key: p.Key, Value: []byte("before")})
		return at
	}},
	{"the condition does not hold", coord.CodeConditionFailed, not, not, func(_ *region, at *member, p *coord.Put) *member {
		p.Condition.Kind = crdt.IfPresent
		return at
	}},
	{"too many siblings", coord.CodeTooManySiblings, not, not, func(r *region, at *member, p *coord.Put) *member {
		p.Bucket = "few"
		for range 3 {
			at.mustPut(r.t, coord.Put{Bucket: "few", Key: p.Key, Value: []byte("before")})
		}
		return at
	}},
	{"the time is over before it begins", coord.CodeDeadline, not, unknown, func(_ *region, at *member, p *coord.Put) *member {
		p.Deadline = time.Now()
		return at
	}},
	{"too few owners are up", coord.CodeUnavailable, not, unknown, func(r *region, at *member, p *coord.Put) *member {
		os := r.owners("default", string(p.Key))
		r.kill(os[1].id)
		r.kill(os[2].id)
		return at
	}},
	{"the clocks of all owners are wrong", coord.CodeClockSkew, not, unknown, func(r *region, _ *member, p *coord.Put) *member {
		for _, m := range r.owners("default", string(p.Key)) {
			m.replica.SetSkewed(true)
		}
		return r.outsider("default", string(p.Key))
	}},
	{"the id is older than ten minutes", coord.CodeInvalid, not, unknown, func(_ *region, at *member, p *coord.Put) *member {
		p.RequestID = crdt.MakeRequestID(time.Now().Add(-11*time.Minute).UnixMilli(), [10]byte{1})
		return at
	}},
	{"too few owners confirm it", coord.CodeUnavailable, unknown, unknown, func(_ *region, at *member, _ *coord.Put) *member {
		at.wire.answers(peer.VerbApply, "", time.Millisecond, peer.ErrNotSent)
		return at
	}},
	{"owners are silent until the time is over", coord.CodeDeadline, unknown, unknown, func(_ *region, at *member, _ *coord.Put) *member {
		at.wire.answers(peer.VerbApply, "", time.Hour, peer.ErrTimeout)
		return at
	}},
	{"the answer of the node that mints is lost", coord.CodeUnavailable, unknown, unknown, func(r *region, _ *member, p *coord.Put) *member {
		via := r.outsider("default", string(p.Key))
		via.wire.loses(peer.VerbForward)
		return via
	}},
	{"a sync fails", coord.CodeInternal, unknown, unknown, func(_ *region, at *member, _ *coord.Put) *member {
		at.wire.answers(peer.VerbApply, "", time.Hour, peer.ErrTimeout)
		at.disk.FailNextSync()
		return at
	}},
	{"another region is known to be away", coord.CodeUnavailable, not, unknown, func(r *region, at *member, p *coord.Put) *member {
		p.Level = quorum.EachQuorum
		r.others[0].lose(true)
		return at
	}},
	{"another region does not confirm it in time", coord.CodePartial, applied, applied, func(r *region, at *member, p *coord.Put) *member {
		p.Level = quorum.EachQuorum
		cut(r, r.others[0])
		return at
	}},
}

// Every way in which a write fails says what became of it, and that is true. Of a
// retry the error speaks of all attempts. docs/consistency.md has the table.
func TestOutcomes(t *testing.T) {
	var table strings.Builder
	table.WriteString("| what happens | reason | a first attempt | a retry, and nobody has an earlier one |\n|---|---|---|---|\n")
	for _, f := range failings {
		fmt.Fprintf(&table, "| %s | %s | %s | %s |\n", f.what, reasons[f.code], said(f.outcome), said(f.retried))
		for _, retry := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s retry %v", f.what, retry), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRegions(t, 2, 4)[0]
					time.Sleep(time.Minute) // so that owners remember for longer than clocks are off
					p := named("k", "the value", request(1))
					p.Retry = retry
					if retry {
						p.TriedIn = append(p.TriedIn, "a")
					}
					at := f.arrange(r, r.owners("default", "k")[0], &p)
					_, err := at.put(t, p)
					want := f.outcome
					if retry {
						want = f.retried
					}
					if err == nil || err.Code != f.code || err.Outcome != want {
						t.Fatalf("%+v", err)
					}
					time.Sleep(2 * time.Hour)
					if f.outcome == unknown || f.code == coord.CodeNoBucket {
						return // it may hold or not; and there is nothing to hold it
					}
					holds := 0
					for _, m := range r.owners(bucketOf(p), "k") {
						for _, v := range m.held(t, bucketOf(p), "k").Versions {
							if string(v.Value) == "the value" {
								holds++
							}
						}
					}
					if f.outcome == not && holds > 0 || f.outcome == applied && holds < 2 {
						t.Errorf("%v, and %d owners have it", f.outcome, holds)
					}
				})
			})
		}
	}
	inDocument(t, "outcomes of failures", table.String())
}

func bucketOf(p coord.Put) string {
	if p.Bucket == "" {
		return "default"
	}
	return p.Bucket
}

func said(o coord.Outcome) string { return strings.ReplaceAll(o.String(), "_", " ") }
