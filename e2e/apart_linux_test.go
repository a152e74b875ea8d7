//go:build e2e && linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/e2e/program"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/freeport"
	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/topology"
)

// order is what a process of a side is told, one line of JSON each, and answer what
// it says to it. Orders are named as side's methods.
type order struct {
	Do     string
	Span   time.Duration                 `json:",omitempty"`
	Clocks map[hashring.Partition][]byte `json:",omitempty"`
}

type answer struct {
	Took   []time.Duration               `json:",omitempty"`
	N      uint64                        `json:",omitempty"`
	Clocks map[hashring.Partition][]byte `json:",omitempty"`
}

// sideConfig is what a process of a side begins with, in sideEnv.
type sideConfig struct {
	Region   topology.Region
	Fleet    fleet.Config
	Patience time.Duration // for all of it
	Profile  string        // directory for profiles, "" for none
}

// apart is a side in a process of its own, on one processor.
type apart struct {
	t   *testing.T
	in  *json.Encoder
	out *json.Decoder
}

// startApart starts a process for each region of a fleet, the first one on the first
// processor, with the region's nodes, its NATS server and its clients.
func startApart(t *testing.T, ctx context.Context, cfg fleet.Config, profile string) (sides []side) {
	t.Helper()
	if runtime.NumCPU() < len(cfg.Regions) {
		t.Skipf("%d regions need a processor each", len(cfg.Regions))
	}
	cfg.Dir, cfg.Addrs = t.TempDir(), freeport.For(t, len(cfg.Regions)*cfg.Nodes*fleet.AddrsPerNode)
	deadline, _ := ctx.Deadline()
	var all []*apart
	for cpu, region := range cfg.Regions {
		cfg.Here = region
		text, err := json.Marshal(sideConfig{region, cfg, time.Until(deadline), profile})
		if err != nil {
			t.Fatal(err)
		}
		one := launchSide(t, cpu, cfg.Nodes, string(text))
		one.do(order{Do: "Make"}) // the first one writes what all share
		all, sides = append(all, one), append(sides, one)
	}
	for _, a := range all {
		a.tell(order{Do: "Start"})
	}
	for _, a := range all {
		a.hear()
	}
	for _, a := range all {
		a.do(order{Do: "Open"})
	}
	return sides
}

// launchSide starts TestSide in a process on one processor; it ends with the test.
func launchSide(t *testing.T, cpu, nodes int, config string) *apart {
	t.Helper()
	theirIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], append(os.Args[1:], "-test.run=^TestSide$")...)
	cmd.Env = append(os.Environ(), sideEnv+"="+config, "GOMAXPROCS="+strconv.Itoa(4*nodes)) // as that many atoll start on one processor
	cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	var said lockedBuffer
	cmd.Stdout, cmd.Stderr = &said, &said
	runtime.LockOSThread()
	pin(t, 0, cpu) // what this thread starts inherits it
	err = cmd.Start()
	cpus := make([]int, runtime.NumCPU())
	for i := range cpus {
		cpus[i] = i
	}
	pin(t, 0, cpus...)
	runtime.UnlockOSThread()
	theirIn.Close()
	theirOut.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // it ends
		if err := cmd.Wait(); err != nil || testing.Verbose() {
			t.Logf("the side on processor %d ends: %v\n%s", cpu, err, program.Tail(said.String(), 40))
			if err != nil {
				t.Fail()
			}
		}
		out.Close()
	})
	return &apart{t, json.NewEncoder(in), json.NewDecoder(out)}
}

func (a *apart) tell(o order) {
	if err := a.in.Encode(o); err != nil {
		a.t.Fatalf("tell the side to %s: %v", o.Do, err)
	}
}

func (a *apart) hear() (got answer) {
	if err := a.out.Decode(&got); err != nil {
		a.t.Fatalf("the side does not answer: %v", err)
	}
	return got
}

func (a *apart) do(o order) answer {
	a.tell(o)
	return a.hear()
}

