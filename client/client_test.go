package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/api/apitest"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
)

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func addrs(r *apitest.Region) string {
	var a []string
	for _, n := range r.Nodes {
		a = append(a, n.Addr)
	}
	return strings.Join(a, ",")
}

// start returns a region of n nodes and a client that was given the address
// of the first.
func start(t testing.TB, n int, opts ...client.Option) (*apitest.Region, *client.Client) {
	t.Helper()
	r := apitest.NewRegion(t, n)
	return r, connect(t, r, opts...)
}

func connect(t testing.TB, r *apitest.Region, opts ...client.Option) *client.Client {
	t.Helper()
	c, err := client.Open(testContext(t), r.Nodes[0].Addr, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// conflict makes siblings of values, each by another region's node.
func conflict(r *apitest.Region, key string, values ...string) {
	for i, v := range values {
		r.Store.Blind("", key, crdt.MakeActor(100, uint8(i+1)), v)
	}
}

func values(siblings []client.Sibling) []string {
	var out []string
	for _, s := range siblings {
		out = append(out, string(s.Value))
	}
	return out
}

func TestReadWriteDelete(t *testing.T) {
	_, c := start(t, 3)
	ctx := testContext(t)

	obj, err := c.Get(ctx, "k")
	if !errors.Is(err, client.ErrNotFound) || obj.Exists() || !obj.Version().IsZero() {
		t.Fatalf("absent: %v, %v", obj, err)
	}
	v1, err := c.Put(ctx, "k", []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	obj, err = c.Get(ctx, "k")
	if err != nil || string(obj.Value()) != "one" || !obj.Exists() || len(obj.Siblings()) != 1 {
		t.Fatalf("%v, %v", obj, err)
	}
	if s := obj.Siblings()[0]; s.Region != "eu" || s.ID.N == 0 || time.Since(s.Time).Abs() > time.Minute || !s.Expires.IsZero() {
		t.Errorf("%+v", s)
	}
	if _, err = c.Put(ctx, "k", []byte("two"), client.After(v1)); err != nil {
		t.Fatal(err)
	}
	// v1 is not the latest any more: what follows it stands beside "two".
	if _, err = c.Put(ctx, "k", []byte("beside"), client.After(v1)); err != nil {
		t.Fatal(err)
	}
	obj, err = c.Get(ctx, "k")
	if !errors.Is(err, client.ErrSiblings) || obj.Value() != nil || !obj.Exists() {
		t.Fatalf("%v, %v", obj, err)
	}
	if got := values(obj.Siblings()); !slices.Equal(got, []string{"two", "beside"}) {
		t.Fatalf("%q", got)
	}
	gone, err := c.Delete(ctx, "k", client.After(obj.Version()))
	if err != nil {
		t.Fatal(err)
	}
	if obj, err = c.Get(ctx, "k"); !errors.Is(err, client.ErrNotFound) || obj.Version().IsZero() {
		t.Fatalf("deleted: %v, %v", obj, err)
	}
	if _, err = c.Put(ctx, "k", nil, client.After(gone)); err != nil {
		t.Fatal(err)
	}
	if obj, err = c.Get(ctx, "k"); err != nil || obj.Value() == nil || len(obj.Value()) != 0 || obj.DeletedConcurrently() {
		t.Fatalf("a value of no bytes: %v, %v", obj, err)
	}
}

func TestBlindWritesAreSiblings(t *testing.T) {
	r, c := start(t, 3)
	ctx := testContext(t)
	for _, v := range []string{"a", "b"} {
		if _, err := c.Put(ctx, "k", []byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Get(ctx, "k"); !errors.Is(err, client.ErrSiblings) {
		t.Fatal(err)
	}
	if _, err := c.Put(ctx, "k", []byte("c"), client.Overwrite()); err != nil {
		t.Fatal(err)
	}
	if obj, err := c.Get(ctx, "k"); err != nil || string(obj.Value()) != "c" {
		t.Fatalf("after an overwrite: %v, %v", obj, err)
	}
	// The same bytes twice are no conflict.
	conflict(r, "same", "x", "x")
	obj, err := c.Get(ctx, "same")
	if err != nil || string(obj.Value()) != "x" || len(obj.Siblings()) != 1 || len(obj.Siblings()[0].Equals) != 1 {
		t.Fatalf("%v, %v", obj, err)
	}
	// A delete that did not see a write does not hide it.
	conflict(r, "del", "x")
	if _, err := c.Put(ctx, "other", []byte("y")); err != nil {
		t.Fatal(err)
	}
	v, _ := c.Get(ctx, "del")
	conflict(r, "del", "later")
	if _, err := c.Delete(ctx, "del", client.After(v.Version())); err != nil {
		t.Fatal(err)
	}
	obj, err = c.Get(ctx, "del")
	if err != nil || string(obj.Value()) != "later" || !obj.DeletedConcurrently() {
		t.Fatalf("%v, %v", obj, err)
	}
}

func TestOptionsReachTheNode(t *testing.T) {
	r, c := start(t, 3)
	ctx := testContext(t)
	var op apitest.Op
	for _, n := range r.Nodes {
		n.SetFault(func(o apitest.Op) apitest.Fault { op = o; return apitest.Fault{} })
	}
	put := func(opts ...client.WriteOption) coord.Put {
		t.Helper()
		if _, err := c.Put(ctx, "k", []byte("v"), opts...); err != nil {
			t.Fatal(err)
		}
		return *op.Put
	}
	get := func(opts ...client.ReadOption) coord.Get {
		t.Helper()
		if _, err := c.Get(ctx, "k", append(opts, client.WithResolver(client.LastWriterWins()))...); err != nil {
			t.Fatal(err)
		}
		return *op.Get
	}
	if p := put(); p.Level != quorum.Default || p.W != 0 || p.TTL != 0 || p.Overwrite || p.Sloppy || len(p.Context) != 0 {
		t.Errorf("%+v", p)
	}
	for l, want := range map[client.Level]quorum.Level{
		client.LocalOne: quorum.LocalOne, client.LocalTwo: quorum.LocalTwo, client.LocalThree: quorum.LocalThree,
		client.LocalQuorum: quorum.LocalQuorum, client.LocalAll: quorum.LocalAll,
		client.Quorum: quorum.Quorum, client.EachQuorum: quorum.EachQuorum, client.All: quorum.All,
	} {
		if p := put(l); p.Level != want {
			t.Errorf("level %v, want %v", p.Level, want)
		}
		if g := get(l); g.Level != want {
			t.Errorf("level %v, want %v", g.Level, want)
		}
	}
	if p := put(client.W(3), client.TTL(1500*time.Microsecond)); p.W != 3 || p.TTL != 2*time.Millisecond {
		t.Errorf("%+v", p)
	}
	if p := put(client.Overwrite()); !p.Overwrite {
		t.Errorf("%+v", p)
	}
	if p := put(client.Sloppy()); !p.Sloppy {
		t.Errorf("%+v", p)
	}
	if p, g := put(client.Regions(1), client.W(1)), get(client.Regions(1)); p.Regions != 1 || p.W != 1 || g.Regions != 1 {
		t.Errorf("%+v, %+v", p, g)
	}
	if g := get(client.R(2)); g.R != 2 {
		t.Errorf("%+v", g)
	}
	if _, err := c.Delete(ctx, "k", client.W(1), client.LocalAll, client.Sloppy()); err != nil {
		t.Fatal(err)
	}
	if p := op.Put; !p.Delete || p.W != 1 || p.Level != quorum.LocalAll || !p.Sloppy {
		t.Errorf("%+v", p)
	}
	if _, err := c.Update(ctx, "k", func(client.Object) ([]byte, error) { return nil, nil },
		client.LocalAll, client.R(1), client.W(2), client.TTL(time.Second)); err != nil {
		t.Fatal(err)
	}
	if p := op.Put; p.Level != quorum.LocalAll || p.W != 2 || p.TTL != time.Second || len(p.Context) == 0 {
		t.Errorf("%+v", p)
	}
}

func TestExplainTellsTheTruth(t *testing.T) {
	r, c := start(t, 5)
	ctx := testContext(t)
	for i := range 20 {
		key := fmt.Sprint("k", i)
		var info client.Info
		if _, err := c.Put(ctx, key, []byte("v"), client.LocalAll, client.Explain(&info)); err != nil {
			t.Fatal(err)
		}
		owners := r.Owners(key)
		if info.Coordinator != string(owners[0].ID) || info.Attempts != 1 || info.Needed != 3 ||
			len(info.Replicas) != 3 || info.Level != client.LocalAll || info.Region != "eu" || info.Degraded {
			t.Fatalf("a write that the primary should have taken: %+v, owners %v", info, owners[0].ID)
		}
		if _, err := c.Get(ctx, key, client.Explain(&info)); err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(owners, func(n *apitest.Node) bool { return string(n.ID) == info.Coordinator }) {
			t.Fatalf("read by %s, which owns nothing of it", info.Coordinator)
		}
		if info.Level != client.LocalQuorum || info.Needed != 2 {
			t.Fatalf("%+v", info)
		}
	}
}

func TestLevelNames(t *testing.T) {
	for l := client.Level(0); l <= client.Serial; l++ {
		// The node's names and ours are the same.
		if back, err := client.ParseLevel(quorum.Level(l).String()); err != nil || back != l || back.String() != quorum.Level(l).String() {
			t.Errorf("%d: %v, %v", l, back, err)
		}
	}
	if _, err := client.ParseLevel("QUORUM"); err == nil {
		t.Error("a name that is none")
	}
	if s := client.Level(77).String(); s != "level(77)" {
		t.Error(s)
	}
}

func TestBuckets(t *testing.T) {
	_, c := start(t, 1)
	ctx := testContext(t)
	lww := c.In("lww")
	for _, v := range []string{"a", "b"} {
		if _, err := lww.Put(ctx, "k", []byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	if obj, err := lww.Get(ctx, "k"); err != nil || string(obj.Value()) != "b" {
		t.Fatalf("%v, %v", obj, err)
	}
	if _, err := c.Get(ctx, "k"); !errors.Is(err, client.ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := c.In("none").Get(ctx, "k"); !errors.Is(err, client.ErrNoBucket) {
		t.Fatal(err)
	}
}

func TestTTL(t *testing.T) {
	_, c := start(t, 1)
	ctx := testContext(t)
	before := time.Now()
	if _, err := c.Put(ctx, "k", []byte("v"), client.TTL(time.Hour)); err != nil {
		t.Fatal(err)
	}
	obj, err := c.Get(ctx, "k")
	if err != nil {
		t.Fatal(err)
	}
	if left := obj.Siblings()[0].Expires.Sub(before); left < 59*time.Minute || left > 61*time.Minute {
		t.Errorf("expires in %v", left)
	}
	if _, err := c.Put(ctx, "k", nil, client.TTL(-1)); !errors.Is(err, client.ErrInvalid) {
		t.Error(err)
	}
}

func TestVersionBelongsToItsKey(t *testing.T) {
	_, c := start(t, 1)
	ctx := testContext(t)
	v, err := c.Put(ctx, "k", []byte("v"))
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		second(c.Put(ctx, "other", nil, client.After(v))),
		second(c.Delete(ctx, "other", client.After(v))),
		second(c.In("lww").Put(ctx, "k", nil, client.After(v))),
	} {
		if !errors.Is(err, client.ErrBadVersion) || !errors.Is(err, client.ErrInvalid) {
			t.Errorf("%v", err)
		}
	}
	back, err := c.ParseVersion("k", v.String())
	if err != nil || back != v {
		t.Fatalf("%v, %v", back, err)
	}
	if _, err := c.Put(ctx, "k", []byte("w"), client.After(back)); err != nil {
		t.Fatal(err)
	}
	if obj, err := c.Get(ctx, "k"); err != nil || string(obj.Value()) != "w" {
		t.Fatalf("%v, %v", obj, err)
	}
	if _, err := c.ParseVersion("k", "!"); !errors.Is(err, client.ErrBadVersion) {
		t.Error(err)
	}
	// One of another key passes here, and not at the node.
	forged, err := c.ParseVersion("other", v.String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(ctx, "other", nil, client.After(forged)); !errors.Is(err, client.ErrBadVersion) {
		t.Errorf("%v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestLargeValuesGoByThemselves(t *testing.T) {
	r, c := start(t, 3)
	ctx := testContext(t)
	for _, n := range []int{63 << 10, 64 << 10, 65 << 10, 1 << 20} {
		v := bytes.Repeat([]byte{'x'}, n)
		if _, err := c.Put(ctx, "k", v, client.Overwrite()); err != nil {
			t.Fatal(n, err)
		}
		if obj, err := c.Get(ctx, "k"); err != nil || !bytes.Equal(obj.Value(), v) {
			t.Fatal(n, err)
		}
	}
	_, err := c.Put(ctx, "k", make([]byte, 1<<20+1)) // refused by the node
	var e *client.Error
	if !errors.As(err, &e) || !errors.Is(err, client.ErrTooLarge) || e.Field != "value" || e.Seen != "1048577 bytes" {
		t.Errorf("%+v", err)
	}
	_, err = c.Put(ctx, "k", make([]byte, 8<<20+1)) // refused here
	if !errors.Is(err, client.ErrTooLarge) || !errors.Is(err, client.ErrInvalid) {
		t.Errorf("%+v", err)
	}
	// Siblings that do not fit on a stream are read all the same.
	conflict(r, "big", strings.Repeat("a", 1<<20), strings.Repeat("b", 1<<20), strings.Repeat("c", 1<<20))
	obj, err := c.Get(ctx, "big")
	if !errors.Is(err, client.ErrSiblings) || len(obj.Siblings()) != 3 {
		t.Errorf("%d siblings, %v", len(obj.Siblings()), err)
	}
	got := c.GetMany(ctx, []string{"big", "k"})
	if len(got[0].Object.Siblings()) != 3 || len(got[1].Object.Value()) != 1<<20 {
		t.Errorf("%v, %v", got[0].Err, got[1].Err)
	}
}

// TestValueMayBeChangedAfterPut fails under the race detector if the client
// reads a value after Put has returned. Puts are canceled at every point, among
// many others so that the sender has much to encode.
func TestValueMayBeChangedAfterPut(t *testing.T) {
	_, c := start(t, 1)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			value := bytes.Repeat([]byte{'x'}, 32<<10)
			for i := range 100 {
				ctx, cancel := context.WithCancel(t.Context())
				go cancel()
				c.Put(ctx, fmt.Sprint(w), value, client.Overwrite()) // fails, or not
				value[i] = 'y'
			}
		})
	}
	wg.Wait()
}

func TestMany(t *testing.T) {
	r, c := start(t, 5)
	ctx := testContext(t)
	const n = 3000 // more than are under way at a time
	items := make([]client.Item, n)
	keys := make([]string, n)
	for i := range items {
		keys[i] = fmt.Sprint("k", i)
		items[i] = client.Item{Key: keys[i], Value: []byte(fmt.Sprint(i))}
	}
	items[7].Value = bytes.Repeat([]byte("7"), 100<<10)
	items[8].Value = make([]byte, 9<<20)
	for i, res := range c.PutMany(ctx, items) {
		if i == 8 {
			if !errors.Is(res.Err, client.ErrTooLarge) {
				t.Errorf("%v", res.Err)
			}
			continue
		}
		if res.Err != nil || res.Version.IsZero() {
			t.Fatal(i, res.Err)
		}
		items[i].After = res.Version
	}
	for i, res := range c.PutMany(ctx, items[:7], client.LocalAll) { // after themselves
		if res.Err != nil {
			t.Fatal(i, res.Err)
		}
	}
	conflict(r, "k9", "other")
	for i, got := range c.GetMany(ctx, keys) {
		switch {
		case i == 8:
			if !errors.Is(got.Err, client.ErrNotFound) {
				t.Errorf("%v", got.Err)
			}
		case i == 9:
			if !errors.Is(got.Err, client.ErrSiblings) || len(got.Object.Siblings()) != 2 {
				t.Errorf("%v", got.Err)
			}
		case got.Err != nil || !bytes.Equal(got.Object.Value(), items[i].Value):
			t.Fatal(i, got.Err)
		}
	}
	if c.GetMany(ctx, nil) == nil || len(c.PutMany(ctx, nil)) != 0 {
		t.Error("nothing asked, nothing got")
	}
	for _, got := range c.GetMany(ctx, keys[:1], client.WithResolver(client.LastWriterWins())) {
		if got.Err != nil {
			t.Error(got.Err)
		}
	}
}

func TestOpen(t *testing.T) {
	r := apitest.NewRegion(t, 3)
	ctx := testContext(t)
	r.Nodes[1].Kill()
	c, err := client.Open(ctx, r.Nodes[1].Addr+", "+r.Nodes[2].Addr+",") // one is enough
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Put(ctx, "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	_, err = client.Open(ctx, r.Nodes[1].Addr)
	if !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	for _, target := range []string{"", " , "} {
		if _, err := client.Open(ctx, target); !errors.Is(err, client.ErrInvalid) {
			t.Errorf("%q: %v", target, err)
		}
	}
}

func TestClose(t *testing.T) {
	r, c := start(t, 1)
	ctx := testContext(t)
	gate := make(chan struct{})
	defer close(gate)
	asked := make(chan struct{}, 4)
	r.Nodes[0].SetFault(func(apitest.Op) apitest.Fault {
		asked <- struct{}{}
		return apitest.Fault{Hold: gate}
	})
	errs := make(chan [2]error, 4)
	for _, size := range []int{1, 100 << 10} { // by stream, by itself
		go func() {
			_, err := c.Put(ctx, "k", make([]byte, size))
			errs <- [2]error{err, client.ErrUnknownOutcome}
		}()
	}
	go func() {
		_, err := c.Get(ctx, "k")
		errs <- [2]error{err, client.ErrClosed}
	}()
	for range 3 {
		<-asked
	}
	c.Close()
	for range 3 {
		if e := <-errs; !errors.Is(e[0], e[1]) || !errors.Is(e[0], client.ErrClosed) {
			t.Errorf("%v, want %v", e[0], e[1])
		}
	}
	for _, err := range []error{
		second(c.Get(ctx, "k")), second(c.Put(ctx, "k", nil)), second(c.Delete(ctx, "k")),
		c.GetMany(ctx, []string{"k"})[0].Err, second(c.In("lww").Get(ctx, "k")),
	} {
		if !errors.Is(err, client.ErrClosed) || errors.Is(err, client.ErrUnknownOutcome) {
			t.Errorf("%v", err)
		}
	}
	c.Close() // twice is fine
}
