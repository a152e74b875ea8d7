package coord_test

import (
	"bytes"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/wire"
)

func putIn(bucket, k, v string) coord.Put {
	p := put(k, v)
	p.Bucket = bucket
	return p
}

func getIn(bucket, k string) coord.Get {
	g := get(k)
	g.Bucket = bucket
	return g
}

// Every node goes by a bucket's policies, whoever mints.
func TestBucketRequiresContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		for _, bucket := range []string{"strict", "strict-lww"} {
			for id, m := range r.nodes {
				k := string(id)
				first := m.mustPut(t, putIn(bucket, k, "1")) // there is nothing yet
				p := putIn(bucket, k, "2")
				_, e := m.put(t, p)
				if e == nil || e.Code != coord.CodeContextRequired || e.Outcome != coord.NotApplied || e.Field != "context" || e.Seen != "none" {
					t.Fatalf("%s at %s: a blind put: %v", bucket, id, e)
				}
				p.Condition = crdt.Condition{Kind: crdt.IfPresent}
				if _, e := m.put(t, p); e == nil || e.Code != coord.CodeContextRequired {
					t.Errorf("%s at %s: if there is something: %v", bucket, id, e)
				}
				p.Condition = crdt.Condition{}
				if got := live(m.mustGet(t, getIn(bucket, k)).View); !slices.Equal(got, []string{"1"}) {
					t.Errorf("a refused put left %q", got)
				}
				p.Context = first.Context
				m.mustPut(t, p)
				over := putIn(bucket, k, "3")
				over.Overwrite = true // says what is to become of it
				m.mustPut(t, over)
				del := putIn(bucket, k, "")
				del.Delete = true
				m.mustPut(t, del)
				m.mustPut(t, putIn(bucket, k, "4")) // nothing live
			}
		}
	})
}

func TestBucketBoundsSiblings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		for id, m := range r.nodes {
			k := string(id)
			for i, many := range []bool{false, true, true} {
				if got := m.mustPut(t, putIn("few", k, string(rune('a'+i)))).Achieved.ManySiblings; got != many {
					t.Errorf("at %s, write %d: many is %v", id, i+1, got)
				}
			}
			_, e := m.put(t, putIn("few", k, "d"))
			if e == nil || e.Code != coord.CodeTooManySiblings || e.Limit[:5] != "3 of " || e.Seen[:5] != "4 of " {
				t.Fatalf("at %s: %v", id, e)
			}
			got := m.mustGet(t, getIn("few", k))
			if len(got.View.Live) != 3 || !got.Achieved.ManySiblings {
				t.Errorf("%q, %+v", live(got.View), got.Achieved)
			}
			p := putIn("few", k, "all")
			p.Context = got.Context
			if m.mustPut(t, p).Achieved.ManySiblings || m.mustGet(t, getIn("few", k)).Achieved.ManySiblings {
				t.Error("one version is many")
			}
		}
	})
}

func TestBucketHasATTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		for id, m := range r.nodes {
			k := string(id)
			m.mustPut(t, putIn("brief", k, "v"))
			own := putIn("brief", k+"/own", "v")
			own.TTL = time.Minute
			m.mustPut(t, own)
			time.Sleep(1500 * time.Millisecond)
			if got := m.mustGet(t, getIn("brief", k)); len(got.View.Live) != 0 {
				t.Errorf("%s outlives its bucket's ttl", id)
			}
			if got := m.mustGet(t, getIn("brief", k+"/own")); len(got.View.Live) != 1 {
				t.Errorf("%s: the bucket's ttl ends what asked for another one", id)
			}
		}
	})
}

// No client reaches the system's bucket, and the system reaches no other one.
func TestSystemBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		for _, m := range r.nodes {
			p, g := putIn(coord.SystemBucket, "k", "v"), getIn(coord.SystemBucket, "k")
			if _, e := m.put(t, p); e == nil || e.Code != coord.CodeNoBucket {
				t.Errorf("put: %v", e)
			}
			if _, e := m.get(t, g); e == nil || e.Code != coord.CodeNoBucket {
				t.Errorf("get: %v", e)
			}
			p.System, g.System = true, true
			m.mustPut(t, p)
			if got := m.mustGet(t, g); len(got.View.Live) == 0 {
				t.Error("the system does not find what it wrote")
			}
			p.Bucket = "default"
			if _, e := m.put(t, p); e == nil || e.Code != coord.CodeNoBucket {
				t.Errorf("the system's put of a client's bucket: %v", e)
			}
		}
	})
}

