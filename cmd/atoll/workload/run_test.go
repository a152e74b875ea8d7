package workload

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func testConfig(t *testing.T, mix string, do func(kind Kind, key string) Outcome) Config {
	m, err := ParseMix(mix)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewChooser("uniform", 10)
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Do: func(_ context.Context, _ int, kind Kind, key string, value []byte) Outcome {
			if (kind == Get) != (value == nil) || value != nil && len(value) != 8 {
				t.Errorf("%s has a value of %d bytes", kind, len(value))
			}
			return do(kind, key)
		},
		Clients: 4, Mix: m, Chooser: c, Prefix: "b/", ValueSize: 8,
	}
}

func about(got, want, off float64) bool { return math.Abs(got-want) <= off*want }

func TestClosedLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var busy, most atomic.Int64
		cfg := testConfig(t, "a", func(Kind, string) Outcome {
			for n := busy.Add(1); n > most.Load(); {
				most.Store(n)
			}
			time.Sleep(10 * time.Millisecond)
			busy.Add(-1)
			return Outcome{}
		})
		cfg.Warmup, cfg.Duration = time.Second, 5*time.Second
		total := Run(t.Context(), cfg)
		if total.OK != 2000 || total.Failed != 0 || total.To != 5 || total.Rate != 400 {
			t.Errorf("%+v", total)
		}
		get, put := total.Latency["get"], total.Latency["put"]
		if get.Count+put.Count != 2000 || !about(float64(get.Count), 1000, 0.1) || len(total.Latency) != 2 {
			t.Errorf("%+v", total.Latency)
		}
		if !about(float64(get.P50), 10_000, 0.001) || !about(float64(get.Max), 10_000, 0.001) || !about(get.Mean, 10_000, 0.001) {
			t.Errorf("%+v", get)
		}
		if most.Load() != 4 {
			t.Errorf("%d operations were under way", most.Load())
		}
		if total.Pacing != nil || total.NotStarted != 0 || total.Interrupted {
			t.Errorf("%+v", total)
		}
	})
}

func TestOpsBoundBothLoops(t *testing.T) {
	for _, rate := range []float64{0, 300} {
		synctest.Test(t, func(t *testing.T) {
			var done atomic.Int64
			cfg := testConfig(t, "rmw", func(Kind, string) Outcome {
				done.Add(1)
				time.Sleep(time.Millisecond)
				return Outcome{}
			})
			cfg.Ops, cfg.Rate, cfg.Warmup = 777, rate, 100*time.Millisecond
			total := Run(t.Context(), cfg)
			if total.OK != 777 || done.Load() <= 777 || total.Latency["rmw"].Count != 777 {
				t.Errorf("rate %v: %d done, %+v", rate, done.Load(), total)
			}
			if (rate > 0) != (total.Pacing != nil) || rate > 0 && total.Pacing.Count != 777 {
				t.Errorf("rate %v: pacing %+v", rate, total.Pacing)
			}
		})
	}
}

// W1: the target stands still for a second; everything that was due meanwhile
// has waited for it.
func TestOpenLoopHidesNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		cfg := testConfig(t, "get", func(Kind, string) Outcome {
			if at := time.Since(began); at >= 4*time.Second && at < 5*time.Second {
				time.Sleep(5*time.Second - at)
			}
			return Outcome{}
		})
		cfg.Rate, cfg.Duration = 100, 10*time.Second
		open := Run(t.Context(), cfg)
		l := open.Latency["get"]
		if open.OK != 1000 || open.NotStarted != 0 {
			t.Errorf("%+v", open)
		}
		// A tenth of all was due in that second, and waited for half of it on
		// average.
		if !about(l.Mean, 50_000, 0.05) || !about(float64(l.P95), 500_000, 0.05) || !about(float64(l.Max), 1_000_000, 0.01) || l.P50 > 1 {
			t.Errorf("%+v", l)
		}
		if open.Pacing == nil || open.Pacing.Max > 1 {
			t.Errorf("pacing %+v", open.Pacing)
		}

		// The closed loop shows four slow operations only.
		began = time.Now()
		cfg.Rate = 0
		do := cfg.Do
		cfg.Do = func(ctx context.Context, id int, k Kind, key string, v []byte) Outcome {
			time.Sleep(40 * time.Millisecond)
			return do(ctx, id, k, key, v)
		}
		if l := Run(t.Context(), cfg).Latency["get"]; l.P95 > 41_000 || l.Max < 900_000 {
			t.Errorf("%+v", l)
		}
	})
}

func TestOpenLoopTooFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig(t, "put", func(Kind, string) Outcome {
			time.Sleep(100 * time.Millisecond) // 4 clients: 40 a second
			return Outcome{}
		})
		cfg.Rate, cfg.Duration, cfg.Warmup = 100, 10*time.Second, time.Second
		total := Run(t.Context(), cfg)
		if total.OK+total.NotStarted != 1000 || !about(float64(total.NotStarted), 660, 0.02) {
			t.Errorf("%d ok, %d not started", total.OK, total.NotStarted)
		}
	})
}

// A target that answers nothing: all that was due after the warm-up is told as
// not started.
func TestOpenLoopOnADeadTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig(t, "get", func(Kind, string) Outcome {
			time.Sleep(30 * time.Second)
			return Outcome{Failure: "DEADLINE"}
		})
		cfg.Rate, cfg.Duration, cfg.Warmup = 100, 2*time.Second, time.Second
		total := Run(t.Context(), cfg)
		if total.OK != 0 || total.Failed != 0 || total.NotStarted != 200 {
			t.Errorf("%+v", total)
		}
	})
}

func TestFailuresAndIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		cfg := testConfig(t, "get", func(Kind, string) Outcome {
			time.Sleep(10 * time.Millisecond)
			switch at := time.Since(began); {
			case at > 3*time.Second && at < 4*time.Second:
				return Outcome{Failure: "AWAY"}
			case at > 8*time.Second:
				return Outcome{Missing: true, Siblings: true}
			}
			return Outcome{}
		})
		cfg.Warmup, cfg.Duration, cfg.Every = time.Second, 9*time.Second, time.Second
		var parts []Report
		cfg.Tell = func(r Report) { parts = append(parts, r) }
		total := Run(t.Context(), cfg)
		if n := total.Errors["AWAY"]; n == 0 || int64(n) != total.Failed || !about(total.FirstError, 2.01, 0.01) || !about(total.LastError, 3, 0.05) {
			t.Errorf("%+v", total)
		}
		if total.Failed > 60 {
			t.Errorf("clients do not pause: %d failures of 4 clients in a second", total.Failed)
		}
		if total.Missing == 0 || total.Missing != total.Siblings {
			t.Errorf("%d missing, %d siblings", total.Missing, total.Siblings)
		}
		var ok, failed int64
		for i, p := range parts {
			if i > 0 && p.From != parts[i-1].To || p.To-p.From < 0.9 {
				t.Errorf("interval %d is from %v to %v", i, p.From, p.To)
			}
			ok, failed = ok+p.OK, failed+p.Failed
		}
		if len(parts) < 8 || ok > total.OK || ok < total.OK*8/10 || failed != total.Failed {
			t.Errorf("%d intervals with %d ok and %d failed of %+v", len(parts), ok, failed, total)
		}
	})
}

func TestInterruptionReportsWhatThereIs(t *testing.T) {
	for _, rate := range []float64{0, 10} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(1005*time.Millisecond, cancel)
			var mu sync.Mutex
			under := 0
			cfg := testConfig(t, "get", func(Kind, string) Outcome {
				mu.Lock()
				under++
				mu.Unlock()
				time.Sleep(10 * time.Millisecond)
				mu.Lock()
				under--
				mu.Unlock()
				return Outcome{}
			})
			cfg.Rate = rate
			total := Run(ctx, cfg)
			if !total.Interrupted || total.OK < 10 || total.To > 1.1 || under != 0 {
				t.Errorf("rate %v: %+v, %d still under way", rate, total, under)
			}
		})
	}
}
