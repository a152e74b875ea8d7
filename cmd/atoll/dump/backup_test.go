package dump

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

var aHead = Head{Region: "eu", Began: time.UnixMilli(1764000000123)}

func aRecord(key string) *adminv1.ExportRecord {
	return &adminv1.ExportRecord{Bucket: "default", Key: []byte(key), Versions: []*adminv1.ExportVersion{
		{Actor: 1<<6 | 1, N: 7, Stamp: 1764000000000 << 16, Value: []byte("v of " + key), ExpiresAt: 1764000000001},
	}}
}

// inOrder sorts records as an export does, and drops those that have a key twice.
func inOrder(records []*adminv1.ExportRecord) []*adminv1.ExportRecord {
	slices.SortFunc(records, func(a, b *adminv1.ExportRecord) int {
		pa, pb := placeOf(a), placeOf(b)
		switch {
		case pa.after(pb):
			return 1
		case pb.after(pa):
			return -1
		}
		return 0
	})
	return slices.CompactFunc(records, func(a, b *adminv1.ExportRecord) bool {
		return bytes.Equal(placeOf(a).full, placeOf(b).full)
	})
}

func aBackup(t testing.TB, h Head, defs []Definition, records []*adminv1.ExportRecord) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, h)
	for _, d := range defs {
		err = errors.Join(err, w.Define(d))
	}
	for _, r := range records {
		err = errors.Join(err, w.Record(r))
	}
	if err = errors.Join(err, w.End()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func readAll(b []byte, unsealed bool) (items []Item, err error) {
	r := NewReader(bytes.NewReader(b), unsealed)
	for {
		it, err := r.Next()
		if errors.Is(err, io.EOF) {
			return items, nil
		}
		if err != nil {
			return items, err
		}
		items = append(items, it)
	}
}

// D1, D3: what was written comes back, and without a byte of it, or with another one
// in its place, it is damage.
func TestBackup(t *testing.T) {
	defs := []Definition{
		{Name: "default", Kind: "mv"},
		{
			Name: "x", Kind: "lww", Reads: Policy{Default: "local-one"}, TTLMs: 5, Regions: []string{"eu", "us"}, Home: "eu",
			RequireContext: true, MaxSiblings: 8,
		},
	}
	records := inOrder([]*adminv1.ExportRecord{aRecord("a"), aRecord("b"), aRecord("\xff")})
	good := aBackup(t, aHead, defs, records)
	items, err := readAll(good, false)
	if err != nil || len(items) != 6 {
		t.Fatalf("%d items, %v", len(items), err)
	}
	if h := items[0].Head; h == nil || h.Region != "eu" || !h.Began.Equal(aHead.Began) {
		t.Errorf("head %+v", h)
	}
	if diff := cmp.Diff([]Definition{*items[1].Definition, *items[2].Definition}, defs); diff != "" {
		t.Error(diff)
	}
	for i, r := range records {
		if diff := cmp.Diff(r, items[3+i].Record, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
	}
	var damage *Damage
	for cut := range len(good) {
		if _, err := readAll(good[:cut], false); !errors.As(err, &damage) {
			t.Fatalf("cut off after %d of %d bytes: %v", cut, len(good), err)
		}
		for _, flip := range []byte{1, 0x20, 0x80} {
			bad := slices.Clone(good)
			bad[cut] ^= flip
			if _, err := readAll(bad, false); !errors.As(err, &damage) {
				t.Fatalf("byte %d of %d is another one: %v", cut, len(good), err)
			}
		}
	}
	lines := bytes.SplitAfter(good, []byte("\n"))
	for i := range len(lines) - 1 {
		for what, bad := range map[string][]byte{
			"left out": slices.Concat(slices.Concat(lines[:i]...), slices.Concat(lines[i+1:]...)),
			"doubled":  slices.Concat(slices.Concat(lines[:i+1]...), slices.Concat(lines[i:]...)),
		} {
			if _, err := readAll(bad, false); !errors.As(err, &damage) {
				t.Errorf("line %d %s: %v", i+1, what, err)
			}
		}
	}
}

func TestBackupSaysWhatIsWrong(t *testing.T) {
	good := string(aBackup(t, aHead, nil, inOrder([]*adminv1.ExportRecord{aRecord("a"), aRecord("b")})))
	lines := strings.SplitAfter(good, "\n")
	for _, c := range []struct{ text, why string }{
		{"", "line 1: the file is empty"},
		{lines[0] + lines[1], "line 2: the file ends here, after 1 records, and has no end line: the rest of it is missing"},
		{lines[0] + lines[1][:20], "line 2: the file ends within this line"},
		{lines[1], "line 1: not the head of a backup"},
		{`{"key":"a","value":1}` + "\n", "line 1: not the head of a backup"},
		{lines[0] + lines[2] + lines[1] + lines[3], "line 3: out of order"},
		{lines[0] + lines[1] + lines[1] + lines[3], "line 3: out of order"},
		{lines[0] + lines[1] + lines[3], "line 3: 1 records came before the end, not 2"},
		{strings.Replace(good, "v of a", "v of x", 1), "line 4: the SHA-256 of what came before is another one"},
		{good + "\n", "line 5: something follows the end"},
		{strings.Replace(good, `"atoll_backup":1`, `"atoll_backup":2`, 1), "line 1: a backup of another version (limit 1, seen 2)"},
		{strings.Replace(good, `"region":"eu"`, `"region" :"eu"`, 1), "line 1: not as an export writes it"},
	} {
		if _, err := readAll([]byte(c.text), false); err == nil || !strings.HasPrefix(err.Error(), c.why) {
			t.Errorf("%q: %v, want %q", c.text, err, c.why)
		}
	}
	items, err := readAll([]byte(lines[1]+lines[2]), true)
	if err != nil || len(items) != 2 {
		t.Errorf("an export: %d items, %v", len(items), err)
	}
	if _, err := readAll([]byte(good), true); err == nil {
		t.Error("a backup was read as an export")
	}
}

func TestParseRecordRefuses(t *testing.T) {
	line := strings.TrimSuffix(string(Append(nil, aRecord("a"))), "\n")
	for _, c := range []struct{ old, now, why string }{
		{`{"bucket"`, `{"Bucket"`, "not as an export writes it"},
		{`"bucket":"default",`, ``, "no name of a bucket"},
		{`"bucket":"default"`, `"bucket":"` + strings.Repeat("b", 64) + `"`, "limit 1..63 bytes, seen 64 bytes"},
		{`"bucket":"default"`, `"bucket":"a\u0000b"`, "no name of a bucket"},
		{`"key":"a"`, `"key":""`, "limit 1..1024 bytes, seen 0 bytes"},
		{`"key":"a"`, `"key":"\u0061"`, "not as an export writes it"},
		{`"key":"a"`, `"key_b64":"YQ=="`, "not as an export writes it"},
		{`"key":"a"`, `"key":"a","key":"a"`, "not as an export writes it"},
		{`"key":"a"`, `"key":1`, "field key is of a wrong type"},
		{`"version":"1@1.7"`, `"version":"1@1.0"`, "field version is no version"},
		{`"version":"1@1.7"`, `"version":"1@64.7"`, "field version is no version"},
		{`"version":"1@1.7"`, `"version":"01@1.7"`, "not as an export writes it"},
		{`"stamp":"1764000000000.0"`, `"stamp":"1764000000000.65536"`, "field stamp is no stamp"},
		{`"stamp":"1764000000000.0"`, `"stamp":"1764000000000"`, "field stamp is no stamp"},
		{`"expires_at":1764000000001`, `"expires_at":-1`, "field expires_at is negative"},
		{`"expires_at":1764000000001`, `"expires_at":1e3`, "field versions.expires_at is of a wrong type"},
		{`"value":"v of a"`, `"value":"v of a","past":["1"]`, "field past has what is no version"},
		{`"value":"v of a"`, `"value":"v of a","past":["1@1.4-x"]`, "field past has what is no number"},
		{`"value":"v of a"`, `"value":"v of a","past":["1@1.4-2..x"]`, "field past has what is no number"},
		{`"value":"v of a"`, `"value":"v of a","past":["1@1.4-2..2"]`, "not as an export writes it"},
		{`"value":"v of a"`, `"value":"v of a","past":[]`, "not as an export writes it"},
		{`}]}`, `}]}{}`, "not JSON"},
		{`}]}`, `}]} `, "not as an export writes it"},
		{`}]}`, `}],"more":1}`, "not as an export writes it"},
		{`"versions":[`, `"versions":[],"v":[`, "no versions"},
		{`}]}`, `},{"version":"1@1.7","stamp":"1.0","value":""}]}`, "version 2 is out of order"},
	} {
		bad := strings.Replace(line, c.old, c.now, 1)
		if bad == line {
			t.Fatalf("%s: nothing was changed", c.old)
		}
		if _, err := ParseRecord([]byte(bad)); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v, want %q", bad, err, c.why)
		}
	}
}

func TestParseRecordIsInverse(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := drawRecord(rt)
		if len(r.Key) == 0 || len(r.Key) > MaxKey {
			rt.Skip()
		}
		slices.SortFunc(r.Versions, compareDots)
		r.Versions = slices.CompactFunc(r.Versions, func(a, b *adminv1.ExportVersion) bool { return compareDots(a, b) == 0 })
		line := Append(nil, r)
		got, err := ParseRecord(line[:len(line)-1])
		if err != nil {
			rt.Fatalf("%q: %v", line, err)
		}
		if diff := cmp.Diff(r, got, protocmp.Transform()); diff != "" {
			rt.Fatal(diff)
		}
	})
}