// Whichever byte of a context is changed, whatever is cut or added, wherever it
// came from: it is refused, and what its bearer never read stays.
func TestBadContextsChangeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 3)
		m := r.owners("default", "k")[0]
		m.mustPut(t, put("k", "read"))
		good := m.mustGet(t, get("k")).Context
		m.mustPut(t, put("k", "never read"))
		full := coord.FullKey("default", []byte("k"))
		all := crdt.Context{Seen: m.mustGet(t, get("k")).View.Live[1].Past.With(m.mustGet(t, get("k")).View.Live[1].Dot)}
		bad := map[string][]byte{
			"cut":                good[:len(good)-1],
			"longer":             append(slices.Clone(good), 0),
			"oversize":           make([]byte, crdt.MaxContext+1),
			"another key":        m.mustPut(t, put("other", "v")).Context,
			"another bucket":     m.mustPut(t, putIn("loose", "k", "v")).Context,
			"another deployment": crdt.AppendContext(nil, crdt.Keys{crdt.Secret("another")}, full, all),
			"no deployment":      crdt.AppendContext(nil, nil, full, all),
		}
		for i := range good {
			flipped := bytes.Clone(good)
			flipped[i] ^= 0x41
			bad["byte "+string(rune('0'+i))] = flipped
		}
		m.wire.reset()
		for name, context := range bad {
			for _, p := range []coord.Put{put("k", "x"), {Key: []byte("k"), Delete: true, Deadline: time.Now().Add(time.Second)}} {
				p.Context = context
				if _, e := m.put(t, p); e == nil || e.Code != coord.CodeBadContext || e.Outcome != coord.NotApplied || e.Field != "context" || e.Limit == "" || e.Seen == "" {
					t.Errorf("%s: %v", name, e)
				}
			}
		}
		if got := live(m.mustGet(t, get("k")).View); !slices.Equal(got, []string{"never read", "read"}) {
			t.Errorf("left %q", got)
		}
		m.SetKeys(crdt.Keys{crdt.Secret("new"), secret}) // while secrets are replaced
		p := put("k", "x")
		p.Context = good
		m.mustPut(t, p)
		if got := live(m.mustGet(t, get("k")).View); !slices.Equal(got, []string{"never read", "x"}) {
			t.Errorf("left %q", got)
		}
	})
}

// A context that would not be taken back is not handed out, and there is a way on
// without it.
func TestContextTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		full := coord.FullKey("default", []byte("k"))
		var past crdt.VV
		for i := range uint32(1200) {
			past = past.With(crdt.Dot{Actor: crdt.MakeActor(1000+i*1000, 1), N: 1 << 34})
		}
		rec := crdt.Record{Versions: []crdt.Version{{Dot: crdt.Dot{Actor: crdt.MakeActor(7, 2), N: 1}, Stamp: 9, Value: []byte("old"), Past: past}}}
		for _, m := range r.owners("default", "k") {
			entry := wire.Entry{Key: full, Record: crdt.AppendRecord(nil, hashring.KeyHash(full), rec)}
			m.replica.Apply([]wire.Entry{entry}, func(_ int, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		r.settle()
		for id, m := range r.nodes {
			got := m.mustGet(t, get("k"))
			if !got.ContextOmitted || len(got.Context) != 0 || len(got.View.Live) != 1 {
				t.Errorf("at %s: %d bytes, omitted %v", id, len(got.Context), got.ContextOmitted)
			}
		}
		for id, m := range r.nodes {
			p := put("k", string(id))
			p.Overwrite = true
			if res := m.mustPut(t, p); !res.ContextOmitted || len(res.Context) != 0 {
				t.Errorf("at %s: %d bytes after a write", id, len(res.Context))
			}
			r.settle()
			if got := live(m.mustGet(t, get("k")).View); !slices.Equal(got, []string{string(id)}) {
				t.Errorf("at %s: an overwrite leaves %q", id, got)
			}
		}
		for id, m := range r.nodes {
			m.mustPut(t, put("k", "again")) // blind: beside what is there
			r.settle()
			if res, e := m.put(t, coord.Put{Key: []byte("k"), Delete: true, Deadline: time.Now().Add(time.Second)}); e != nil || !res.ContextOmitted {
				t.Errorf("at %s: a delete: %+v, %v", id, res, e)
			}
			r.settle()
			if got := live(m.mustGet(t, get("k")).View); len(got) != 0 {
				t.Errorf("at %s: a delete leaves %q", id, got)
			}
		}
	})
}
