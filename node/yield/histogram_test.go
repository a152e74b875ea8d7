package yield

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestHistogramBuckets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(16_384, int64(8*time.Second)).Draw(t, "d"))
		top := bucketTop(bucketOf(d))
		if top <= d || float64(top) > 1.13*float64(d)+1 {
			t.Fatalf("%v is in the bucket up to %v", d, top)
		}
	})
}

func TestMeasure(t *testing.T) {
	var h histogram
	if m := h.measure(); m != (Measure{}) {
		t.Errorf("of nothing %+v", m)
	}
	for i := range 100 {
		h.add(time.Duration(i+1) * time.Millisecond)
	}
	if m := h.measure(); m.N != 100 || m.High < 91*time.Millisecond || m.High > 103*time.Millisecond {
		t.Errorf("%+v", m)
	}
	h.add(time.Hour)
	h.add(-1)
	if m := h.measure(); m.N != 102 {
		t.Errorf("%+v", m)
	}
	h.clear()
	if m := h.measure(); m.N != 0 {
		t.Errorf("cleared %+v", m)
	}
}
