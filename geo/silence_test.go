package geo

import (
	"testing"
	"time"
)

func TestSilence(t *testing.T) {
	var s Silence
	start := time.Unix(100, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	is := func(ms int, want time.Duration) {
		t.Helper()
		if got := s.Length(at(ms)); got != want*time.Millisecond {
			t.Errorf("at %d ms silent for %v, want %d ms", ms, got, want)
		}
	}
	is(0, 0)
	s.Appended(at(0))
	is(50, 0) // nobody was ever heard
	s.Taken()
	is(60, 0) // nothing to take is known
	s.Appended(at(70))
	s.Appended(at(90))
	is(100, 30)
	is(65, 0)
	s.Taken() // one of them
	is(110, 0)
	s.Appended(at(120))
	is(150, 30)
	s.Deaf()
	is(160, 0)
	s.Appended(at(170))
	s.Taken()
	is(175, 0)
	s.Appended(at(180))
	is(200, 20)
}
