package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// Codec turns values of a type into bytes and back.
type Codec[T any] interface {
	Encode(v T) ([]byte, error)
	Decode(b []byte) (T, error)
}

type jsonCodec[T any] struct{}

// JSON is encoding/json.
func JSON[T any]() Codec[T] { return jsonCodec[T]{} }

func (jsonCodec[T]) Encode(v T) ([]byte, error) { return json.Marshal(v) }

func (jsonCodec[T]) Decode(b []byte) (v T, err error) {
	err = json.Unmarshal(b, &v)
	return v, err
}

type bytesCodec struct{}

// Bytes leaves bytes as they are.
func Bytes() Codec[[]byte] { return bytesCodec{} }

func (bytesCodec) Encode(v []byte) ([]byte, error) { return v, nil }
func (bytesCodec) Decode(b []byte) ([]byte, error) { return b, nil }

// Typed reads and writes values of one type.
type Typed[T any] struct {
	c     *Client
	codec Codec[T]
}

// NewTyped wraps a client for values that codec knows.
func NewTyped[T any](c *Client, codec Codec[T]) *Typed[T] { return &Typed[T]{c: c, codec: codec} }

// Entry is an Object and its value, decoded; the zero T when there is none.
type Entry[T any] struct {
	Object
	V T
}

// Get is Client.Get. With ErrSiblings, Decode turns each of Siblings into a T.
func (t *Typed[T]) Get(ctx context.Context, key string, opts ...ReadOption) (Entry[T], error) {
	obj, err := t.c.Get(ctx, key, opts...)
	e := Entry[T]{Object: obj}
	if err != nil {
		return e, err
	}
	e.V, err = t.Decode(obj.Value())
	return e, err
}

// Decode decodes one value, such as a sibling's.
func (t *Typed[T]) Decode(b []byte) (T, error) {
	v, err := t.codec.Decode(b)
	if err != nil {
		return v, fmt.Errorf("decode value: %w", err)
	}
	return v, nil
}

// Put is Client.Put.
func (t *Typed[T]) Put(ctx context.Context, key string, v T, opts ...WriteOption) (Version, error) {
	b, err := t.codec.Encode(v)
	if err != nil {
		return Version{}, fmt.Errorf("encode value: %w", err)
	}
	return t.c.Put(ctx, key, b, opts...)
}

// Delete is Client.Delete.
func (t *Typed[T]) Delete(ctx context.Context, key string, opts ...WriteOption) (Version, error) {
	return t.c.Delete(ctx, key, opts...)
}

// Update is Client.Update; exists is false, and cur the zero T, when the key
// has no value.
func (t *Typed[T]) Update(
	ctx context.Context, key string, modify func(cur T, exists bool) (T, error), opts ...UpdateOption,
) (Version, error) {
	return t.c.Update(ctx, key, func(obj Object) ([]byte, error) {
		var cur T
		if obj.Exists() {
			var err error
			if cur, err = t.Decode(obj.Value()); err != nil {
				return nil, err
			}
		}
		next, err := modify(cur, obj.Exists())
		if err != nil {
			return nil, err
		}
		b, err := t.codec.Encode(next)
		if err != nil {
			return nil, fmt.Errorf("encode value: %w", err)
		}
		return b, nil
	}, opts...)
}

// Resolver makes a Resolver of a function that merges two values. Deletes
// among the siblings are ignored. To be order-free, merge must be commutative,
// associative and idempotent, and the codec must encode equal values equally.
func (t *Typed[T]) Resolver(merge func(a, b T) (T, error)) Resolver {
	return func(_ context.Context, _ string, siblings []Sibling) (Resolution, error) {
		var sum T
		n := 0
		for _, s := range siblings {
			if s.Deleted {
				continue
			}
			v, err := t.Decode(s.Value)
			if err == nil && n > 0 {
				v, err = merge(sum, v)
			}
			if err != nil {
				return Leave(), err
			}
			sum = v
			n++
		}
		if n == 0 {
			return Leave(), errors.New("no value among the siblings")
		}
		b, err := t.codec.Encode(sum)
		if err != nil {
			return Leave(), fmt.Errorf("encode value: %w", err)
		}
		return Merged(b), nil
	}
}
