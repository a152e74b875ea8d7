package natsd_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/atolldb/atoll/geo/natsd"
	"github.com/atolldb/atoll/geo/natsd/natsdtest"
)

func TestRetire(t *testing.T) {
	dir := t.TempDir()
	if _, err := natsd.Retire(dir); !errors.Is(err, natsd.ErrNothingToRetire) {
		t.Errorf("nothing: %v", err)
	}
	s := natsdtest.Solo(t, "east", dir)
	if _, err := natsd.Retire(dir); !errors.Is(err, natsd.ErrInUse) {
		t.Errorf("while it runs: %v", err)
	}
	s.Stop()
	to, err := natsd.Retire(dir)
	if err != nil {
		t.Fatal(err)
	}
	if found, err := os.ReadDir(to); err != nil || len(found) == 0 {
		t.Errorf("%s has %v, %v", to, found, err)
	}
	if has, err := natsd.HasSolo(dir); has || err != nil {
		t.Errorf("it is still there: %v, %v", has, err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "js-solo", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := natsd.Retire(dir); err == nil {
		t.Error("what was retired before was written over")
	}
}
