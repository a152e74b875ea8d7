package client

import (
	"cmp"
	"time"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// StalenessOption is MaxStaleness's option.
type StalenessOption struct {
	bound time.Duration
	wait  bool
}

// MaxStaleness has a read answered only by what holds everything that each other
// region had written until d ago, by that region's clocks; else it is ErrStale. It
// is taken in whole milliseconds, rounded up, and regions tell of themselves every
// 300 ms: a bound below a second or so mostly fails.
func MaxStaleness(d time.Duration) StalenessOption { return StalenessOption{bound: d} }

// WaitFresh is MaxStaleness, but where the answer would be too old the node waits
// for one that is not, until the deadline.
func WaitFresh(d time.Duration) StalenessOption { return StalenessOption{bound: d, wait: true} }

func (o StalenessOption) applyRead(c *readConfig)                   { c.staleness = o }
func (o StalenessOption) applyUpdate(r *readConfig, _ *writeConfig) { r.staleness = o }

// FreshnessOption is Freshness's option.
type FreshnessOption struct{}

// Freshness has Explain tell how fresh the answer to a read is: Info.Freshness.
func Freshness() FreshnessOption { return FreshnessOption{} }

func (FreshnessOption) applyRead(c *readConfig)                   { c.freshness = true }
func (FreshnessOption) applyUpdate(r *readConfig, _ *writeConfig) { r.freshness = true }

// RegionFreshness says that an answer holds everything that a region had written
// until CompleteAsOf, by that region's clocks; zero when that is not known.
type RegionFreshness struct {
	Region       string
	CompleteAsOf time.Time
}

func freshness(a *atollv1.Achieved) (out []RegionFreshness) {
	for _, f := range a.GetFreshness() {
		r := RegionFreshness{Region: f.Region}
		if f.CompleteAsOf > 0 {
			r.CompleteAsOf = time.UnixMilli(f.CompleteAsOf)
		}
		out = append(out, r)
	}
	return out
}

// bounded refuses a bound that is none.
func (cfg *readConfig) bounded() *Error {
	if o := cfg.staleness; o != (StalenessOption{}) && o.bound <= 0 {
		return invalid("max_staleness_ms", "> 0", o.bound.String(), "the bound of staleness has to be positive")
	}
	return cmp.Or(checkCount("r", cfg.r), checkCount("regions", cfg.regions))
}
