package topology

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/atolldb/atoll/hashring"
)

// anyTopology draws a valid topology, with owners that are no members, moves of
// every stage and tasks that run and have ended.
func anyTopology(t *rapid.T) *Topology {
	id := rapid.StringMatching(`[a-z0-9-]{1,8}`)
	text := rapid.StringN(0, 10, 40)
	names := rapid.SliceOfNDistinct(id, 5, 12, rapid.ID[string]).Draw(t, "names")
	members := names[:rapid.IntRange(0, len(names)).Draw(t, "members")]
	x := &Topology{
		Region:   Region(id.Draw(t, "region")),
		RegionID: RegionID(rapid.IntRange(1, 63).Draw(t, "region id")),
		Epoch:    Epoch(rapid.Uint64Range(1, 1<<63).Draw(t, "epoch")),
		Rules: hashring.Rules{
			Partitions: 1 << rapid.IntRange(0, 5).Draw(t, "log partitions"),
			Replicas:   rapid.IntRange(1, hashring.MaxReplicas).Draw(t, "replicas"),
			ZonePolicy: rapid.SampledFrom([]hashring.ZonePolicy{hashring.Strict, hashring.Balanced}).Draw(t, "zones"),
		},
		Pace: Pace{BytesPerSecond: rapid.Uint64().Draw(t, "pace"), Concurrent: rapid.IntRange(0, 100).Draw(t, "concurrent")},
	}
	for _, m := range members {
		x.Members = append(x.Members, Member{
			ID: NodeID(m), Rack: text.Draw(t, "rack"), Weight: rapid.IntRange(0, hashring.MaxWeight).Draw(t, "weight"),
			PeerAddr: text.Draw(t, "peer"), ClientAddr: text.Draw(t, "client"), State: State(rapid.IntRange(0, 3).Draw(t, "state")),
		})
	}
	rows := make([][]string, x.Rules.Partitions)
	for p := range rows {
		rows[p] = rapid.Permutation(names).Draw(t, "row")[:rapid.IntRange(1, 4).Draw(t, "owners")]
	}
	x.Table = hashring.MakeTable(rows)
	since := rapid.Bool().Draw(t, "since")
	if since {
		x.Since = make([]Epoch, len(rows))
		for p := range x.Since {
			x.Since[p] = Epoch(rapid.Uint64Range(1, uint64(x.Epoch)).Draw(t, "since"))
		}
		x.Since[0] = x.Epoch
	}
	if slices.Max(append(x.Since, 1)) == 1 {
		x.Since = nil // means the same
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "tasks") {
		k := Task{
			ID: TaskID(3*i + 1), Kind: Kind(rapid.IntRange(0, 3).Draw(t, "kind")),
			Moves: rapid.IntRange(0, 1<<20).Draw(t, "moves"), Bytes: rapid.Uint64().Draw(t, "bytes"),
			Begun: rapid.Int64().Draw(t, "begun"), Ended: rapid.SampledFrom([]int64{0, 17}).Draw(t, "ended"),
			Paused: rapid.Bool().Draw(t, "paused"), Aborted: rapid.Bool().Draw(t, "aborted"), AcceptLoss: rapid.Bool().Draw(t, "loss"),
		}
		for _, n := range rapid.SliceOfN(rapid.SampledFrom(append(names, "gone")), 0, 3).Draw(t, "nodes") {
			k.Nodes = append(k.Nodes, NodeID(n))
		}
		x.Tasks = append(x.Tasks, k)
	}
	for p, row := range rows {
		if len(x.Tasks) == 0 || x.Tasks[0].Ended != 0 || !rapid.Bool().Draw(t, "move") {
			continue
		}
		m := Move{
			ID: MoveID(2*len(x.Moves) + 1), Task: x.Tasks[0].ID, Partition: hashring.Partition(p),
			Slot: len(row), To: "new", Stage: Stage(rapid.IntRange(0, 2).Draw(t, "stage")), Began: x.SinceOf(hashring.Partition(p)),
		}
		if rapid.Bool().Draw(t, "from") {
			m.Slot = rapid.IntRange(0, len(row)-1).Draw(t, "slot")
			m.From = NodeID(row[m.Slot])
			if len(row) > 1 && rapid.Bool().Draw(t, "away") {
				m.To = ""
			}
		}
		x.Moves = append(x.Moves, m)
	}
	return x
}

