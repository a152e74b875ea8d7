package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/node/api/apitest"
)

// demo stands for a test in an example.
type demo struct{ ends []func() }

func (d *demo) Cleanup(f func())             { d.ends = append(d.ends, f) }
func (d *demo) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }
func (d *demo) end() {
	for _, f := range d.ends {
		f()
	}
}

// exampleCluster is a region of three nodes in this process. elsewhere writes
// a key as another region would that has not heard of our writes yet.
func exampleCluster() (target string, elsewhere func(key, value string), end func()) {
	d := &demo{}
	r := apitest.NewRegion(d, 3)
	return addrs(r), func(key, value string) {
		r.Store.Blind("", key, crdt.MakeActor(100, 2), value)
	}, d.end
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func Example() {
	target, _, end := exampleCluster() // "n1:7400,n2:7400"
	defer end()
	ctx := context.Background()

	c, err := client.Open(ctx, target)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	version, err := c.Put(ctx, "greeting", []byte("hello"))
	if err != nil {
		fmt.Println(err)
		return
	}
	// A write names what it follows.
	if _, err := c.Put(ctx, "greeting", []byte("good morning"), client.After(version)); err != nil {
		fmt.Println(err)
		return
	}
	var info client.Info
	obj, err := c.Get(ctx, "greeting", client.LocalAll, client.Explain(&info))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s, from %d owners in %s\n", obj.Value(), len(info.Replicas), info.Region)
	// Output: good morning, from 3 owners in eu
}

// A write in every region: when it is not there in time it is partial, and can be
// waited for.
func ExampleClient_AwaitReplication() {
	target, _, end := exampleCluster()
	defer end()
	ctx := context.Background()
	c := must(client.Open(ctx, target))
	defer c.Close()

	_, err := c.Put(ctx, "price", []byte("7"), client.EachQuorum)
	if e := (*client.Error)(nil); errors.Is(err, client.ErrPartial) && errors.As(err, &e) {
		fmt.Println("it holds here, and is not known to be in:")
		for _, g := range e.Regions() {
			if g.State != client.RegionReached {
				fmt.Println(g.Region)
			}
		}
	}
	for _, g := range must(c.AwaitReplication(ctx)) {
		fmt.Println(g.Region, g.State)
	}
	// Output: eu reached
}

// Two regions wrote the same key: both values are there, until somebody
// decides.
func ExampleClient_Get_siblings() {
	target, elsewhere, end := exampleCluster()
	defer end()
	ctx := context.Background()
	c := must(client.Open(ctx, target))
	defer c.Close()

	must(c.Put(ctx, "title", []byte("Atoll")))
	elsewhere("title", "Lagoon")

	obj, err := c.Get(ctx, "title")
	if errors.Is(err, client.ErrSiblings) {
		for _, s := range obj.Siblings() {
			fmt.Printf("%s: %s\n", s.Region, s.Value)
		}
		// A write after the read's version replaces all that it saw.
		must(c.Put(ctx, "title", []byte("Atoll and Lagoon"), client.After(obj.Version())))
	}
	fmt.Printf("%s\n", must(c.Get(ctx, "title")).Value())
	// Output:
	// eu: Atoll
	// region-2: Lagoon
	// Atoll and Lagoon
}

// A resolver for the whole client, and Update, which reads, resolves, modifies
// and writes.
func ExampleClient_Update() {
	target, elsewhere, end := exampleCluster()
	defer end()
	ctx := context.Background()
	c := must(client.Open(ctx, target, client.OnSiblings(client.SetUnionLines())))
	defer c.Close()

	add := func(item string) {
		must(c.Update(ctx, "cart/42", func(cur client.Object) ([]byte, error) {
			items := strings.Fields(string(cur.Value()))
			return []byte(strings.Join(append(items, item), "\n")), nil
		}))
	}
	add("tea")
	elsewhere("cart/42", "milk") // while the regions were apart
	add("bread")

	obj := must(c.Get(ctx, "cart/42"))
	fmt.Println(strings.Fields(string(obj.Value())), len(obj.Siblings()))
	// Output: [milk tea bread] 1
}

// A session for each user: it goes on where its token stood, in another process or
// another region.
func ExampleClient_Session() {
	target, _, end := exampleCluster()
	defer end()
	ctx := context.Background()
	c := must(client.Open(ctx, target))
	defer c.Close()

	user := c.Session()
	must(user.Put(ctx, "cart/42", []byte("tea"), client.LocalOne))
	cookie := user.Token()

	user = must(c.SessionFrom(cookie))
	fmt.Printf("%s\n", must(user.Get(ctx, "cart/42", client.LocalOne)).Value())
	// Output: tea
}

// Of those who want a lock one gets it, and the others are told who has it.
func ExampleIfAbsent() {
	target, _, end := exampleCluster()
	defer end()
	ctx := context.Background()
	c := must(client.Open(ctx, target))
	defer c.Close()

	held := must(c.Put(ctx, "lock/1", []byte("ann"), client.IfAbsent(), client.LocalSerial))

	_, err := c.Put(ctx, "lock/1", []byte("bob"), client.IfAbsent(), client.LocalSerial)
	var e *client.Error
	if errors.Is(err, client.ErrConditionFailed) && errors.As(err, &e) {
		there, _ := e.Current()
		fmt.Printf("held by %s\n", there.Value())
	}

	// Given back only if nobody has taken it away.
	must(c.Delete(ctx, "lock/1", client.IfUnchanged(held), client.LocalSerial))
	must(c.Put(ctx, "lock/1", []byte("bob"), client.IfAbsent(), client.LocalSerial))
	_, err = c.Delete(ctx, "lock/1", client.IfUnchanged(held), client.LocalSerial)
	fmt.Println(errors.Is(err, client.ErrConditionFailed))
	// Output:
	// held by ann
	// true
}

// A resolver of one's own, for one call. It decides; the client writes the
// decision back.
func ExampleWithResolver() {
	target, elsewhere, end := exampleCluster()
	defer end()
	ctx := context.Background()
	c := must(client.Open(ctx, target, client.WithWriteBack(client.WriteBackSync)))
	defer c.Close()
	must(c.Put(ctx, "name", []byte("Ann")))
	elsewhere("name", "Annabel")

	longest := func(_ context.Context, _ string, siblings []client.Sibling) (client.Resolution, error) {
		best := 0
		for i, s := range siblings {
			if len(s.Value) > len(siblings[best].Value) {
				best = i
			}
		}
		return client.Keep(best), nil
	}
	fmt.Printf("%s\n", must(c.Get(ctx, "name", client.WithResolver(longest))).Value())
	fmt.Printf("%s\n", must(c.Get(ctx, "name")).Value()) // for all
	// Output:
	// Annabel
	// Annabel
}

// Values of a type, merged by a function of two of them.
func ExampleNewTyped() {
	target, elsewhere, end := exampleCluster()
	defer end()
	ctx := context.Background()
	c := must(client.Open(ctx, target))
	defer c.Close()

	type page struct{ Views, Likes int }
	pages := client.NewTyped(c, client.JSON[page]())
	most := pages.Resolver(func(a, b page) (page, error) {
		return page{max(a.Views, b.Views), max(a.Likes, b.Likes)}, nil
	})
	must(pages.Put(ctx, "home", page{Views: 10, Likes: 1}))
	elsewhere("home", `{"Views":8,"Likes":3}`)

	must(pages.Update(ctx, "home", func(cur page, _ bool) (page, error) {
		cur.Views++
		return cur, nil
	}, client.WithResolver(most)))
	fmt.Printf("%+v\n", must(pages.Get(ctx, "home")).V)
	// Output: {Views:11 Likes:3}
}

// Errors say what was wrong and what became of a write.
func ExampleError() {
	target, _, end := exampleCluster()
	defer end()
	ctx := context.Background()
	c := must(client.Open(ctx, target, client.Timeout(time.Second)))
	defer c.Close()

	_, err := c.Put(ctx, "k", make([]byte, 2<<20))
	var e *client.Error
	if errors.As(err, &e) {
		fmt.Println(errors.Is(err, client.ErrTooLarge), e.Field, e.Limit, e.Seen, e.Outcome)
	}
	_, err = c.Get(ctx, "absent")
	fmt.Println(errors.Is(err, client.ErrNotFound))
	// Output:
	// true value 1048576 bytes 2097152 bytes not_applied
	// true
}

// Versions travel as text, in a cookie or a form.
func ExampleClient_ParseVersion() {
	target, _, end := exampleCluster()
	defer end()
	ctx := context.Background()
	c := must(client.Open(ctx, target))
	defer c.Close()

	cookie := must(c.Put(ctx, "profile", []byte("v1"))).String()

	version := must(c.ParseVersion("profile", cookie))
	must(c.Put(ctx, "profile", []byte("v2"), client.After(version)))
	fmt.Printf("%s\n", must(c.Get(ctx, "profile")).Value())
	// Output: v2
}

// A client goes on in another region when its own is taken out of service. Nothing
// else changes: its session and its versions are good there.
func ExampleOnRegionChange() {
	d := &demo{}
	defer d.end()
	// Stands for a deployment; 'atoll dr switchover eu' is what drains a region.
	regions := apitest.NewWorld(d, 3, "eu", "us")
	ctx := context.Background()

	moved := make(chan client.RegionChange, 1)
	c := must(client.Open(ctx, addrs(regions.Region("eu")), client.Region("eu"), client.Fallback("us"),
		client.OnRegionChange(func(m client.RegionChange) { moved <- m })))
	defer c.Close()
	version := must(c.Put(ctx, "cart/42", []byte("tea")))

	regions.Set("eu", regionmap.Draining)
	must(c.Get(ctx, "cart/42")) // each answer tells whether there is a newer map
	m := <-moved
	fmt.Printf("from %s, which is %s, to %s\n", m.From, m.State, m.To)

	var info client.Info
	must(c.Put(ctx, "cart/42", []byte("tea, milk"), client.After(version), client.Explain(&info)))
	fmt.Println("written in", info.Region)
	// Output:
	// from eu, which is DRAINING, to us
	// written in us
}