// FuzzParseRecord: what is accepted is what Append writes for what was read.
//
//fuzz:slow 2
func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(`{"bucket":"default","key":"cart/42","versions":[{"version":"3@1.17","stamp":"1764000000000.2","value":"{\"a\":\"b\"}","past":["1@1.4","2@2.9-1..4-7"]},{"version":"2@2.10","stamp":"1764000000001.0","deleted":true}]}`))
	f.Add([]byte(`{"bucket":"b","key_b64":"/w==","versions":[{"version":"1@1.1","stamp":"0.0","expires_at":9,"value_b64":"Yf8="}]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := ParseRecord(line)
		if err != nil {
			return
		}
		if again := Append(nil, r); string(again) != string(line)+"\n" {
			t.Fatalf("%q is %q when it is written", line, again)
		}
	})
}

// FuzzBackup: a file is whole only if it is, byte for byte, what the Writer makes of
// what was read from it.
//
//fuzz:slow 2
func FuzzBackup(f *testing.F) {
	whole := aBackup(f, aHead, []Definition{{Name: "x", Kind: "lww", TTLMs: 7}}, inOrder([]*adminv1.ExportRecord{aRecord("a"), aRecord("b")}))
	f.Add(whole)
	f.Add(aBackup(f, Head{Region: "us", Bucket: "x", Began: time.UnixMilli(0)}, nil, nil))
	f.Add(whole[:len(whole)-20])
	f.Fuzz(func(t *testing.T, b []byte) {
		items, err := readAll(b, false)
		if err != nil {
			return
		}
		var h Head
		var defs []Definition
		var records []*adminv1.ExportRecord
		for i, it := range items {
			switch {
			case it.Head != nil && i == 0:
				h = *it.Head
			case it.Definition != nil:
				defs = append(defs, *it.Definition)
			case it.Record != nil:
				records = append(records, it.Record)
			default:
				t.Fatal(fmt.Sprint("item ", i, " is nothing"))
			}
		}
		if again := aBackup(t, h, defs, records); !bytes.Equal(again, b) {
			t.Fatalf("read from %q, written %q", b, again)
		}
	})
}