var sameTopology = cmp.Options{
	cmpopts.IgnoreUnexported(Topology{}), cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b hashring.Table) bool { return a.Fingerprint() == b.Fingerprint() }),
}

func TestCodecRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := anyTopology(t)
		if err := x.Validate(); err != nil {
			t.Fatalf("the test's own topology: %v", err)
		}
		b := Encode(x)
		back, err := Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(x, back, sameTopology); d != "" {
			t.Fatal(d)
		}
		if again := Encode(back); !bytes.Equal(b, again) {
			t.Fatalf("%x and %x", b, again)
		}
		// No bit of it can be lost.
		flipped := bytes.Clone(b)
		flipped[rapid.IntRange(0, len(b)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := Decode(flipped); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("a flipped bit: %v", err)
		}
		if _, err := Decode(b[:rapid.IntRange(0, len(b)-1).Draw(t, "cut")]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut short: %v", err)
		}
	})
}

// example has one of everything.
func example() *Topology {
	return &Topology{
		Region: "eu", RegionID: 5, Epoch: 300,
		Rules: hashring.Rules{Partitions: 2, Replicas: 3, ZonePolicy: hashring.Balanced},
		Members: []Member{
			{ID: "n1", Rack: "a", Weight: 1, PeerAddr: "h1:1", ClientAddr: "h1:2"},
			{ID: "n2", Rack: "b", Weight: 2, PeerAddr: "h2:1", ClientAddr: "h2:2", State: Draining},
			{ID: "n4", Weight: 300, State: Joining},
		},
		Table: hashring.MakeTable([][]string{{"n1", "n2", "dead"}, {"n2", "n1"}}),
		Since: []Epoch{300, 1},
		Moves: []Move{
			{ID: 7, Task: 2, Partition: 0, Slot: 2, From: "dead", To: "n4", Stage: Copying, Began: 300},
			{ID: 8, Task: 2, Partition: 1, Slot: 2, To: "n4"},
		},
		Tasks: []Task{
			{ID: 1, Kind: KindDrain, Nodes: []NodeID{"old"}, Moves: 9, Bytes: 1 << 40, Begun: 1000, Ended: 2000, Aborted: true},
			{ID: 2, Kind: KindReplace, Nodes: []NodeID{"dead", "n4"}, Moves: 2, Bytes: 5, Begun: 3000, Paused: true, AcceptLoss: true},
		},
		Pace: Pace{BytesPerSecond: 1 << 20, Concurrent: 4},
	}
}

// The format is on disks: these bytes must be read for ever.
const golden = "01" + "026575" + "05" + "ac02" + "02" + "03" + "01" +
	"03" +
	"026e31" + "0161" + "01" + "0468313a31" + "0468313a32" + "00" +
	"026e32" + "0162" + "02" + "0468323a31" + "0468323a32" + "02" +
	"026e34" + "00" + "ac02" + "00" + "00" + "01" +
	"02" + "0464656164" + "036f6c64" +
	"03000103" + "020100" + "01" + "00" + "ab02" +
	"02" +
	"07" + "02" + "00" + "02" + "04" + "03" + "01" + "ac02" +
	"01" + "02" + "01" + "02" + "00" + "03" + "00" + "00" +
	"02" +
	"01" + "02" + "01" + "04" + "09" + "808080808020" + "00000000000003e8" + "00000000000007d0" + "02" +
	"01" + "03" + "02" + "03" + "02" + "02" + "05" + "0000000000000bb8" + "0000000000000000" + "05" +
	"808040" + "04"

