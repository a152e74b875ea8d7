//go:build linux

package machine

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

func TestFlipBitTurnsOneBitOver(t *testing.T) {
	dir := t.TempDir()
	was := make([]byte, 5<<20)
	copy(was[4<<20:], "in use")
	path := filepath.Join(dir, "x.sst")
	if err := os.WriteFile(path, was, 0o600); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	flip, err := FlipBit(dir, "*.sst", rng)
	if err != nil {
		t.Fatal(err)
	}
	if flip.Offset < 4<<20 || flip.Offset >= 4<<20+6 {
		t.Errorf("flipped %v: not in use", flip)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got[flip.Offset] ^= 1 << flip.Bit
	if !bytes.Equal(got, was) {
		t.Error("something else was changed, too")
	}
	if _, err := FlipBit(dir, "*.vlog", rng); !errors.Is(err, ErrNothing) {
		t.Errorf("got %v, want ErrNothing", err)
	}
}

func TestDeadRunsAreTold(t *testing.T) {
	for name, want := range map[string]bool{"1h2": false, "1": false, "99999999sw": true, "x": false, "": false} {
		if got := dead(name); got != want {
			t.Errorf("%q: got %v", name, got)
		}
	}
}
