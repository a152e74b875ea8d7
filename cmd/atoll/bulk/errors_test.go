package bulk

import (
	"context"
	"fmt"
	"testing"

	"github.com/atolldb/atoll/client"
)

func TestErrorsAreToldApart(t *testing.T) {
	for _, tt := range []struct {
		err                 *client.Error
		hopeless, transient bool
	}{
		{&client.Error{Reason: "UNAVAILABLE"}, false, true},
		{&client.Error{Reason: "OVERLOADED"}, false, true},
		{&client.Error{Reason: "DISK_FULL"}, false, true},
		{&client.Error{Reason: "NO_BUCKET"}, true, false},
		{&client.Error{Reason: "REGION_FENCED"}, true, false},
		{&client.Error{Reason: "INVALID", Field: "level"}, true, false},
		{&client.Error{Reason: "INVALID", Field: "key"}, false, false},
		{&client.Error{Reason: "INVALID", Field: "value"}, false, false},
		{&client.Error{Reason: "CONDITION_FAILED"}, false, false},
		{&client.Error{Reason: "UNKNOWN_OUTCOME", Outcome: client.UnknownOutcome}, false, false},
	} {
		err := fmt.Errorf("put: %w", tt.err)
		if h, tr := Hopeless(err), Transient(err); h != tt.hopeless || tr != tt.transient {
			t.Errorf("%v: hopeless %t, transient %t", tt.err, h, tr)
		}
	}
	for _, err := range []error{nil, context.Canceled, fmt.Errorf("%w: %w", client.ErrUnknownOutcome, client.ErrRegionFenced), fmt.Errorf("%w: %w", client.ErrUnknownOutcome, client.ErrUnavailable)} {
		if Hopeless(err) || Transient(err) {
			t.Errorf("%v: hopeless or transient", err)
		}
	}
}