func TestCodecGolden(t *testing.T) {
	b := Encode(example())
	if got := hex.EncodeToString(b[:len(b)-4]); got != golden {
		t.Errorf("got  %s\nwant %s", got, golden)
	}
	back, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(example(), back, sameTopology); d != "" {
		t.Error(d)
	}
}

// Since that says nothing is not written.
func TestCodecSinceOfOne(t *testing.T) {
	x := example()
	x.Moves, x.Since = nil, []Epoch{1, 1}
	y := x.Clone()
	y.Since = nil
	if !bytes.Equal(Encode(x), Encode(y)) {
		t.Error("equal topologies have different bytes")
	}
}

func TestValidate(t *testing.T) {
	if err := example().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Topology){
		"region":            func(x *Topology) { x.Region = "EU" },
		"region id":         func(x *Topology) { x.RegionID = 64 },
		"no epoch":          func(x *Topology) { *x = Topology{Region: "eu", RegionID: 1, Rules: x.Rules, Table: x.Table} },
		"rules":             func(x *Topology) { x.Rules.Replicas = 33 },
		"partitions":        func(x *Topology) { x.Rules.Partitions = 4 },
		"member name":       func(x *Topology) { x.Members[0].ID = "" },
		"member twice":      func(x *Topology) { x.Members[0].ID = "n2" },
		"weight":            func(x *Topology) { x.Members[0].Weight = -1 },
		"state":             func(x *Topology) { x.Members[0].State = 4 },
		"address":           func(x *Topology) { x.Members[0].PeerAddr = string(make([]byte, maxText+1)) },
		"no owner":          func(x *Topology) { x.Table = hashring.MakeTable([][]string{{"n1", "n2", "dead"}, {}}) },
		"owner twice":       func(x *Topology) { x.Table = hashring.MakeTable([][]string{{"n1", "n2", "dead"}, {"n2", "n2"}}) },
		"owner name":        func(x *Topology) { x.Table = hashring.MakeTable([][]string{{"n1", "n2", "dead"}, {"N"}}) },
		"since short":       func(x *Topology) { x.Since = x.Since[:1] },
		"since in future":   func(x *Topology) { x.Since[1] = 301 },
		"since zero":        func(x *Topology) { x.Since[1] = 0 },
		"task order":        func(x *Topology) { x.Tasks[1].ID = 1 },
		"task kind":         func(x *Topology) { x.Tasks[0].Kind = 4 },
		"task node":         func(x *Topology) { x.Tasks[0].Nodes[0] = "" },
		"task moves":        func(x *Topology) { x.Tasks[0].Moves = -1 },
		"pace":              func(x *Topology) { x.Pace.Concurrent = -1 },
		"move order":        func(x *Topology) { x.Moves[1].ID = 7 },
		"move's task":       func(x *Topology) { x.Moves[1].Task = 3 },
		"move's task ended": func(x *Topology) { x.Moves[1].Task = 1 },
		"move's partition":  func(x *Topology) { x.Moves[1].Partition = 2 },
		"two under way": func(x *Topology) {
			x.Moves[1] = Move{ID: 8, Task: 2, Partition: 0, Slot: 0, From: "n1", To: "n5", Stage: Copying, Began: 300}
		},
		"stage":          func(x *Topology) { x.Moves[0].Stage = 3 },
		"from nowhere":   func(x *Topology) { x.Moves[1].To = "" },
		"from a guest":   func(x *Topology) { x.Moves[0].From = "n4" },
		"to an owner":    func(x *Topology) { x.Moves[0].To = "n1" },
		"wrong slot":     func(x *Topology) { x.Moves[0].Slot = 1 },
		"slot":           func(x *Topology) { x.Moves[1].Slot = -1 },
		"wrong new slot": func(x *Topology) { x.Moves[1].Stage, x.Moves[1].Slot, x.Moves[1].Began, x.Since[1] = Copying, 3, 5, 5 },
		"the last slot": func(x *Topology) {
			x.Table = hashring.MakeTable([][]string{{"n1", "n2", "dead"}, {"n2"}})
			x.Moves[1] = Move{ID: 8, Task: 2, Partition: 1, From: "n2"}
		},
		"began never":     func(x *Topology) { x.Moves[0].Began = 0 },
		"began in future": func(x *Topology) { x.Moves[1].Began = 301 },
		"began unseen":    func(x *Topology) { x.Since[0] = 299 },
	} {
		x := example()
		spoil(x)
		if err := x.Validate(); err == nil {
			t.Errorf("%s: nothing is wrong", name)
		}
	}
}

