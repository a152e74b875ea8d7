package grpcpeer

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/atolldb/atoll/node/peer"
	peerv1 "github.com/atolldb/atoll/proto/atoll/peer/v1"
)

func marshal(t interface{ Fatal(...any) }, f *frame) []byte {
	data, err := codec{}.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Free()
	return data.Materialize()
}

// What the codec writes is what the generated code would write, and each reads
// the other's.
func TestFrameIsProtobuf(t *testing.T) {
	hello := &peerv1.Hello{Node: "a", Region: "eu", Wire: 1, Partitions: 64, Large: true, Session: 1 << 60}
	body := bytes.Repeat([]byte("packed "), 3000)
	small := newBuffer(len(body))
	small.view = append(small.view, body...)
	for name, c := range map[string]struct {
		f    *frame
		twin *peerv1.LinkRequest
	}{
		"hello": {&frame{hello: hello}, &peerv1.LinkRequest{Hello: hello}},
		"small": {&frame{packed: small.packed()}, &peerv1.LinkRequest{Frame: body}},
		"large": {&frame{packed: packedLarge(body[:20], body[20:])}, &peerv1.LinkRequest{Frame: body}},
		"empty": {&frame{}, &peerv1.LinkRequest{}},
	} {
		got := marshal(t, c.f)
		want, err := proto.Marshal(c.twin)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %.60x, want %.60x", name, got, want)
		}
		var back frame
		if err := (codec{}).Unmarshal(mem.BufferSlice{mem.SliceBuffer(want)}, &back); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(back.body, c.twin.Frame) || !proto.Equal(back.hello, c.twin.Hello) {
			t.Errorf("%s: read back %v, %d bytes", name, back.hello, len(back.body))
		}
	}
}

func TestCodecStillSpeaksProtobuf(t *testing.T) {
	in := &peerv1.LinkRequest{Frame: []byte("x")}
	data, err := codec{}.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out peerv1.LinkRequest
	if err := (codec{}).Unmarshal(data, &out); err != nil || !proto.Equal(in, &out) {
		t.Errorf("got %v, %v", &out, err)
	}
}

// Frames of every size survive the reuse of buffers.
func TestBuffersAreReused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(0, 200_000), 1, 8).Draw(t, "sizes")
		var frames []mem.BufferSlice
		for i, size := range sizes {
			b := newBuffer(size)
			b.view = append(b.view, bytes.Repeat([]byte{byte(i)}, size)...)
			frames = append(frames, b.packed())
		}
		for i, f := range frames {
			var back frame
			if err := back.decode(f.Materialize()); err != nil {
				t.Fatal(err)
			}
			if len(back.body) != sizes[i] || bytes.Count(back.body, []byte{byte(i)}) != sizes[i] {
				t.Fatalf("frame %d of %d bytes was spoilt", i, sizes[i])
			}
			f.Free()
		}
	})
}

func TestFrameMalformed(t *testing.T) {
	for name, b := range map[string][]byte{
		"unknown field":  {3<<3 | 2, 0},
		"varint field":   {1 << 3, 1},
		"frame twice":    {tagFrame, 1, 'x', tagFrame, 1, 'y'},
		"empty twice":    {tagFrame, 0, tagFrame, 0},
		"cut short":      {tagFrame, 5, 'x'},
		"only a tag":     {tagFrame},
		"no hello":       {tagHello, 2, 0xff, 0xff},
		"hello twice":    {tagHello, 0, tagHello, 0},
		"endless length": append([]byte{tagFrame}, strings.Repeat("\xff", 12)...),
	} {
		if err := new(frame).decode(b); err == nil {
			t.Errorf("%s: decoded", name)
		}
	}
}

// Whatever decodes, the generated code decodes to the same.
//
//fuzz:slow 2
func FuzzFrame(f *testing.F) {
	f.Add(marshal(f, &frame{hello: &peerv1.Hello{Node: "a", Wire: 1}}))
	f.Add(marshal(f, &frame{packed: packedLarge([]byte("head"), []byte("body"))}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var got frame
		if err := got.decode(bytes.Clone(b)); err != nil {
			return
		}
		var twin peerv1.LinkRequest
		if err := proto.Unmarshal(b, &twin); err != nil {
			t.Fatalf("protobuf does not read it: %v", err)
		}
		if !bytes.Equal(got.body, twin.Frame) || !proto.Equal(got.hello, twin.Hello) {
			t.Errorf("got %v %x, protobuf %v %x", got.hello, got.body, twin.Hello, twin.Frame)
		}
	})
}

