package dump

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

func TestParse(t *testing.T) {
	long := strings.Repeat("k", MaxKey)
	for _, c := range []struct{ line, key, value string }{
		{`{"key":"a","value":1}`, "a", "1"},
		{`{"value": {"x" : [ 1,  2 ]} , "key" : "a"}`, "a", `{"x" : [ 1,  2 ]}`},
		{`{"key":"a","value":"\u00e4 \/ <"}`, "a", `"\u00e4 \/ <"`},
		{`{"key":"a","value":null}`, "a", "null"},
		{`{"key":"a","value":1.0e+02}`, "a", "1.0e+02"},
		{`{"key":"\u0000\ud83d\ude00\ufffd\\ud83d","value":1}`, "\x00\U0001f600\ufffd\\ud83d", "1"},
		{`{"key_b64":"/wD+","value":1}`, "\xff\x00\xfe", "1"},
		{` {"key":"` + long + `","value":1} ` + "\r", long, "1"},
	} {
		key, value, err := Parse([]byte(c.line))
		if err != nil || key != c.key || string(value) != c.value {
			t.Errorf("%s: key %q, value %s, %v", c.line, key, value, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ line, why string }{
		{``, "not a whole"},
		{`null`, "not a JSON object"},
		{`[]`, "not a JSON object"},
		{`key,value`, "not JSON"},
		{`{"key":"a","value":1`, "not a whole"},
		{`{"key":"a","value":}`, "not JSON"},
		{`{"key":"a","value":1} {}`, "more than one"},
		{`{"key":"a","value":1}x`, "more than one"},
		{`{"key":"a"}`, "no value"},
		{`{"value":1}`, "no key"},
		{`{"key":"a","key_b64":"YQ==","value":1}`, "both"},
		{`{"key":"a","key":"b","value":1}`, "twice"},
		{`{"key":"a","value":1,"value":2}`, "twice"},
		{`{"key":"a","value":1,"ttl":2}`, `unknown field "ttl"`},
		{`{"Key":"a","value":1}`, `unknown field "Key"`},
		{`{"bucket":"b","key":"a","versions":[]}`, `unknown field "bucket"`},
		{`{"key":7,"value":1}`, "not a string"},
		{`{"key":null,"value":1}`, "not a string"},
		{`{"key":"","value":1}`, "limit 1..1024 bytes, seen 0 bytes"},
		{`{"key":"` + strings.Repeat("k", MaxKey+1) + `","value":1}`, "limit 1..1024 bytes, seen 1025 bytes"},
		{`{"key":"\ud83d","value":1}`, "surrogate"},
		{`{"key":"\ud83dx","value":1}`, "surrogate"},
		{`{"key":"\ud83d\n","value":1}`, "surrogate"},
		{`{"key":"\ude00\ud83d","value":1}`, "surrogate"},
		{`{"key":"\ud83d\ud83d\ude00","value":1}`, "surrogate"},
		{"{\"key\":\"\xff\",\"value\":1}", "UTF-8"},
		{"{\"key\":\"a\",\"value\":\"\xff\"}", "UTF-8"},
		{`{"key_b64":"/wD","value":1}`, "base64"},
		{`{"key_b64":"/wD_","value":1}`, "base64"},
		{`{"key_b64":"YR==","value":1}`, "base64"}, // not what an encoder makes
	} {
		key, value, err := Parse([]byte(c.line))
		if err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: key %q, value %s, error %v, want %q", c.line, key, value, err, c.why)
		}
	}
}

// FuzzParse: what is accepted says the same to encoding/json, and each key has
// a line that names it.
//
//fuzz:slow 2
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"key":"a","value":{"x":[1,2,"\ud83d\ude00"]}}`))
	f.Add([]byte(`{"key_b64":"/wA=","value":null}`))
	f.Add([]byte(`{"value":1,"key":"\\\ud83d\\ude00"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		key, value, err := Parse(line)
		if err != nil {
			return
		}
		if !json.Valid(value) {
			t.Fatalf("the value is not JSON: %q", value)
		}
		var twin struct {
			Key    string          `json:"key"`
			KeyB64 []byte          `json:"key_b64"`
			Value  json.RawMessage `json:"value"`
		}
		if err := json.Unmarshal(line, &twin); err != nil {
			t.Fatalf("encoding/json refuses what was accepted: %v", err)
		}
		if twin.Key+string(twin.KeyB64) != key {
			t.Fatalf("key %q, twin %q %q", key, twin.Key, twin.KeyB64)
		}
		if !bytes.Equal(bytes.TrimSpace(twin.Value), bytes.TrimSpace(value)) && string(value) != "null" {
			t.Fatalf("value %q, twin %q", value, twin.Value)
		}
	})
}

