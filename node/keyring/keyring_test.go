package keyring

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
)

var (
	one = strings.Repeat("1", MinSecret)
	two = strings.Repeat("2", MinSecret)
)

func parse(t *testing.T, s string) Ring {
	t.Helper()
	r, err := Parse([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// R1 and R2 over a whole replacement, and the file that it goes through.
func TestReplacement(t *testing.T) {
	stages := []Ring{parse(t, " "+one+"\r\n")}
	for _, step := range []func(Ring) (Ring, error){
		func(r Ring) (Ring, error) { return r.Add(crdt.Secret(two)) }, Ring.Promote, Ring.Retire,
	} {
		next, err := step(stages[len(stages)-1])
		if err != nil {
			t.Fatal(err)
		}
		stages = append(stages, parse(t, string(next.Format())))
	}
	if got := stages[3].Keys; len(got) != 1 || string(got[0]) != two {
		t.Errorf("ends with %q", got)
	}
	for i, r := range stages {
		if r.Seed != stages[0].Seed || r.SeedMark() != stages[0].SeedMark() {
			t.Errorf("stage %d has another seed", i)
		}
		for _, near := range stages[max(i-1, 0):min(i+2, len(stages))] {
			tag := r.Keys.Sign("p", []byte("x"))
			if !near.Keys.Verify(tag[:], "p", []byte("x")) {
				t.Errorf("stage %d signs what a neighbour refuses", i)
			}
		}
	}
	if a, b := stages[0].Marks(), stages[3].Marks(); a[0] == b[0] || stages[2].Marks()[0] != b[0] {
		t.Errorf("marks %v, %v", a, b)
	}
}

func TestStepsOutOfOrder(t *testing.T) {
	single := parse(t, one)
	both, err := single.Add(crdt.Secret(two))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := both.Add(crdt.Secret(strings.Repeat("3", 40))); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	if _, err := single.Promote(); !errors.Is(err, ErrSingle) {
		t.Error(err)
	}
	if _, err := single.Retire(); !errors.Is(err, ErrSingle) {
		t.Error(err)
	}
	for _, bad := range []string{"short", one, strings.Repeat("x", MaxSecret+1), "# " + two, two + "\n" + two} {
		if _, err := single.Add(crdt.Secret(bad)); err == nil {
			t.Errorf("added %.40q", bad)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for name, file := range map[string]string{
		"nothing":         "\n# nothing\n",
		"short":           one[1:],
		"twice":           "digest-seed 0000000000000001\n" + one + "\n" + one,
		"no seed":         one + "\n" + two,
		"two seeds":       "digest-seed 0000000000000001\ndigest-seed 0000000000000001\n" + one,
		"short seed":      "digest-seed 1\n" + one,
		"seed of letters": "digest-seed 00000000000000zz\n" + one,
		"too many":        "digest-seed 0000000000000001\n" + one + "\n" + two + "\n3" + two + "\n4" + two + "\n5" + two,
		"too large":       strings.Repeat("# comment\n", MaxFile/10+1) + one,
	} {
		r, err := Parse([]byte(file))
		if err == nil {
			t.Errorf("%s: %+v", name, r)
		} else if strings.Contains(err.Error(), one[:8]) || strings.Contains(err.Error(), two[:8]) {
			t.Errorf("%s: tells the secret: %v", name, err)
		}
	}
}

// The seed that deployments have which never named one.
func TestDerivedSeed(t *testing.T) {
	if got := parse(t, one).Seed; got != 0xce0e1cfb9fbabefd {
		t.Errorf("seed %#x", got)
	}
}

func TestFormatRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Ring{Seed: rapid.Uint64().Draw(t, "seed")}
		for _, s := range rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z0-9]{32,60}`), 1, MaxSecrets, rapid.ID[string]).Draw(t, "secrets") {
			want.Keys = append(want.Keys, crdt.Secret(s))
		}
		got, err := Parse(want.Format())
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Fatal(err, d)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(one))
	f.Add([]byte("# x\ndigest-seed 0123456789abcdef\n" + one + "\n" + two + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse(b)
		if err != nil {
			return
		}
		again, err := Parse(r.Format())
		if err != nil || !bytes.Equal(again.Format(), r.Format()) {
			t.Fatalf("%q is read as %q: %v", b, r.Format(), err)
		}
	})
}
