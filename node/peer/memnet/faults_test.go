package memnet_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/peer/memnet"
	"github.com/atolldb/atoll/node/topology"
)

func echo(_ topology.NodeID, req peer.Request, reply peer.Done) { reply(req.Body, nil) }

// ask sends n numbered requests at once and returns the outcomes by number.
func ask(from peer.Transport, to topology.NodeID, n int) []error {
	type end struct {
		i   int
		err error
	}
	ends := make(chan end, 2*n)
	for i := range n {
		from.Send(to, peer.Request{Verb: peer.VerbRead, Timeout: time.Second, Body: []byte{byte(i >> 8), byte(i)}},
			func(reply []byte, err error) {
				if err == nil && !bytes.Equal(reply, []byte{byte(i >> 8), byte(i)}) {
					err = fmt.Errorf("%d got the reply %x", i, reply)
				}
				ends <- end{i, err}
			})
	}
	errs := make([]error, n)
	for range n {
		e := <-ends
		errs[e.i] = e.err
	}
	return errs
}

func count(errs []error, kind error) (n int) {
	for _, err := range errs {
		if errors.Is(err, kind) {
			n++
		}
	}
	return n
}

// pass lets fake time go by.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func between(t *testing.T, what string, got, low, high int) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s: %d, want %d..%d", what, got, low, high)
	}
}

func TestDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := memnet.New(1, memnet.Config{Faults: memnet.Faults{Drop: 0.2}})
		a := f.Node("a", echo)
		f.Node("b", echo)
		errs := ask(a, "b", 1000)
		between(t, "timeouts", count(errs, peer.ErrTimeout), 300, 420) // 1 - 0.8*0.8 = 36 %
		between(t, "answers", count(errs, nil), 580, 700)
		s := f.Stats()
		if s.DroppedRequests == 0 || s.DroppedReplies == 0 || s.DroppedRequests+s.DroppedReplies != s.Timeouts {
			t.Errorf("%+v", s)
		}
	})
}

func TestDuplicate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := memnet.New(1, memnet.Config{Faults: memnet.Faults{Duplicate: 0.5, MaxDelay: time.Millisecond}})
		a := f.Node("a", echo)
		seen := map[string]int{}
		f.Node("b", func(from topology.NodeID, req peer.Request, reply peer.Done) {
			seen[string(req.Body)]++
			echo(from, req, reply)
		})
		if errs := ask(a, "b", 1000); count(errs, nil) != 1000 {
			t.Errorf("%d of 1000 answered", count(errs, nil))
		}
		pass(time.Second) // the second copies
		twice := 0
		for body, n := range seen {
			if n > 2 {
				t.Errorf("%x was delivered %d times", body, n)
			}
			twice += n - 1
		}
		between(t, "duplicates", twice, 430, 570)
		if got := f.Stats().Duplicated; got != uint64(twice) {
			t.Errorf("the fabric counted %d duplicates, the handler %d", got, twice)
		}
	})
}

func TestOrder(t *testing.T) {
	arrivals := func(t *testing.T, faults memnet.Faults) (out []int, s memnet.Stats) {
		synctest.Test(t, func(t *testing.T) {
			f := memnet.New(1, memnet.Config{Faults: faults})
			a := f.Node("a", echo)
			f.Node("b", func(from topology.NodeID, req peer.Request, reply peer.Done) {
				out = append(out, int(req.Body[0])<<8|int(req.Body[1]))
				echo(from, req, reply)
			})
			ask(a, "b", 500)
			s = f.Stats()
		})
		return out, s
	}
	if got, s := arrivals(t, memnet.Faults{MinDelay: time.Millisecond, MaxDelay: 9 * time.Millisecond}); !slices.IsSorted(got) || s.Reordered != 0 {
		t.Error("without Reorder, requests overtook each other")
	}
	got, s := arrivals(t, memnet.Faults{MaxDelay: time.Millisecond, Reorder: 0.3, ReorderBy: 50 * time.Millisecond})
	if slices.IsSorted(got) || s.Reordered == 0 {
		t.Error("with Reorder, requests kept their order")
	}
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := memnet.New(1, memnet.Config{Faults: memnet.Faults{MinDelay: 10 * time.Millisecond, MaxDelay: 20 * time.Millisecond}})
		a := f.Node("a", echo)
		f.Node("b", echo)
		for range 50 {
			start := time.Now()
			ask(a, "b", 1)
			if took := time.Since(start); took < 20*time.Millisecond || took > 40*time.Millisecond+2 {
				t.Fatalf("a round trip took %s", took)
			}
		}
		f.SetLink("a", "b", memnet.Faults{MinDelay: time.Second / 2, MaxDelay: time.Second / 2})
		start := time.Now()
		ask(a, "b", 1)
		if took := time.Since(start); took < 510*time.Millisecond || took > 520*time.Millisecond {
			t.Errorf("over the slow link it took %s", took)
		}
	})
}

func TestOneWayCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := memnet.New(1, memnet.Config{DialDelay: 5 * time.Millisecond})
		delivered := 0
		a := f.Node("a", echo)
		f.Node("b", func(from topology.NodeID, req peer.Request, reply peer.Done) {
			delivered++
			echo(from, req, reply)
		})
		f.Cut("b", "a")
		if errs := ask(a, "b", 10); count(errs, peer.ErrTimeout) != 10 || delivered != 10 {
			t.Errorf("replies cut: %d timeouts, %d delivered, want 10 of both", count(errs, peer.ErrTimeout), delivered)
		}
		f.Heal("b", "a")
		f.Cut("a", "b")
		start := time.Now()
		if errs := ask(a, "b", 10); count(errs, peer.ErrNotSent) != 10 || delivered != 10 {
			t.Errorf("requests cut: %d not sent, %d delivered", count(errs, peer.ErrNotSent), delivered-10)
		}
		if took := time.Since(start); took != 5*time.Millisecond {
			t.Errorf("the sender learnt it after %s", took)
		}
		f.HealAll()
		if errs := ask(a, "b", 10); count(errs, nil) != 10 {
			t.Error("not healed")
		}
		s := f.Stats()
		if s.CutRequests != 10 || s.CutReplies != 10 {
			t.Errorf("%+v", s)
		}
	})
}

func TestDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := memnet.New(1, memnet.Config{Doubt: 0.5})
		a := f.Node("a", echo)
		errs := ask(a, "nobody", 1000)
		between(t, "not sent", count(errs, peer.ErrNotSent), 430, 570)
		if count(errs, peer.ErrNotSent)+count(errs, peer.ErrTimeout) != 1000 {
			t.Error("some sends ended otherwise")
		}
	})
}

// What was sent to one life of a node does not reach the next, and what a dead
// life says is not heard (M3).
func TestLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := memnet.New(1, memnet.Config{Faults: memnet.Faults{MinDelay: 10 * time.Millisecond, MaxDelay: 10 * time.Millisecond}})
		a := f.Node("a", echo)
		lives := make(chan int, 10)
		var held peer.Done
		start := func(life int) {
			f.Node("b", func(_ topology.NodeID, req peer.Request, reply peer.Done) {
				lives <- life
				held = reply
			})
		}
		send := func() chan error {
			ch := make(chan error, 2)
			a.Send("b", peer.Request{Verb: peer.VerbApply, Timeout: time.Second}, func(_ []byte, err error) { ch <- err })
			return ch
		}
		start(1)
		got := send()
		pass(11 * time.Millisecond) // delivered to life 1
		onItsWay := send()
		pass(5 * time.Millisecond)
		old := held
		start(2)
		old([]byte("from the grave"), nil)
		for _, ch := range []chan error{got, onItsWay} {
			if err := <-ch; !errors.Is(err, peer.ErrLinkLost) {
				t.Errorf("got %v, want ErrLinkLost", err)
			}
		}
		pass(time.Minute)
		if len(lives) != 1 || <-lives != 1 {
			t.Error("the second life got what was sent to the first")
		}
		if s := f.Stats(); s.Vanished != 2 {
			t.Errorf("%d vanished, want a request and a reply", s.Vanished)
		}
		f.Down("b")
		f.Up("b")
		next := send()
		pass(11 * time.Millisecond)
		held(nil, nil)
		if err := <-next; err != nil || <-lives != 2 {
			t.Errorf("after Up: %v", err)
		}
	})
}

func TestExpiredOnArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := memnet.New(1, memnet.Config{Faults: memnet.Faults{MinDelay: 2 * time.Second, MaxDelay: 2 * time.Second}})
		a := f.Node("a", echo)
		f.Node("b", func(topology.NodeID, peer.Request, peer.Done) { t.Error("the handler was called") })
		if errs := ask(a, "b", 3); count(errs, peer.ErrTimeout) != 3 {
			t.Errorf("%v", errs)
		}
		pass(time.Minute)
		if s := f.Stats(); s.Expired != 3 {
			t.Errorf("%+v", s)
		}
	})
}

// A handler that breaks its contract is found out.
func TestTwoRepliesPanic(t *testing.T) {
	f := memnet.New(1, memnet.Config{})
	a := f.Node("a", echo)
	found := make(chan any, 1)
	f.Node("b", func(_ topology.NodeID, _ peer.Request, reply peer.Done) {
		defer func() { found <- recover() }()
		reply(nil, nil)
		reply(nil, nil)
	})
	a.Send("b", peer.Request{Verb: peer.VerbRead, Timeout: time.Minute}, func([]byte, error) {})
	if msg := fmt.Sprint(<-found); !strings.Contains(msg, "b replied twice") {
		t.Errorf("recovered %s", msg)
	}
}

// trace runs a plan of sends, one at a time on each link, and writes down what
// happened when.
func trace(t *testing.T, seed uint64, sends []int) string {
	var out strings.Builder
	synctest.Test(t, func(t *testing.T) {
		f := memnet.New(seed, memnet.Config{
			Faults: memnet.Faults{
				MinDelay: time.Millisecond, MaxDelay: 20 * time.Millisecond, Drop: 0.1, Duplicate: 0.2,
				Reorder: 0.2, ReorderBy: 50 * time.Millisecond,
			},
			DialDelay: time.Millisecond, Doubt: 0.3,
		})
		start := time.Now()
		ids := []topology.NodeID{"a", "b", "c"}
		nodes := map[topology.NodeID]peer.Transport{}
		for _, id := range ids {
			nodes[id] = f.Node(id, func(from topology.NodeID, req peer.Request, reply peer.Done) {
				fmt.Fprintf(&out, "%s %s<-%s %x\n", time.Since(start), id, from, req.Body)
				reply(req.Body, nil)
			})
		}
		for i, s := range sends {
			from, to := ids[s%3], ids[s/3%3]
			nodes[from].Send(to, peer.Request{Verb: peer.VerbRead, Timeout: time.Second, Body: []byte{byte(i)}}, func(_ []byte, err error) {
				fmt.Fprintf(&out, "%s %d ended: %v\n", time.Since(start), i, err)
			})
			switch s / 9 {
			case 1:
				f.Down(to)
			case 2:
				f.Up(to)
			case 3:
				f.Cut(from, to)
			case 4:
				f.HealAll()
			case 5:
				pass(7 * time.Millisecond)
			}
		}
		pass(2 * time.Second)
	})
	return out.String()
}

func TestSameSeedSameRun(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		sends := rapid.SliceOfN(rapid.IntRange(0, 9*8-1), 1, 60).Draw(rt, "sends")
		first := trace(t, seed, sends)
		if again := trace(t, seed, sends); again != first {
			rt.Fatalf("first\n%s\nagain\n%s", first, again)
		}
		if n := strings.Count(first, "ended"); n != len(sends) {
			rt.Fatalf("%d outcomes of %d sends", n, len(sends))
		}
	})
}
