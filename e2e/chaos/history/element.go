package history

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
)

// Element is one unique thing that a client wrote: 16 bits of client, 48 bits
// of that client's count.
type Element uint64

// NewElement is the n-th of a client; n has 48 bits.
func NewElement(client uint16, n uint64) Element { return Element(uint64(client)<<48 | n&(1<<48-1)) }

func (e Element) String() string {
	return fmt.Sprintf("client %d's element %d", uint64(e)>>48, uint64(e)&(1<<48-1))
}

// Value is what a key's value says of itself.
type Value struct {
	Key string
	// By is the write that made this value.
	By Element
	// Elements are all of a set, in ascending order, By among them; nil in a
	// register.
	Elements []Element
}

var errValue = errors.New("value is damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const magic = "aC"

// Encode writes: "aC", uvarint key length, key, 8 bytes By, uvarint count, 8
// bytes each element, pad bytes of a pattern made of By, uvarint-free to the
// end: 4 bytes CRC-32C of all before. All numbers are big-endian.
func Encode(v Value, pad int) []byte {
	b := append([]byte(nil), magic...)
	b = binary.AppendUvarint(b, uint64(len(v.Key)))
	b = append(b, v.Key...)
	b = binary.BigEndian.AppendUint64(b, uint64(v.By))
	b = binary.AppendUvarint(b, uint64(len(v.Elements)))
	for _, e := range v.Elements {
		b = binary.BigEndian.AppendUint64(b, uint64(e))
	}
	x := uint64(v.By)*0x9e3779b97f4a7c15 + 1
	for range pad {
		// xorshift: bytes that no compression makes small
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b = append(b, byte(x))
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// Decode is Encode's inverse; the pad is dropped. A value that is not exactly
// what Encode made, or of another key than the one it was read from, is an
// error.
func Decode(key string, b []byte) (Value, error) {
	fail := func(what string) (Value, error) { return Value{}, fmt.Errorf("%w: %s", errValue, what) }
	if len(b) < len(magic)+4 {
		return fail(fmt.Sprintf("%d bytes", len(b)))
	}
	body, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return fail("checksum")
	}
	if string(body[:len(magic)]) != magic {
		return fail("magic")
	}
	body = body[len(magic):]
	n, w := binary.Uvarint(body)
	if w <= 0 || n > uint64(len(body)-w) {
		return fail("key length")
	}
	v := Value{Key: string(body[w : w+int(n)])}
	body = body[w+int(n):]
	if v.Key != key {
		return fail("it is of another key")
	}
	if len(body) < 8 {
		return fail("writer")
	}
	v.By, body = Element(binary.BigEndian.Uint64(body)), body[8:]
	n, w = binary.Uvarint(body)
	if w <= 0 || n > uint64(len(body)-w)/8 {
		return fail("count of elements")
	}
	body = body[w:]
	for i := range int(n) {
		v.Elements = append(v.Elements, Element(binary.BigEndian.Uint64(body[8*i:])))
	}
	if !slices.IsSorted(v.Elements) {
		return fail("order of elements")
	}
	return v, nil
}

// Union of the elements, in ascending order, each once.
func Union(sets ...[]Element) []Element {
	all := slices.Concat(sets...)
	slices.Sort(all)
	return slices.Compact(all)
}
