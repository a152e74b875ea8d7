//go:build e2e

package e2e

import (
	"context"
	"testing"

	"github.com/atolldb/atoll/node/fleet"
)

// startFleet starts real nodes in this process, in a directory of the test's; they end
// with the test.
func startFleet(t *testing.T, ctx context.Context, cfg fleet.Config) *fleet.Fleet {
	t.Helper()
	cfg.Dir = t.TempDir()
	f, err := fleet.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	if err := f.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return f
}
