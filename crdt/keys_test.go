package crdt

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// While secrets are replaced, nodes hold old only, old and new, new and old, and
// new only, in this order; neighbours live at the same time.
func TestKeysRotate(t *testing.T) {
	older, newer := Secret("older"), Secret("newer")
	stages := []Keys{{older}, {older, newer}, {newer, older}, {newer}}
	for i, signs := range stages {
		tag := signs.Sign("p", []byte("body"))
		for j, verifies := range stages {
			near := i-j <= 1 && j-i <= 1
			if ok := verifies.Verify(tag[:], "p", []byte("body")); near && !ok {
				t.Errorf("stage %d refuses what stage %d signs", j, i)
			}
		}
	}
	tag := stages[0].Sign("p", []byte("body"))
	if stages[3].Verify(tag[:], "p", []byte("body")) {
		t.Error("a secret that is gone still verifies")
	}
}

// A tag holds for its purpose, its parts and where they begin alone.
func TestTagsBind(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.SliceOfN(rapid.Byte(), 2, 40).Draw(t, "body")
		cut := rapid.IntRange(0, len(body)-1).Draw(t, "cut")
		tag := testKeys.Sign("p", body[:cut], body[cut:])
		if !testKeys.Verify(tag[:], "p", body[:cut], body[cut:]) {
			t.Fatal("refuses its own")
		}
		flipped := bytes.Clone(body)
		flipped[rapid.IntRange(0, len(body)-1).Draw(t, "byte")] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
		for name, ok := range map[string]bool{
			"another purpose":  testKeys.Verify(tag[:], "q", body[:cut], body[cut:]),
			"shifted purpose":  testKeys.Verify(tag[:], "", append([]byte("p"), body[:cut]...), body[cut:]),
			"other parts":      testKeys.Verify(tag[:], "p", body[:cut+1], body[cut+1:]),
			"one part":         testKeys.Verify(tag[:], "p", body),
			"another body":     testKeys.Verify(tag[:], "p", flipped[:cut], flipped[cut:]),
			"a part of a tag":  testKeys.Verify(tag[:8], "p", body[:cut], body[cut:]),
			"no tag":           testKeys.Verify(nil, "p", body[:cut], body[cut:]),
			"no keys":          Keys{}.Verify(tag[:], "p", body[:cut], body[cut:]),
			"no keys, no sign": Keys{}.Verify(make([]byte, TagSize), "p", body[:cut], body[cut:]),
		} {
			if ok {
				t.Errorf("%s is accepted", name)
			}
		}
	})
}

// Two keys whose hashes are equal are easily made: the hash alone binds nothing.
func TestContextBindsToTheKeyItself(t *testing.T) {
	c := Context{Seen: VV{{Actor: 65, N: 7}}}
	b := AppendContext(nil, testKeys, testKey, c)
	other := []byte("default\x00other")
	// As if other had the same hash.
	forged := AppendContext(nil, testKeys, other, c)
	copy(forged[len(forged)-TagSize:], b[len(b)-TagSize:])
	if _, err := DecodeContext(testKeys, other, forged); err == nil {
		t.Fatal("the tag of one key holds for another one")
	}
}

// What a client sends in place of a context covers nothing that a context did
// not: whichever bytes are changed, it is refused.
func TestEveryFlippedByteOfAContextIsRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := histories.Draw(t, "history").state(t, "state").rec.Context()
		b := AppendContext(nil, testKeys, testKey, c)
		flip := byte(rapid.IntRange(1, 255).Draw(t, "flip"))
		for i := range b {
			b[i] ^= flip
			if got, err := DecodeContext(testKeys, testKey, b); err == nil {
				t.Fatalf("byte %d of %d flipped: covers %+v", i, len(b), got)
			}
			b[i] ^= flip
		}
	})
}

func TestParseDot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := Dot{Actor(rapid.Uint32().Draw(t, "actor")), rapid.Uint64().Draw(t, "n")}
		if got, err := ParseDot(d.String()); err != nil || got != d {
			t.Fatalf("%s is read as %v, %v", d, got, err)
		}
	})
	for _, bad := range []string{"", "7", "7@2", "7@2.", "7@64.1", "07@2.1", "7@2.1 ", "-7@2.1", "99999999999@1.1", "67108864@1.1"} {
		if d, err := ParseDot(bad); err == nil {
			t.Errorf("%q is read as %v", bad, d)
		}
	}
}