func (a *apart) Steady(span time.Duration) []time.Duration {
	return a.do(order{Do: "Steady", Span: span}).Took
}
func (a *apart) Begin()               { a.do(order{Do: "Begin"}) }
func (a *apart) End() []time.Duration { return a.do(order{Do: "End"}).Took }
func (a *apart) FlatOut(span time.Duration) int {
	return int(a.do(order{Do: "FlatOut", Span: span}).N)
}
func (a *apart) Cut()  { a.do(order{Do: "Cut"}) }
func (a *apart) Heal() { a.do(order{Do: "Heal"}) }
func (a *apart) Has(made clocks) bool {
	return a.do(order{Do: "Has", Clocks: encodeClocks(made)}).N == 1
}
func (a *apart) Crossed() uint64      { return a.do(order{Do: "Crossed"}).N }
func (a *apart) Spent() time.Duration { return time.Duration(a.do(order{Do: "Spent"}).N) }
func (a *apart) Minted() clocks {
	made, err := decodeClocks(a.do(order{Do: "Minted"}).Clocks)
	if err != nil {
		a.t.Fatal(err)
	}
	return made
}

func encodeClocks(c clocks) map[hashring.Partition][]byte {
	out := map[hashring.Partition][]byte{}
	for p, x := range c {
		out[p] = crdt.AppendClock(nil, x)
	}
	return out
}

func decodeClocks(in map[hashring.Partition][]byte) (clocks, error) {
	out := clocks{}
	for p, b := range in {
		x, _, err := crdt.DecodeClock(b)
		if err != nil {
			return nil, err
		}
		out[p] = x
	}
	return out, nil
}

// TestSide is no test, but a side's process: it does what it is told, until nothing
// more can come.
func TestSide(t *testing.T) {
	text := os.Getenv(sideEnv)
	if text == "" {
		t.Skip("a process that other tests start")
	}
	var cfg sideConfig
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), cfg.Patience)
	defer cancel()
	in, out := json.NewDecoder(os.NewFile(3, "orders")), json.NewEncoder(os.NewFile(4, "answers"))
	var s *fleetSide
	var f *fleet.Fleet
	for {
		var o order
		if err := in.Decode(&o); err == io.EOF {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		var a answer
		switch o.Do {
		case "Make":
			made, err := fleet.New(cfg.Fleet)
			if err != nil {
				t.Fatal(err)
			}
			f = made
		case "Start":
			t.Cleanup(func() {
				if err := f.Stop(); err != nil {
					t.Errorf("stop: %v", err)
				}
			})
			if err := f.Start(ctx); err != nil {
				t.Fatal(err)
			}
		case "Open":
			s = newSide(t, ctx, f, cfg.Region)
		case "Steady":
			a.Took = s.Steady(o.Span)
		case "Begin":
			s.Begin()
		case "End":
			a.Took = s.End()
		case "FlatOut":
			end := profiled(t, cfg, "cut")
			a.N = uint64(s.FlatOut(o.Span))
			end()
		case "Cut":
			s.Cut()
		case "Heal":
			end := profiled(t, cfg, "catch-up")
			time.AfterFunc(3*time.Second, end)
			if cfg.Profile != "" {
				out, err := os.Create(filepath.Join(cfg.Profile, fmt.Sprint("catch-up-", cfg.Region, ".txt")))
				if err != nil {
					t.Fatal(err)
				}
				drawn := make(chan struct{})
				go func() {
					defer close(drawn)
					timeline(t.Context(), out, f, cfg.Region)
				}()
				t.Cleanup(func() { <-drawn; _ = out.Close() })
			}
			s.Heal()
		case "Minted":
			a.Clocks = encodeClocks(s.Minted())
		case "Has":
			made, err := decodeClocks(o.Clocks)
			if err != nil {
				t.Fatal(err)
			}
			if s.Has(made) {
				a.N = 1
			}
		case "Crossed":
			a.N = s.Crossed()
		case "Spent":
			a.N = uint64(s.Spent())
		default:
			t.Fatalf("no order %q", o.Do)
		}
		if err := out.Encode(a); err != nil {
			t.Fatal(err)
		}
	}
}

// profiled writes a profile of the processor time until end is called.
func profiled(t *testing.T, cfg sideConfig, name string) (end func()) {
	if cfg.Profile == "" {
		return func() {}
	}
	out, err := os.Create(filepath.Join(cfg.Profile, fmt.Sprint(name, "-", cfg.Region, ".pprof")))
	if err == nil {
		err = pprof.StartCPUProfile(out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		pprof.StopCPUProfile()
		_ = out.Close()
	}
}
