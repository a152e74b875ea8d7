//go:build linux && chaos

package machine

import (
	"testing"
)

func TestProbe(t *testing.T) {
	r, err := NewRun()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	for a, why := range r.Probe() {
		t.Logf("NOT RUN %s: %v", a, why)
	}
}