// What Validate finds, Decode does not let in.
func TestDecodeValidates(t *testing.T) {
	x := example()
	x.Moves[0].Slot = 1
	if _, err := Decode(Encode(x)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	if _, err := Decode(append(Encode(example()), make([]byte, MaxEncoded)...)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("too large: %v", err)
	}
}

func sealed(body []byte) []byte {
	return binary.BigEndian.AppendUint32(bytes.Clone(body), crc32.Checksum(body, castagnoli))
}

// FuzzDecode feeds bodies behind a valid checksum.
func FuzzDecode(f *testing.F) {
	static, err := Static("eu", 1, []Member{{ID: "a", Rack: "r"}, {ID: "b"}, {ID: "c"}}, hashring.Rules{Partitions: 8, Replicas: 2})
	if err != nil {
		f.Fatal(err)
	}
	for _, x := range []*Topology{example(), static} {
		b := Encode(x)
		f.Add(b[:len(b)-4])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		b := sealed(body)
		x, err := Decode(b)
		if err != nil {
			return
		}
		if err := x.Validate(); err != nil {
			t.Fatal(err)
		}
		if again := Encode(x); !bytes.Equal(again, b) {
			t.Fatalf("accepted %x, writes %x", b, again)
		}
		for p := range x.Table.Partitions() { // whoever asks gets an answer
			for _, id := range x.Takers(hashring.Partition(p)) {
				x.Role(hashring.Partition(p), id)
			}
		}
	})
}

// The largest region there can be, and the bytes that it takes.
func TestCodecSize(t *testing.T) {
	const members, partitions = 2048, 65536
	x := &Topology{
		Region: "eu", RegionID: 1, Epoch: 1 << 30, Rules: hashring.Rules{Partitions: partitions, Replicas: 3},
		Since: make([]Epoch, partitions), Tasks: []Task{{ID: 1}},
	}
	for i := range members {
		x.Members = append(x.Members, Member{
			ID: NodeID(fmt.Sprintf("node-%04d", i)), Rack: "rack-17", Weight: 100,
			PeerAddr: "node-0000.eu.example.com:7401", ClientAddr: "node-0000.eu.example.com:7400",
		})
	}
	name := func(i int) string { return string(x.Members[i%members].ID) }
	rows := make([][]string, partitions)
	for p := range rows {
		x.Since[p] = Epoch(p + 1)
		rows[p] = []string{name(7 * p), name(7*p + 1), name(7*p + 2)}
		x.Moves = append(x.Moves, Move{ID: MoveID(p + 1<<30), Task: 1, Partition: hashring.Partition(p), Slot: 1, From: NodeID(rows[p][1]), To: NodeID(name(7*p + 3))})
	}
	x.Table = hashring.MakeTable(rows)
	b := Encode(x)
	t.Logf("%d KiB, of them %d KiB moves", len(b)>>10, (len(b)-len(Encode(&Topology{
		Region: x.Region, RegionID: 1, Epoch: x.Epoch, Rules: x.Rules, Since: x.Since, Tasks: x.Tasks, Members: x.Members, Table: x.Table,
	})))>>10)
	if len(b) > MaxEncoded/2 {
		t.Errorf("%d bytes leave little room below %d", len(b), MaxEncoded)
	}
	if _, err := Decode(b); err != nil {
		t.Error(err)
	}
}
