package api

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/topology"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

var exported = cmpopts.IgnoreUnexported(coord.Error{})

// everyError is each code with each outcome, bare and with all fields.
func everyError() []*coord.Error {
	var all []*coord.Error
	for c := range rim {
		outcomes := []coord.Outcome{coord.NotApplied, coord.Unknown}
		if c == coord.CodePartial {
			outcomes = []coord.Outcome{coord.Applied}
		}
		for _, o := range outcomes {
			all = append(all,
				&coord.Error{Code: c, Outcome: o, Detail: "why"},
				&coord.Error{Code: c, Outcome: o, Detail: "why", Needed: 2, Acks: 1, Lacks: coord.LackRegions},
				&coord.Error{
					Code: c, Outcome: o, Detail: "why", Field: "value", Limit: "10 bytes", Seen: "11 bytes",
					Needed: 2, Acks: 1, RetryAfterMs: 250, Missing: 3, MissingFrom: []topology.Region{"eu", "us"}, Session: []byte{1, 2, 3}, RegionMap: 7, Lacks: coord.LackHome,
				})
		}
	}
	return all
}

func TestErrorsSurviveTheWire(t *testing.T) {
	for _, e := range everyError() {
		want := *e
		want.Detail = e.Error() // fields and outcome are told in the message too

		if got := FromProto(ToProto(e)); !cmp.Equal(&want, got, exported) {
			t.Errorf("as an item: %s", cmp.Diff(&want, got, exported))
		}
		st := ToStatus(e)
		got, ok := FromStatus(status.Convert(fmt.Errorf("wrapped: %w", st.Err())))
		if !ok {
			t.Errorf("code %d: not recognised in %v", e.Code, st)
			continue
		}
		want.Detail = "wrapped: " + st.Err().Error()
		if !cmp.Equal(&want, got, exported) {
			t.Errorf("as a status: %s", cmp.Diff(&want, got, exported))
		}
		if st.Code() == codes.Unavailable && e.Outcome == coord.Unknown {
			t.Errorf("code %d: a write that may be applied looks safe to retry", e.Code)
		}
	}
}

func TestEveryReasonHasOneCode(t *testing.T) {
	count := make(map[atollv1.Reason]int)
	for c, r := range rim {
		count[r.reason]++
		if int(c) != int(r.reason) {
			t.Errorf("coord code %d is reason %v: the numbers differ", c, r.reason)
		}
		if r.code == codes.OK {
			t.Errorf("coord code %d has gRPC code OK", c)
		}
	}
	for n := range atollv1.Reason_name {
		r, want := atollv1.Reason(n), 1
		if r == atollv1.Reason_REASON_UNSPECIFIED || r == atollv1.Reason_REASON_UNKNOWN_OUTCOME {
			want = 0 // made from the outcome
		}
		if count[r] != want {
			t.Errorf("%v has %d coord codes, want %d", r, count[r], want)
		}
	}
}

func TestErrorsOfOthers(t *testing.T) {
	if e := classify(errors.New("boom"), true); e.Code != coord.CodeInternal || e.Outcome != coord.Unknown {
		t.Errorf("a write: %+v", e)
	}
	if e := classify(errors.New("boom"), false); e.Outcome != coord.NotApplied {
		t.Errorf("a read: %+v", e)
	}
	if e := classify(&coord.Error{Code: 99}, true); e.Code != coord.CodeInternal || e.Outcome != coord.Unknown {
		t.Errorf("a code that is not in the table: %+v", e)
	}
	inner := &coord.Error{Code: coord.CodeDiskFull}
	if e := classify(fmt.Errorf("put: %w", inner), true); e != inner {
		t.Errorf("a wrapped coord.Error: %+v", e)
	}
	if _, ok := FromStatus(status.New(codes.Unavailable, "connection refused")); ok {
		t.Error("the transport's status was taken for ours")
	}
}
