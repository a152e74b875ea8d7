package geo

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
)

func drawEntry() *rapid.Generator[Entry] {
	return rapid.Custom(func(t *rapid.T) Entry {
		e := Entry{
			Partition: hashring.Partition(rapid.Uint16().Draw(t, "partition")),
			Key:       rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "key"),
			Record:    rapid.SliceOfN(rapid.SampledFrom([]byte("abcd")), 1, 400).Draw(t, "record"),
			Dots: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) crdt.Dot {
				return crdt.Dot{
					Actor: crdt.Actor(rapid.Uint32Min(1).Draw(t, "actor")),
					N:     rapid.Uint64Min(1).Draw(t, "n"),
				}
			}), 0, 5).Draw(t, "dots"),
			IDs: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) crdt.EventID {
				return crdt.EventID{
					Dot: crdt.Dot{Actor: crdt.Actor(rapid.Uint32Min(1).Draw(t, "actor")), N: rapid.Uint64Min(1).Draw(t, "n")},
					ID:  crdt.RequestID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")),
				}
			}), 0, 3).Draw(t, "ids"),
		}
		if len(e.Dots) > 0 && rapid.IntRange(0, 3).Draw(t, "whole") == 0 {
			if e.Record, e.Size = nil, rapid.IntRange(0, 1<<20).Draw(t, "size"); e.Size == 0 {
				e.IDs = nil
			}
		}
		return e
	})
}

func TestBatchRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOfN(drawEntry(), 1, 30).Draw(t, "entries")
		data, codec, err := EncodeBatch(entries)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeBatch(data, codec)
		if err != nil {
			t.Fatal(err)
		}
		for i := range entries { // no dots decode as nil
			if len(entries[i].Dots) == 0 {
				entries[i].Dots = nil
			}
			if len(entries[i].IDs) == 0 {
				entries[i].IDs = nil
			}
			if len(got[i].Record) == 0 {
				got[i].Record = nil
			}
		}
		if diff := cmp.Diff(entries, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// Any single changed bit is noticed.
func TestBatchBitFlips(t *testing.T) {
	for _, record := range [][]byte{bytes.Repeat([]byte("atoll "), 50), random(300)} {
		data, codec, err := EncodeBatch([]Entry{{Key: []byte("k"), Record: record, Dots: []crdt.Dot{{Actor: 65, N: 1}}}})
		if err != nil {
			t.Fatal(err)
		}
		for bit := range len(data) * 8 {
			bad := bytes.Clone(data)
			bad[bit/8] ^= 1 << (bit % 8)
			if _, err := DecodeBatch(bad, codec); !errors.Is(err, ErrPoison) {
				t.Fatalf("bit %d flipped: got error %v", bit, err)
			}
		}
	}
}

func TestBatchCodec(t *testing.T) {
	soft := []Entry{{Key: []byte("k"), Record: bytes.Repeat([]byte("atoll "), 3000)}}
	data, codec, err := EncodeBatch(soft)
	if err != nil || codec != CodecS2 || len(data) > 2000 {
		t.Fatalf("18 KB of one word: %d bytes as %q, %v", len(data), codec, err)
	}
	hard := []Entry{{Key: []byte("k"), Record: random(18000)}}
	data, codec, err = EncodeBatch(hard)
	if err != nil || codec != CodecNone || len(data) > 18050 {
		t.Fatalf("18 KB of noise: %d bytes as %q, %v", len(data), codec, err)
	}
	if _, err := DecodeBatch(data, "zstd"); !errors.Is(err, ErrPoison) {
		t.Fatalf("unknown codec: %v", err)
	}
	if _, err := DecodeBatch(data, CodecS2); !errors.Is(err, ErrPoison) {
		t.Fatalf("wrong codec: %v", err)
	}
}

func TestBatchTooLarge(t *testing.T) {
	_, _, err := EncodeBatch([]Entry{{Key: []byte("k"), Record: make([]byte, MaxBody)}})
	if !errors.Is(err, ErrTooLarge) {
		t.Fatalf("got %v", err)
	}
	// A block that claims to grow beyond the bound is refused unread.
	bomb := binary.AppendUvarint([]byte{batchFormat}, MaxBody+1)
	bomb = append(bomb, 0, 0, 0)
	if _, err := DecodeBatch(seal(bomb), CodecS2); !errors.Is(err, ErrPoison) {
		t.Fatalf("got %v", err)
	}
}

func TestBatchStrict(t *testing.T) {
	good := []byte{1, 7, 1, 'k', 1, 'r', 2, 65, 9}
	if _, err := decodeBody(good); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string][]byte{
		"empty":           {},
		"no entries":      {0},
		"cut":             good[:len(good)-1],
		"trailing":        append(bytes.Clone(good), 0),
		"long varint":     {1, 0x87, 0, 1, 'k', 1, 'r', 2, 65, 9},
		"empty key":       {1, 7, 0, 1, 'r', 2, 65, 9, 9},
		"empty record":    {1, 7, 1, 'k', 0, 0, 0},
		"no record, size": {1, 7, 1, 'k', 0, 2, 65, 9},
		"claim, no dots":  {1, 7, 1, 'k', 0, 0, 9},
		"no actor":        {1, 7, 1, 'k', 1, 'r', 2, 0, 9},
		"counter 0":       {1, 7, 1, 'k', 1, 'r', 2, 65, 0},
		"partition 65536": {1, 0x80, 0x80, 4, 1, 'k', 1, 'r', 2, 65, 9},
		"many entries":    {0xff, 0x7f, 7, 1, 'k', 1, 'r', 2, 65, 9},
		"no ids":          {1, 7, 1, 'k', 1, 'r', 3, 65, 9, 0},
		"id cut":          append([]byte{1, 7, 1, 'k', 1, 'r', 3, 65, 9, 1, 65, 9}, make([]byte, 15)...),
		"id of no dot":    append([]byte{1, 7, 1, 'k', 1, 'r', 3, 65, 9, 1, 0, 9}, make([]byte, 16)...),
		"many dots":       {1, 7, 1, 'k', 1, 'r', 0xff, 0x7f, 65, 9},
	} {
		if _, err := decodeBody(body); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// The decoder takes exactly what the encoder writes.
func FuzzDecodeBatch(f *testing.F) {
	f.Add([]byte{1, 7, 1, 'k', 1, 'r', 2, 65, 9}, false)
	f.Add([]byte{2, 7, 1, 'k', 1, 'r', 2, 65, 9, 7, 1, 'k', 1, 'r', 0}, false)
	f.Fuzz(func(t *testing.T, body []byte, packed bool) {
		codec := CodecNone
		if packed {
			codec = CodecS2
		}
		entries, err := DecodeBatch(seal(append([]byte{batchFormat}, body...)), codec)
		if err != nil {
			if !errors.Is(err, ErrPoison) {
				t.Fatalf("error is not poison: %v", err)
			}
			return
		}
		if packed {
			return
		}
		again := binary.AppendUvarint(nil, uint64(len(entries)))
		for _, e := range entries {
			again = appendEntry(again, e)
		}
		if !bytes.Equal(again, body) {
			t.Fatalf("accepted %x, which encodes as %x", body, again)
		}
	})
}

func seal(framed []byte) []byte {
	return binary.LittleEndian.AppendUint32(framed, crc32.Checksum(framed, castagnoli))
}

func random(n int) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func BenchmarkBatch(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	var entries []Entry
	for i := range 300 {
		record := append(random(60), bytes.Repeat([]byte("field=value;"), 12)...)
		rng.Shuffle(60, func(i, j int) { record[i], record[j] = record[j], record[i] })
		entries = append(entries, Entry{Partition: hashring.Partition(i), Key: []byte("bucket\x00key"), Record: record, Dots: []crdt.Dot{{Actor: 65, N: uint64(i + 1)}}})
	}
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			data, _, _ := EncodeBatch(entries)
			b.SetBytes(int64(len(data)))
		}
	})
	data, codec, _ := EncodeBatch(entries)
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			if _, err := DecodeBatch(data, codec); err != nil {
				b.Fatal(err)
			}
		}
	})
}
