package process

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/node/hint"
)

func TestDuration(t *testing.T) {
	for _, text := range []string{"", "5", "7d", "1 h", "week", "99999999h"} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is %v", text, d)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		d := Duration(rapid.Int64().Draw(t, "d"))
		text, _ := d.MarshalText()
		var back Duration
		if err := back.UnmarshalText(text); err != nil || back != d {
			t.Errorf("%d is %s is %d, %v", d, text, back, err)
		}
	})
}

// The defaults of a configuration are those that the hints have by themselves.
func TestHintConfig(t *testing.T) {
	c := Default()
	want := hint.Config{MaxBytes: 1 << 30, MaxAge: 3 * time.Hour, BytesPerSecond: 8 << 20}
	if got := c.hintConfig(); got != want {
		t.Errorf("%+v, not %+v", got, want)
	}
}
