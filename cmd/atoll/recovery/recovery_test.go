package recovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/api/apitest"
	"github.com/atolldb/atoll/node/coord"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

var (
	errAway    = &coord.Error{Code: coord.CodeUnavailable, Detail: "too few owners answered", Needed: 2, Acks: 1}
	errUnknown = &coord.Error{Code: coord.CodeUnavailable, Outcome: coord.Unknown, Detail: "too few owners answered", Needed: 2, Acks: 1}
	elsewhere  = crdt.MakeActor(7, 2)
)

type deployment struct {
	*apitest.Region
	c *client.Client
}

func deploy(t *testing.T) *deployment {
	t.Helper()
	r := apitest.NewRegion(t, 1)
	c, err := client.Open(t.Context(), r.Nodes[0].Addr, client.NoSession(), client.Timeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() }) //nolint:errcheck // nothing is under way
	return &deployment{r, c}
}

// config tells nobody.
func (d *deployment) config() Config {
	return Config{
		Client: d.c, InFlight: 4, Patience: time.Minute,
		Buckets: map[string]client.BucketInfo{"default": {Name: "default"}, apitest.LWWBucket: {Name: apitest.LWWBucket, Kind: client.LWW}},
		Tell:    func(int, *adminv1.ExportRecord, Verdict, error) {},
	}
}

// from gives out records one after the other.
func from(records ...*adminv1.ExportRecord) func() (*adminv1.ExportRecord, int, error) {
	i := 0
	return func() (*adminv1.ExportRecord, int, error) {
		if i == len(records) {
			return nil, 0, io.EOF
		}
		i++
		return records[i-1], 10, nil
	}
}

func keyed(bucket, key string, values ...string) *adminv1.ExportRecord {
	r := record(values...)
	r.Bucket, r.Key = bucket, []byte(key)
	for _, v := range r.Versions {
		if v.ExpiresAt != 0 {
			v.ExpiresAt += time.Now().UnixMilli() - at
		}
	}
	return r
}

func many(n int) (out []*adminv1.ExportRecord) {
	for i := range n {
		out = append(out, keyed("default", fmt.Sprint("k", i), fmt.Sprint("v", i), fmt.Sprint("w", i)))
	}
	return out
}

func (d *deployment) versions(bucket, key string) (out []string) {
	for _, v := range d.Store.Record(bucket, key).Versions {
		if !v.Dead {
			out = append(out, string(v.Value))
		}
	}
	return out
}

// Writes that are applied, and not confirmed, are asked about and not made twice.
func TestNothingIsWrittenTwice(t *testing.T) {
	d := deploy(t)
	var mu sync.Mutex
	seen := map[string]int{}
	d.Nodes[0].SetFault(func(op apitest.Op) apitest.Fault {
		if op.Put == nil {
			return apitest.Fault{}
		}
		mu.Lock()
		defer mu.Unlock()
		id := op.Put.RequestID.String()
		if seen[id]++; seen[id] > 4 {
			return apitest.Fault{}
		}
		return apitest.Fault{Err: errUnknown, Applied: seen[id] == 1}
	})
	run := New(d.config())
	if err := run.Run(t.Context(), from(many(5)...)); err != nil {
		t.Fatal(err)
	}
	if res := run.Result(); res.Count(Written) != 5 || res.Done() != 5 || res.Resume != 5 {
		t.Errorf("%+v", res)
	}
	for i := range 5 {
		if got := d.versions("default", fmt.Sprint("k", i)); len(got) != 2 {
			t.Errorf("k%d has %q", i, got)
		}
	}
}

// R1: somebody writes between the read and the write.
func TestRaces(t *testing.T) {
	for _, bucket := range []string{"default", apitest.LWWBucket} {
		d := deploy(t)
		var once sync.Once
		d.Nodes[0].SetFault(func(op apitest.Op) apitest.Fault {
			if op.Put != nil {
				once.Do(func() { d.Store.Blind(bucket, "k", elsewhere, "theirs") })
			}
			return apitest.Fault{}
		})
		run := New(d.config())
		if err := run.Run(t.Context(), from(keyed(bucket, "k", "ours"))); err != nil {
			t.Fatal(err)
		}
		res, got := run.Result(), d.versions(bucket, "k")
		switch bucket {
		case "default":
			if res.Count(Written) != 1 || len(got) != 2 {
				t.Errorf("%s: %+v, the key has %q", bucket, res, got)
			}
		default:
			if res.Count(Left) != 1 || len(got) != 1 || got[0] != "theirs" {
				t.Errorf("%s: %+v, the key has %q", bucket, res, got)
			}
		}
	}
}