func TestPendingAgainstMap(t *testing.T) {
	type twin struct {
		deadline int64
		handed   bool
		told     *error
	}
	rapid.Check(t, func(t *rapid.T) {
		var p pending
		waiting := map[uint64]twin{}
		used := map[uint64]bool{}
		var ids []uint64
		now := int64(0)
		check := func(endings []ending, over func(twin) error) {
			tell(endings)
			for id, w := range waiting {
				want := over(w)
				if *w.told != want {
					t.Fatalf("id %x was told %v, want %v", id, *w.told, want)
				}
				if want != nil {
					delete(waiting, id)
				}
			}
		}
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			switch rapid.IntRange(0, 6).Draw(t, "step") {
			case 0, 1, 2:
				w := twin{deadline: now + rapid.Int64Range(1, 50).Draw(t, "timeout"), told: new(error)}
				id, ok := p.add(func(_ []byte, err error) { *w.told = err }, w.deadline)
				if !ok || used[id] {
					t.Fatalf("add gave %x, %t", id, ok)
				}
				used[id] = true
				waiting[id] = w
				ids = append(ids, id)
			case 3, 4:
				if len(ids) == 0 {
					continue
				}
				id := rapid.SampledFrom(ids).Draw(t, "id")
				w, waits := waiting[id]
				if s := p.find(id); (s != nil) != waits {
					t.Fatalf("find %x: %v, waits %t", id, s, waits)
				} else if waits && !w.handed {
					s.handed, w.handed = true, true
					waiting[id] = w
				}
				if rapid.Bool().Draw(t, "take") {
					if done := p.take(id); (done != nil) != waits {
						t.Fatalf("take %x: %t, waits %t", id, done != nil, waits)
					}
					delete(waiting, id)
				}
			case 5:
				now += rapid.Int64Range(0, 30).Draw(t, "passes")
				endings, next := p.expire(now, nil)
				check(endings, func(w twin) error {
					switch {
					case w.deadline > now:
						return nil
					case w.handed:
						return peer.ErrTimeout
					}
					return errQueued
				})
				for _, w := range waiting {
					if next == 0 || next > w.deadline {
						t.Fatalf("next is %d, one is due at %d", next, w.deadline)
					}
				}
				if len(waiting) == 0 && next != 0 {
					t.Fatal("next, but nothing waits")
				}
			case 6:
				if rapid.IntRange(0, 5).Draw(t, "fail") == 0 {
					check(p.fail(nil, errStopped, errNoLink), func(w twin) error {
						if w.handed {
							return errStopped
						}
						return errNoLink
					})
				}
			}
			if p.count() != len(waiting) {
				t.Fatalf("%d wait, want %d", p.count(), len(waiting))
			}
		}
	})
}

func TestPendingIsBounded(t *testing.T) {
	var p pending
	none := func([]byte, error) {}
	first, _ := p.add(none, 1)
	for range maxPending - 1 {
		if _, ok := p.add(none, 1); !ok {
			t.Fatal("full too early")
		}
	}
	if _, ok := p.add(none, 1); ok {
		t.Error("no bound")
	}
	p.take(first)
	if id, ok := p.add(none, 1); !ok || id == first {
		t.Errorf("a free slot gave %x, %t; the first was %x", id, ok, first)
	}
	if p.find(first) != nil {
		t.Error("an old id finds a new request")
	}
}

func TestLane(t *testing.T) {
	l := newLane[int](100)
	size := func(i *int) int { return *i }
	if !l.fits(1000) {
		t.Error("one message must always fit")
	}
	for _, s := range []int{40, 30, 20, 10} {
		if !l.fits(s) {
			t.Errorf("%d does not fit", s)
		}
		l.push(s, s)
	}
	if l.fits(1) {
		t.Error("101 of 100 fit")
	}
	for _, want := range [][]int{{40}, {30, 20}, {10}, nil} {
		if got := l.take(nil, 50, size); len(got) != len(want) || len(got) > 0 && got[0] != want[0] {
			t.Errorf("took %v, want %v", got, want)
		}
	}
	if l.bytes != 0 {
		t.Errorf("%d bytes are left in an empty lane", l.bytes)
	}
	l.idle = true
	if !l.push(1, 1) || l.push(1, 1) {
		t.Error("the first message must rouse the sender, the second need not")
	}
}
