package capacity

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func drawInput(t *rapid.T) Input {
	in := Default()
	in.Nodes = rapid.IntRange(1, 60).Draw(t, "nodes")
	in.Racks = rapid.IntRange(0, in.Nodes).Draw(t, "racks")
	in.Regions = rapid.IntRange(1, 5).Draw(t, "regions")
	in.Replicas = rapid.IntRange(1, 5).Draw(t, "replicas")
	in.Partitions = 1 << rapid.IntRange(0, 12).Draw(t, "log2 partitions")
	in.Keys = float64(rapid.Int64Range(0, 1e12).Draw(t, "keys"))
	in.KeySize = rapid.IntRange(3, 1000).Draw(t, "key")
	in.ValueSize = rapid.IntRange(0, maxValue).Draw(t, "value")
	in.WriteRate = float64(rapid.IntRange(0, 1e6).Draw(t, "writes"))
	in.ReadRate = float64(rapid.IntRange(0, 1e6).Draw(t, "reads"))
	in.Disk = float64(rapid.Int64Range(0, 1e14).Draw(t, "disk"))
	return in
}

// numbers calls f with each number of v by its path.
func numbers(path string, v reflect.Value, f func(string, float64)) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			numbers(path+"."+v.Type().Field(i).Name, v.Field(i), f)
		}
	case reflect.Float64:
		f(path, v.Float())
	case reflect.Int:
		f(path, float64(v.Int()))
	default:
	}
}

// Every figure of every plan is a number, not below zero, and more load never
// makes one smaller that it should raise.
func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		r, err := Plan(in)
		if err != nil {
			t.Fatal(err)
		}
		numbers("", reflect.ValueOf(r), func(path string, n float64) {
			if math.IsNaN(n) || math.IsInf(n, 0) || n < 0 {
				t.Fatalf("%s is %g", path, n)
			}
		})
		names := func(r Report) (out []string) {
			for _, row := range r.Rows() {
				out = append(out, row.Topic+row.Name)
				if row.Value == "" || strings.Contains(row.Value, "NaN") {
					t.Fatalf("%+v", row)
				}
			}
			return out
		}
		if plain, _ := Plan(Default()); !slices.Equal(names(r), names(plain)) {
			t.Fatal("rows differ with the input")
		}
		if r.Ring.OwnedMin > r.Ring.OwnedMax || r.Ring.PrimaryMin > r.Ring.PrimaryMax || r.Ring.OwnedMax > in.Partitions {
			t.Fatalf("%+v", r.Ring)
		}
		more := in
		more.WriteRate = 2*in.WriteRate + 1
		m, err := Plan(more)
		if err != nil {
			t.Fatal(err)
		}
		if m.Disk.Total < r.Disk.Total || m.CPU.Requests <= r.CPU.Requests || m.Repair.LoadedBytes < r.Repair.LoadedBytes ||
			m.Geo.StreamBytes < r.Geo.StreamBytes || m.Geo.LinkBytes < r.Geo.LinkBytes {
			t.Fatalf("twice the writes take less:\n%+v\n%+v", r, m)
		}
		// All copies together are on the disks.
		whole := r.Ring.OwnedMean * float64(r.Input.Nodes) / float64(in.Partitions)
		if math.Abs(whole-float64(r.Input.copies())) > 1e-9 {
			t.Fatalf("%g copies", whole)
		}
	})
}

func TestRefused(t *testing.T) {
	for name, change := range map[string]func(*Input){
		"nodes": func(in *Input) { in.Nodes = 0 }, "many nodes": func(in *Input) { in.Nodes = 1e6 },
		"regions": func(in *Input) { in.Regions = 64 }, "replicas": func(in *Input) { in.Replicas = 0 },
		"racks": func(in *Input) { in.Racks = 4 }, "partitions": func(in *Input) { in.Partitions = 100 },
		"keys": func(in *Input) { in.Keys = math.NaN() }, "key size": func(in *Input) { in.KeySize = 0 },
		"value size": func(in *Input) { in.ValueSize = maxValue + 1 }, "writes": func(in *Input) { in.WriteRate = math.Inf(1) },
		"throttle": func(in *Input) { in.Throttle = 0 }, "incarnations": func(in *Input) { in.Incarnations = 0 },
	} {
		in := Default()
		change(&in)
		if r, err := Plan(in); err == nil {
			t.Errorf("%s: planned %+v", name, r.Input)
		}
	}
	in := Default()
	in.Nodes, in.Regions = 0, 0
	if _, err := Plan(in); err == nil || !strings.Contains(err.Error(), "nodes") || !strings.Contains(err.Error(), "regions") {
		t.Errorf("not all that is wrong: %v", err)
	}
}