// R2: whatever ends a restore, it goes on behind Resume, and nothing is missing.
func TestResume(t *testing.T) {
	for name, end := range map[string]func(cancel func()) error{
		"interrupted": func(cancel func()) error { cancel(); return nil },
		"away":        func(func()) error { return errAway },
	} {
		d := deploy(t)
		records := many(40)
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		puts := 0
		d.Nodes[0].SetFault(func(op apitest.Op) apitest.Fault {
			mu.Lock()
			defer mu.Unlock()
			if op.Put != nil {
				puts++
			}
			if puts > 25 {
				return apitest.Fault{Err: end(cancel)}
			}
			return apitest.Fault{}
		})
		cfg := d.config()
		cfg.Patience = 0
		failed := map[int]bool{}
		cfg.Tell = func(n int, _ *adminv1.ExportRecord, _ Verdict, err error) { failed[n] = err != nil }
		first := New(cfg)
		err := first.Run(ctx, from(records...))
		res := first.Result()
		if err == nil || res.Resume >= len(records) || res.Count(Written) < 4 {
			t.Fatalf("%s: ended with %v, %+v", name, err, res)
		}
		if errors.Is(err, context.Canceled) != (name == "interrupted") {
			t.Errorf("%s: ended with %v", name, err)
		}
		d.Nodes[0].SetFault(nil)
		cfg.Skip, cfg.Conflict, cfg.Patience = res.Resume, Sibling, time.Minute
		second := New(cfg)
		if err := second.Run(t.Context(), from(records...)); err != nil {
			t.Fatal(err)
		}
		if again := second.Result(); again.Resume != len(records) || again.Done() != len(records)-res.Resume {
			t.Errorf("%s: the second time %+v after %d", name, again, res.Resume)
		}
		for i := range records {
			if got := d.versions("default", fmt.Sprint("k", i)); len(got) != 2 && !failed[i+1] {
				t.Errorf("%s: k%d has %q, and nobody was told", name, i, got)
			}
		}
		cancel()
	}
}

// What is refused is told, and the others go on.
func TestRefusedRecords(t *testing.T) {
	d := deploy(t)
	big := keyed("default", "big", "v")
	big.Versions[0].Value = make([]byte, coord.DefaultMaxValue+1)
	var told []int
	cfg := d.config()
	cfg.Tell = func(n int, _ *adminv1.ExportRecord, _ Verdict, err error) {
		if !errors.Is(err, client.ErrTooLarge) {
			t.Errorf("record %d: %v", n, err)
		}
		told = append(told, n)
	}
	run := New(cfg)
	if err := run.Run(t.Context(), from(keyed("default", "a", "v"), big, keyed("default", "b", "v~"))); err != nil {
		t.Fatal(err)
	}
	if res := run.Result(); res.Failed != 1 || res.Count(Written) != 2 || len(told) != 1 || told[0] != 2 {
		t.Errorf("%+v, told of %v", res, told)
	}
	if v := d.Store.Record("default", "b").Versions; len(v) != 1 || v[0].Expiry <= time.Now().UnixMilli() || v[0].Expiry > time.Now().UnixMilli()+5000 {
		t.Errorf("b is %+v", v)
	}
	if err := New(d.config()).Run(t.Context(), from(keyed("nowhere", "a", "v"))); err == nil {
		t.Error("a bucket that is not there was written to")
	}
}

// R4: no more than InFlight at a time, and an error of reading ends it.
func TestInFlight(t *testing.T) {
	d := deploy(t)
	cfg := d.config()
	run := New(cfg)
	broken := errors.New("the file is broken")
	records := many(50)
	next := from(records...)
	err := run.Run(t.Context(), func() (*adminv1.ExportRecord, int, error) {
		res := run.Result()
		if ahead := res.Read - res.Done(); ahead > cfg.InFlight {
			t.Errorf("%d records are under way", ahead)
		}
		rec, n, err := next()
		if errors.Is(err, io.EOF) {
			err = broken
		}
		return rec, n, err
	})
	if res := run.Result(); !errors.Is(err, broken) || res.Count(Written) != 50 || res.Resume != 50 {
		t.Errorf("%v, %+v", err, res)
	}
}
