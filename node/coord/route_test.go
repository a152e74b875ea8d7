package coord_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology/memtopo"
)

// A write goes once to the first live owner, which mints it.
func TestForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		out, owners := r.outsider("default", "k"), r.owners("default", "k")
		first := out.mustPut(t, put("k", "v"))
		if first.Version.Actor != owners[0].replica.Actor() || first.Achieved.Coordinator != owners[0].id {
			t.Errorf("%+v: minted by %v", first, first.Version.Actor)
		}
		if n := out.wire.count(peer.VerbForward); n != 1 || out.Stats().Forwards.Load() != 1 {
			t.Errorf("forwarded %d times", n)
		}
		// An owner that is not the first forwards, too.
		p := put("k", "w")
		p.Context = first.Context
		second := owners[2].mustPut(t, p)
		if second.Version.Actor != first.Version.Actor || owners[2].wire.count(peer.VerbApply) > 0 {
			t.Errorf("%+v", second)
		}
		r.kill(owners[0].id)
		third := out.mustPut(t, put("k", "x"))
		if third.Version.Actor != owners[1].replica.Actor() || !third.Achieved.Degraded {
			t.Errorf("%+v", third)
		}
		got := out.mustGet(t, get("k"))
		if !slices.Equal(live(got.View), []string{"w", "x"}) || !got.Achieved.Degraded {
			t.Errorf("%q, %+v", live(got.View), got.Achieved)
		}
	})
}

// The next owner is asked only if the first one surely did nothing (K4), and
// the client is told which it was (K3).
func TestForwardThatFails(t *testing.T) {
	refuse := func(c peer.Code) error { return &peer.Refusal{Code: c, Detail: "because"} }
	for name, c := range map[string]struct {
		err  error
		goes bool
	}{
		"not sent":    {peer.ErrNotSent, true},
		"not tried":   {peer.ErrNotTried, true},
		"overloaded":  {refuse(peer.CodeOverloaded), true},
		"stopping":    {refuse(peer.CodeStopping), true},
		"expired":     {refuse(peer.CodeExpired), true},
		"stale epoch": {refuse(peer.CodeStaleEpoch), true},
		"timeout":     {peer.ErrTimeout, false},
		"link lost":   {peer.ErrLinkLost, false},
		"unknown":     {refuse(peer.CodeUnknown), false},
		"internal":    {refuse(peer.CodeInternal), false},
		"anything":    {errors.New("anything"), false},
		"no reply":    {nil, false}, // an empty body
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegion(t, 4)
				out, owners := r.outsider("default", "k"), r.owners("default", "k")
				out.wire.answers(peer.VerbForward, owners[0].id, time.Millisecond, c.err)
				res, err := out.put(t, put("k", "v"))
				if c.goes {
					if err != nil || res.Version.Actor != owners[1].replica.Actor() {
						t.Errorf("%+v, %v", res, err)
					}
				} else if err == nil || err.Outcome != coord.Unknown {
					t.Errorf("%+v, %+v", res, err)
				}
				if n := out.wire.count(peer.VerbForward, owners[1].id); (n == 1) != c.goes || n > 1 {
					t.Errorf("forwarded %d times to the second", n)
				}
			})
		})
	}
}

