package admin

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/node/hint"
	"github.com/atolldb/atoll/node/liveness"
	"github.com/atolldb/atoll/node/overload"
	"github.com/atolldb/atoll/node/topology"
)

// family is one metric: its name, help, and where its samples come from.
type family struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	emit func(f *Figures, put func(v float64, labels ...string))
}

func counter(name, help string, value func(*Figures) float64) family {
	return family{
		prometheus.NewDesc("atoll_"+name, help, nil, nil), prometheus.CounterValue,
		func(f *Figures, put func(float64, ...string)) { put(value(f)) },
	}
}

func gauge(name, help string, value func(*Figures) float64) family {
	g := counter(name, help, value)
	g.kind = prometheus.GaugeValue
	return g
}

func labelled(
	kind prometheus.ValueType, name, help string, labels []string, emit func(*Figures, func(float64, ...string)),
) family {
	return family{prometheus.NewDesc("atoll_"+name, help, labels, nil), kind, emit}
}

func number[N ~int | ~int32 | ~int64 | ~uint64](v N) float64 { return float64(v) }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// figuresCollector turns figures into metrics when it is scraped.
type figuresCollector struct{ figures func() *Figures }

var readyDesc = prometheus.NewDesc("atoll_ready", "1 when the node may mint and answers for all its partitions.", nil, nil)

var groupDesc = prometheus.NewDesc("atoll_commit_group_ops", "Operations in a group that was committed by one sync.", nil, nil)

func (c figuresCollector) Describe(to chan<- *prometheus.Desc) {
	to <- readyDesc
	to <- groupDesc
	for _, fam := range families {
		to <- fam.desc
	}
}

func (c figuresCollector) Collect(to chan<- prometheus.Metric) {
	f := c.figures()
	to <- prometheus.MustNewConstMetric(readyDesc, prometheus.GaugeValue, truth(f != nil && f.Ready))
	if f == nil {
		return
	}
	for _, fam := range families {
		fam.emit(f, func(v float64, labels ...string) {
			to <- prometheus.MustNewConstMetric(fam.desc, fam.kind, v, labels...)
		})
	}
	to <- groupSizes(f)
}

// groupSizes is a histogram of what the committer counted by powers of two.
func groupSizes(f *Figures) prometheus.Metric {
	sizes := f.Commits.GroupSizes
	buckets, sum := map[float64]uint64{}, uint64(0)
	for i, n := range sizes[:len(sizes)-1] {
		sum += n
		buckets[math.Exp2(float64(i))] = sum
	}
	sum += sizes[len(sizes)-1]
	return prometheus.MustNewConstHistogram(groupDesc, sum, float64(f.Commits.Ops), buckets)
}

// eachLink emits what value gives for the links of both sides.
func eachLink(value func(Link) float64) func(*Figures, func(float64, ...string)) {
	return func(f *Figures, put func(float64, ...string)) {
		for id, l := range f.Asking {
			put(value(l), string(id), "asking")
		}
		for id, l := range f.Asked {
			put(value(l), string(id), "asked")
		}
	}
}

// eachWay emits two values for the links of both sides.
func eachWay(out, in func(Link) uint64) func(*Figures, func(float64, ...string)) {
	return func(f *Figures, put func(float64, ...string)) {
		for id, l := range f.Asking {
			put(number(out(l)), string(id), "asking", "out")
			put(number(in(l)), string(id), "asking", "in")
		}
		for id, l := range f.Asked {
			put(number(out(l)), string(id), "asked", "out")
			put(number(in(l)), string(id), "asked", "in")
		}
	}
}

func eachDrain(value func(geo.DrainStats) uint64) func(*Figures, func(float64, ...string)) {
	return func(f *Figures, put func(float64, ...string)) {
		for origin, d := range f.Drains {
			put(number(value(d)), string(origin))
		}
	}
}

// incoming of each other region.
func incoming(value func(geo.LagReport) float64) func(*Figures, func(float64, ...string)) {
	return func(f *Figures, put func(float64, ...string)) {
		for _, l := range f.Incoming {
			put(value(l), l.Origin)
		}
	}
}

// outgoing to each other region.
func outgoing(value func(geo.LagReport) float64) func(*Figures, func(float64, ...string)) {
	return func(f *Figures, put func(float64, ...string)) {
		for _, l := range f.Outgoing {
			put(value(l), l.Destination)
		}
	}
}

// asOf puts times, of which the zero one stands for never.
func asOf(times func(*Figures) map[topology.Region]time.Time) func(*Figures, func(float64, ...string)) {
	return func(f *Figures, put func(float64, ...string)) {
		for region, at := range times(f) {
			seconds := 0.0
			if !at.IsZero() {
				seconds = float64(at.UnixMilli()) / 1000
			}
			put(seconds, string(region))
		}
	}
}

func ofLog(value func(*geo.LogState) float64) func(*Figures, func(float64, ...string)) {
	return func(f *Figures, put func(float64, ...string)) {
		if f.Log != nil {
			put(value(f.Log))
		}
	}
}

// logAge is how old the oldest batch is, 0 where there is none.
func logAge(s *geo.LogState) float64 {
	if s.Oldest.IsZero() {
		return 0
	}
	return max(time.Since(s.Oldest).Seconds(), 0)
}

func ofPump(value func(*geo.PumpStats) uint64) func(*Figures, func(float64, ...string)) {
	return func(f *Figures, put func(float64, ...string)) {
		if f.Pump != nil {
			put(number(value(f.Pump)))
		}
	}
}

func eachPeer(value func(liveness.PeerStats) float64) func(*Figures, func(float64, ...string)) {
	return func(f *Figures, put func(float64, ...string)) {
		for id, s := range f.Peers {
			put(value(s), string(id))
		}
	}
}

// eachOwed emits what value gives for those that something is kept for.
func eachOwed(value func(hint.Owed, time.Time) float64) func(*Figures, func(float64, ...string)) {
	return func(f *Figures, put func(float64, ...string)) {
		now := time.Now()
		for _, o := range f.Owed {
			put(value(o, now), string(o.Owner))
		}
	}
}

func eachKind(value func(liveness.PeerStats, liveness.Kind) float64) func(*Figures, func(float64, ...string)) {
	return func(f *Figures, put func(float64, ...string)) {
		for id, s := range f.Peers {
			for k := range liveness.Kinds {
				put(value(s, k), string(id), k.String())
			}
		}
	}
}

func eachClass(value func(overload.Stats) float64) func(*Figures, func(float64, ...string)) {
	return func(f *Figures, put func(float64, ...string)) {
		if f.Rim == nil {
			return
		}
		for c := range overload.Classes {
			put(value(f.Rim.Classes[c]), c.String())
		}
	}
}