// The example of docs/export-format.md.
func TestAppend(t *testing.T) {
	record := &adminv1.ExportRecord{
		Bucket: "default", Key: []byte("cart/42"),
		Versions: []*adminv1.ExportVersion{
			{
				Actor: uint32(crdt.MakeActor(3, 1)), N: 17, Stamp: 1764000000000<<16 | 2, Value: []byte(`{"a":"b"}`),
				Past: []*adminv1.PastEntry{{Actor: uint32(crdt.MakeActor(1, 1)), N: 4}, {Actor: uint32(crdt.MakeActor(2, 2)), N: 9}},
			},
			{Actor: uint32(crdt.MakeActor(2, 2)), N: 10, Stamp: 1764000000001 << 16, Deleted: true},
			{Actor: uint32(crdt.MakeActor(4, 2)), N: 1, Stamp: 1764000000002 << 16, ExpiresAt: 1764003600000},
		},
	}
	want := `{"bucket":"default","key":"cart/42","versions":[` +
		`{"version":"3@1.17","stamp":"1764000000000.2","value":"{\"a\":\"b\"}","past":["1@1.4","2@2.9"]},` +
		`{"version":"2@2.10","stamp":"1764000000001.0","deleted":true},` +
		`{"version":"4@2.1","stamp":"1764000000002.0","expires_at":1764003600000,"value":""}]}` + "\n"
	if diff := cmp.Diff(want, string(Append(nil, record))); diff != "" {
		t.Error(diff)
	}
	doc, err := os.ReadFile("../../../docs/export-format.md")
	if err != nil || !strings.Contains(string(doc), "```\n"+want+"```\n") {
		t.Errorf("docs/export-format.md has another example: %v", err)
	}
	odd := &adminv1.ExportRecord{Bucket: "b", Key: []byte{0xff}, Versions: []*adminv1.ExportVersion{
		{Actor: uint32(crdt.MakeActor(1, 1)), N: 1, Value: []byte("\x00\b\t\n\x0b\f\r\x1f \"\\/<>&\x7f\u2028é")},
		{Actor: uint32(crdt.MakeActor(1, 1)), N: 2, Value: []byte("a\xff")},
	}}
	want = `{"bucket":"b","key_b64":"/w==","versions":[` +
		`{"version":"1@1.1","stamp":"0.0","value":"\u0000\b\t\n\u000b\f\r\u001f \"\\/<>&` + "\x7f\u2028é" + `"},` +
		`{"version":"1@1.2","stamp":"0.0","value_b64":"Yf8="}]}` + "\n"
	if diff := cmp.Diff(want, string(Append(nil, odd))); diff != "" {
		t.Error(diff)
	}
}

// D1: a line has all of a record; a reader that knows nothing but the format
// and encoding/json gets it back. The dots and stamps are read by the String
// methods' inverse, so that the writer is checked against those too.
func TestLineHoldsTheRecord(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		record := drawRecord(rt)
		line := Append(nil, record)
		if !utf8.Valid(line) || bytes.Count(line, []byte{'\n'}) != 1 {
			rt.Fatalf("not one line of text: %q", line)
		}
		if diff := cmp.Diff(record, readLine(rt, line), protocmp.Transform()); diff != "" {
			rt.Fatal(diff)
		}
		if again := Append(nil, proto.CloneOf(record)); !bytes.Equal(again, line) {
			rt.Fatalf("the same record gave %q and %q", line, again)
		}
	})
}

