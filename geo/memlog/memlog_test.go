package memlog_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/geo/geotest"
	"github.com/atolldb/atoll/geo/memlog"
)

type world struct{ *memlog.Cloud }

func (w world) Log() geo.Log   { return w.Cloud.Log("east") }
func (w world) Feed() geo.Feed { return w.Cloud.Feed("east", "west") }
func (w world) Cut(cut bool)   { w.Cloud.Cut("east", "west", cut) }
func (w world) Forget()        { w.Truncate("east", 0) }
func (w world) Recreate()      { w.Cloud.Recreate("east") }

func TestConformance(t *testing.T) {
	for name, faults := range map[string]memlog.Faults{
		"perfect": {},
		"slow":    {DelayMin: time.Millisecond, DelayMax: 80 * time.Millisecond},
		"bad": {
			DelayMax: 200 * time.Millisecond, Refuse: 0.1, Unsure: 0.1, Duplicate: 0.2, Mute: 0.5,
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, c := range geotest.Cases() {
				t.Run(c.Name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { c.Run(t, world{memlog.New(1, faults)}) })
				})
			}
		})
	}
}