// An owner that may not mint, or cannot, passes a write on; if none can, the
// client hears why, and that nothing was done.
func TestOwnersThatCannotMint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := memtopo.New(1)
		registry.SetDown(true)
		r := newRegionOn(t, 4, registry, memstore.Config{})
		out, owners := r.outsider("default", "k"), r.owners("default", "k")
		for _, m := range []*member{out, owners[0], owners[2]} {
			_, err := m.put(t, put("k", "v"))
			if err == nil || err.Code != coord.CodeUnavailable || err.Outcome != coord.NotApplied || !strings.Contains(err.Detail, "no actor") {
				t.Errorf("via %s: %+v", m.id, err)
			}
		}
		if n := out.wire.count(peer.VerbForward); n != 3 {
			t.Errorf("asked %d owners", n)
		}
		r.settle()
		for _, o := range owners {
			if len(o.held(t, "default", "k").Versions) > 0 {
				t.Errorf("%s has what was not applied", o.id)
			}
		}
		registry.SetDown(false)
		time.Sleep(3 * time.Second)
		// One that cannot read what it has passes on as well.
		out.mustPut(t, put("k", "v"))
		r.settle()
		full := coord.FullKey("default", []byte("k"))
		owners[0].disk.CorruptValue(recordKey(full))
		for _, m := range []*member{out, owners[0]} {
			p := put("k", "w")
			p.Overwrite = true
			if res, err := m.put(t, p); err != nil || res.Version.Actor != owners[1].replica.Actor() {
				t.Errorf("via %s: %+v, %v", m.id, res, err)
			}
		}
	})
}

// With too few live owners nothing is begun.
func TestEarlyRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		out, owners := r.outsider("default", "k"), r.owners("default", "k")
		r.kill(owners[1].id)
		r.kill(owners[2].id)
		for _, m := range []*member{out, owners[0]} {
			m.wire.reset()
			_, err := m.put(t, put("k", "v"))
			if err == nil || err.Code != coord.CodeUnavailable || err.Outcome != coord.NotApplied ||
				err.Needed != 2 || err.Acks != 1 || err.RetryAfterMs == 0 ||
				!strings.Contains(err.Detail, string(owners[1].id)) || !strings.Contains(err.Detail, string(owners[2].id)) {
				t.Errorf("via %s: %+v", m.id, err)
			}
			if sent := m.wire.requests(); len(sent) > 0 {
				t.Errorf("via %s: sent %+v", m.id, sent)
			}
		}
		if len(owners[0].held(t, "default", "k").Versions) > 0 {
			t.Error("it was written all the same")
		}
		p := put("k", "v")
		p.Level = quorum.LocalOne
		if res := out.mustPut(t, p); !res.Achieved.Degraded || res.Achieved.Needed != 1 {
			t.Errorf("%+v", res)
		}
		r.kill(owners[0].id)
		if _, err := out.put(t, p); err == nil || err.Outcome != coord.NotApplied {
			t.Errorf("%+v", err)
		}
		if _, err := out.get(t, get("k")); err == nil || err.Code != coord.CodeUnavailable || err.Needed != 2 {
			t.Errorf("%+v", err)
		}
	})
}

// An owner that is behind helps to no quorum of reads and mints nothing; it is
// passed over.
func TestBehindOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegionBehind(t, 3)
		owners := r.owners("default", "k")
		if _, err := owners[1].put(t, put("k", "v")); err == nil || err.Code != coord.CodeUnavailable || err.Outcome != coord.NotApplied || !strings.Contains(err.Detail, "catching up") {
			t.Errorf("all are behind: %+v", err)
		}
		r.catchUp(owners[1])
		res := owners[0].mustPut(t, put("k", "v"))
		if res.Version.Actor != owners[1].replica.Actor() {
			t.Errorf("minted by %v", res.Version.Actor)
		}
		if _, err := owners[1].get(t, get("k")); err == nil || err.Code != coord.CodeUnavailable {
			t.Errorf("a read of two of which one is behind: %+v", err)
		}
		if _, _, err := owners[1].export(t, ""); err == nil {
			t.Error("an export over one owner")
		}
		r.catchUp(owners[2])
		for _, m := range owners {
			got := m.mustGet(t, get("k"))
			if !slices.Equal(live(got.View), []string{"v"}) || slices.Contains(got.Achieved.Replicas, owners[0].id) {
				t.Errorf("via %s: %q of %v", m.id, live(got.View), got.Achieved.Replicas)
			}
		}
		if keys, _, err := owners[0].export(t, ""); len(keys) != 1 || err != nil {
			t.Errorf("exports %q, %v", keys, err)
		}
	})
}