func drawRecord(rt *rapid.T) *adminv1.ExportRecord {
	some := rapid.OneOf(rapid.SliceOf(rapid.Byte()), rapid.Map(rapid.String(), func(s string) []byte { return []byte(s) }))
	actor := rapid.Custom(func(rt *rapid.T) uint32 {
		return uint32(crdt.MakeActor(rapid.Uint32Range(1, 1<<26-1).Draw(rt, "seq"), rapid.Uint8Range(1, 63).Draw(rt, "region")))
	})
	r := &adminv1.ExportRecord{Bucket: rapid.StringMatching(`[a-z]{1,8}`).Draw(rt, "bucket"), Key: some.Draw(rt, "key")}
	for range rapid.IntRange(1, 3).Draw(rt, "versions") {
		v := &adminv1.ExportVersion{
			Actor: actor.Draw(rt, "actor"), N: rapid.Uint64Range(1, crdt.MaxN).Draw(rt, "n"),
			Stamp: rapid.Uint64().Draw(rt, "stamp"), Deleted: rapid.Bool().Draw(rt, "deleted"),
			ExpiresAt: rapid.SampledFrom([]int64{0, 1, 1 << 52}).Draw(rt, "expires"),
		}
		if !v.Deleted {
			v.Value = some.Draw(rt, "value")
		}
		for range rapid.IntRange(0, 2).Draw(rt, "past") {
			p := &adminv1.PastEntry{Actor: actor.Draw(rt, "past actor"), N: rapid.Uint64Range(10, crdt.MaxN).Draw(rt, "past n")}
			for at := uint64(1); at < 8; at += 2 {
				if first := at; rapid.IntRange(0, 3).Draw(rt, "hole") == 0 {
					at += rapid.Uint64Range(0, 9-at).Draw(rt, "more")
					p.Holes = append(p.Holes, &adminv1.PastHole{First: first, Last: at})
				}
			}
			v.Past = append(v.Past, p)
		}
		r.Versions = append(r.Versions, v)
	}
	return r
}

func readLine(rt *rapid.T, line []byte) *adminv1.ExportRecord {
	var in struct {
		Bucket   string  `json:"bucket"`
		Key      *string `json:"key"`
		KeyB64   []byte  `json:"key_b64"`
		Versions []struct {
			Version, Stamp string
			Deleted        bool
			ExpiresAt      int64 `json:"expires_at"`
			Value          *string
			ValueB64       []byte `json:"value_b64"`
			Past           []string
		} `json:"versions"`
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		rt.Fatalf("%q: %v", line, err)
	}
	bytesOf := func(s *string, b []byte) []byte {
		if s != nil {
			return []byte(*s)
		}
		return b
	}
	out := &adminv1.ExportRecord{Bucket: in.Bucket, Key: bytesOf(in.Key, in.KeyB64)}
	for _, v := range in.Versions {
		dot := parseDot(rt, v.Version)
		var ms, count uint64
		if _, err := fmt.Sscanf(v.Stamp, "%d.%d", &ms, &count); err != nil {
			rt.Fatalf("stamp %q: %v", v.Stamp, err)
		}
		if s := hlc.Stamp(ms<<16 | count).String(); s != v.Stamp {
			rt.Fatalf("stamp %q is %q elsewhere", v.Stamp, s)
		}
		w := &adminv1.ExportVersion{
			Actor: uint32(dot.Actor), N: dot.N, Stamp: ms<<16 | count, Deleted: v.Deleted,
			ExpiresAt: v.ExpiresAt, Value: bytesOf(v.Value, v.ValueB64),
		}
		for _, p := range v.Past {
			parts := strings.Split(p, "-")
			dot := parseDot(rt, parts[0])
			e := &adminv1.PastEntry{Actor: uint32(dot.Actor), N: dot.N}
			for _, h := range parts[1:] {
				numbers := strings.Split(h, "..")
				hole := &adminv1.PastHole{}
				for _, text := range numbers {
					n, err := strconv.ParseUint(text, 10, 64)
					if err != nil || len(numbers) > 2 {
						rt.Fatalf("past %q: %v", p, err)
					}
					if hole.Last = n; hole.First == 0 {
						hole.First = n
					}
				}
				e.Holes = append(e.Holes, hole)
			}
			w.Past = append(w.Past, e)
		}
		out.Versions = append(out.Versions, w)
	}
	return out
}

func parseDot(rt *rapid.T, s string) crdt.Dot {
	var seq uint32
	var region uint8
	var d crdt.Dot
	if _, err := fmt.Sscanf(s, "%d@%d.%d", &seq, &region, &d.N); err != nil {
		rt.Fatalf("version %q: %v", s, err)
	}
	d.Actor = crdt.MakeActor(seq, region)
	if d.String() != s {
		rt.Fatalf("version %q is %q elsewhere", s, d)
	}
	return d
}

func BenchmarkParse(b *testing.B) {
	line := []byte(`{"key": "3dmol", "value": {"version": "2.5.5", "downloads_a_month": 60420, "summary": "JavaScript/TypeScript molecular visualization library"}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Parse(line); err != nil {
			b.Fatal(err)
		}
	}
}
