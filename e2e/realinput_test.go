//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

type line struct {
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
}

func realRecords(t *testing.T) []line {
	t.Helper()
	f, err := os.Open("testdata/packages.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	scan := bufio.NewScanner(z)
	scan.Buffer(nil, 1<<20)
	var out []line
	for scan.Scan() {
		var l line
		if err := json.Unmarshal(scan.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		out = append(out, l)
	}
	if err := scan.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

func writeLines(t *testing.T, path string, lines []line) string {
	t.Helper()
	var b bytes.Buffer
	for _, l := range lines {
		key, err := json.Marshal(l.Key)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, `{"key":%s,"value":%s}`+"\n", key, l.Value)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// exported is a line of an export, as far as this test reads it.
type exported struct {
	Key      string `json:"key"`
	Versions []struct {
		Value   string `json:"value"`
		Deleted bool   `json:"deleted"`
	} `json:"versions"`
}

// The main job on real records: import 60,000 of them into region eu while
// region us writes to a tenth of the same keys; cut the link in the middle,
// heal it. Then both regions export the same bytes, nothing is lost, and every
// key that both regions wrote during the cut shows two siblings in both.
func TestRealRecordsAcrossACut(t *testing.T) {
	t.Parallel()
	records := realRecords(t)
	if len(records) != 60000 {
		t.Fatalf("%d records", len(records))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	d := startDemo(t, "--latency", "20ms")

	// us writes to every tenth key, another value.
	theirs := func(from, to int) []line {
		var out []line
		for i := from; i < to; i++ {
			if i%10 == 0 {
				out = append(out, line{records[i].Key, json.RawMessage(fmt.Sprintf(`{"written_in":"us","n":%d}`, i))})
			}
		}
		return out
	}
	dir := t.TempDir()
	third := len(records) / 3
	write := func(part int) {
		from, to := part*third, (part+1)*third
		eu := writeLines(t, filepath.Join(dir, fmt.Sprintf("eu%d.jsonl", part)), records[from:to])
		us := writeLines(t, filepath.Join(dir, fmt.Sprintf("us%d.jsonl", part)), theirs(from, to))
		var both sync.WaitGroup
		for region, file := range map[string]string{"eu": eu, "us": us} {
			both.Go(func() {
				r, err := atoll(ctx, nil, "import", file, "--endpoints", d.endpoints[region])
				if err != nil || r.code != 0 {
					t.Errorf("import into %s: exit code %d, %v\n%s", region, r.code, err, r.stderr)
				}
				t.Logf("import %s, part %d of 3: %v\n%s", region, part+1, r.took.Round(10*time.Millisecond), strings.TrimSpace(r.stderr))
			})
		}
		if part == 2 { // the link comes back while both regions are writing
			d.do(`\heal`)
		}
		both.Wait()
	}
	write(0)
	d.do(`\partition eu us`)
	write(1)
	write(2)
	if t.Failed() {
		t.FailNow()
	}
	t.Log(d.do(`\wait`))

	dumps := map[string]string{}
	for region, addr := range d.endpoints {
		r := must(t, ctx, "export", "--endpoints", addr)
		dumps[region] = r.stdout
		t.Logf("export %s: %v, %d bytes\n%s", region, r.took.Round(10*time.Millisecond), len(r.stdout), strings.TrimSpace(r.stderr))
	}
	if dumps["eu"] != dumps["us"] {
		t.Error("the regions' exports differ")
	}
	checkDump(t, dumps["eu"], records)

	// One key of the cut, as users see it in both regions.
	key := records[third].Key
	for region, addr := range d.endpoints {
		r := must(t, ctx, "siblings", key, "--endpoints", addr)
		if !strings.Contains(r.stdout, "written_in") || strings.Count(r.stdout, "\n") != 3 {
			t.Errorf("siblings of %q in %s:\n%s", key, region, r.stdout)
		}
	}
}

func checkDump(t *testing.T, dump string, records []line) {
	t.Helper()
	byKey := map[string]exported{}
	scan := bufio.NewScanner(strings.NewReader(dump))
	scan.Buffer(nil, 4<<20)
	for scan.Scan() {
		var e exported
		if err := json.Unmarshal(scan.Bytes(), &e); err != nil {
			t.Fatalf("export line %q: %v", scan.Text(), err)
		}
		byKey[e.Key] = e
	}
	if len(byKey) != len(records) {
		t.Errorf("the export has %d keys, want %d", len(byKey), len(records))
	}
	siblings := 0
	for i, rec := range records {
		e, ok := byKey[rec.Key]
		if !ok {
			t.Fatalf("key %q is lost", rec.Key)
		}
		want := []string{string(rec.Value)}
		if i%10 == 0 {
			want = append(want, fmt.Sprintf(`{"written_in":"us","n":%d}`, i))
			siblings++
		}
		got := map[string]bool{}
		for _, v := range e.Versions {
			got[v.Value] = true
		}
		if len(e.Versions) != len(want) {
			t.Fatalf("key %q has %d versions, want %d: %v", rec.Key, len(e.Versions), len(want), e)
		}
		for _, w := range want {
			if !got[w] {
				t.Fatalf("key %q lost the value %s: %v", rec.Key, w, e)
			}
		}
	}
	t.Logf("%d keys, all values there, %d keys with two siblings", len(byKey), siblings)
}