func TestWarnings(t *testing.T) {
	loaded := func(change func(*Input)) Input {
		in := Default()
		in.Nodes, in.Keys, in.Disk = 6, 1e6, 4<<40
		change(&in)
		return in
	}
	for _, c := range []struct {
		name string
		in   Input
		want []string
	}{
		{"fine", loaded(func(*Input) {}), nil},
		{"thirty", loaded(func(in *Input) { in.Nodes, in.Partitions = 30, 256 }), nil},
		{"thirty-one", loaded(func(in *Input) { in.Nodes, in.Racks, in.Partitions = 31, 31, 256 }), []string{FewPartitions}},
		{"big", loaded(func(in *Input) { in.Keys, in.Partitions, in.Disk = 1e10, 256, 0 }), []string{BigPartitions}},
		{"racks", loaded(func(in *Input) { in.Racks = 2 }), []string{FewRacks}},
		{"uneven", loaded(func(in *Input) { in.Nodes = 7 }), []string{UnevenRacks}},
		{"three", loaded(func(in *Input) { in.Nodes = 3 }), []string{NoSpareNode}},
		{"disk", loaded(func(in *Input) { in.Keys = 6e9 }), []string{DiskFull}},
		{"disk after loss", loaded(func(in *Input) { in.Keys = 3.6e9 }), []string{DiskAfterLoss}},
		{"log", loaded(func(in *Input) { in.Regions, in.WriteRate = 2, 1000 }), []string{ShortLog}},
		{"pings", loaded(func(in *Input) { in.Nodes, in.Racks = 1500, 5 }), []string{ManyPings}},
		{"slow", loaded(func(in *Input) { in.Throttle = 1 << 10 }), []string{SlowRebuild}},
		{"heartbeats", loaded(func(in *Input) { in.Regions, in.WriteRate, in.Partitions = 2, 10, 4096 }), []string{ManyHeartbeats}},
	} {
		r, err := Plan(c.in)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		var got []string
		for _, w := range r.Warnings {
			got = append(got, w.Code)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v\n%+v", c.name, got, c.want, r.Warnings)
		}
	}
}

func TestText(t *testing.T) {
	for got, want := range map[string]string{
		Bytes(0): "0 B", Bytes(1023): "1023 B", Bytes(1024): "1.0 KiB", Bytes(1024*1024 - 1): "1.0 MiB", Bytes(50e12): "45.5 TiB",
		Duration(0.02): "20 ms", Duration(90): "90 s", Duration(3600): "60 min", Duration(90_000): "25.0 h", Duration(10 * day): "10.0 days",
		Count(0): "0", Count(2.5): "2.5", Count(9999): "9999", Count(12_345): "12.3 k", Count(5e10): "50.0 G",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	r, err := Plan(Default())
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(r)
	if err != nil || !strings.Contains(string(b), `"warnings":[{"code":"no-spare-node","text":`) {
		t.Errorf("%s, %v", b, err)
	}
}

// What the package calculates with is what the document of the measurement
// says, give or take what its runs differ.
func TestMeasured(t *testing.T) {
	text, err := os.ReadFile("../../docs/bench/2026-11-22-cost.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	about := func(line string, got, want float64) {
		found++
		if math.Abs(got-want) > 0.25*want {
			t.Errorf("%s: the package calculates with %.0f", line, got)
		}
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		var op string
		var size, count, near, far, nodes, us, kib float64
		if n, _ := fmt.Sscanf(line, "%s %f B: %f operations, %f us each in their region, %f us in the other", &op, &size, &count, &near, &far); n == 5 {
			if op == "get" {
				about(line, getMicros+getMicrosByte*size, near)
				continue
			}
			about(line, putMicros+putMicrosByte*size, near)
			about(line, applyMicros+applyMicrosByte*size, far)
		}
		if n, _ := fmt.Sscanf(line, "idle, %f nodes: %f us a second and node, %f KiB", &nodes, &us, &kib); n == 3 {
			in := Default()
			in.Nodes = int(nodes)
			r, err := Plan(in)
			if err != nil {
				t.Fatal(err)
			}
			about(line, 1e6*r.CPU.Background, us)
			about(line, (idleBytes+r.Memory.Links)/1024, kib)
		}
	}
	if found < 15 {
		t.Errorf("only %d figures found", found)
	}
}

// docs/capacity.md shows what the package says.
func TestDocument(t *testing.T) {
	const file = "../../docs/capacity.md"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "<!-- table -->\n")
	got, _, end := strings.Cut(rest, "<!-- end of table -->")
	if !ok || !end {
		t.Fatalf("%s has no place for the table", file)
	}
	var reports []Report
	for _, nodes := range []int{10, 100, 1000} {
		in := Default()
		in.Nodes, in.Racks, in.Regions = nodes, 5, 2
		in.Keys, in.ValueSize = 50e12/1000, 1000
		in.WriteRate, in.ReadRate = 5_000, 20_000
		in.Disk, in.LogBytes = 32e12, 640<<30
		r, err := Plan(in)
		if err != nil {
			t.Fatal(err)
		}
		reports = append(reports, r)
	}
	if want := Markdown(reports); strings.TrimSpace(got) != strings.TrimSpace(want) {
		t.Errorf("%s is not what the package says; it should have:\n%s", file, want)
	}
}
