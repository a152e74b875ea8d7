package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// SetUnionJSON reads each value as a JSON array and merges them to the union.
// Two elements are the same when their canonical encodings are: no white
// space, keys of objects in order, numbers as they were written (1 and 1.0
// differ). The result holds each element once, in the bytewise order of these
// encodings. As with SetUnionLines, what only one writer removed comes back. A
// value that is not a JSON array leaves the siblings.
func SetUnionJSON() Resolver {
	return func(_ context.Context, _ string, siblings []Sibling) (Resolution, error) {
		var sets []any
		for i, s := range siblings {
			if s.Deleted {
				continue
			}
			v, err := decodeJSON(s.Value)
			if err != nil {
				return Leave(), fmt.Errorf("sibling %d: %w", i, err)
			}
			sets = append(sets, v)
		}
		union, err := unionOf(sets)
		if err != nil {
			return Leave(), err
		}
		return Merged(encodeJSON(union)), nil
	}
}

// FieldRule says how JSONMergeByField merges one field.
type FieldRule uint8

// The rules. A sibling that lacks a field has no say in it.
const (
	// FieldLatest takes the field from the latest sibling that has it.
	FieldLatest FieldRule = iota
	// FieldMax and FieldMin compare numbers (as float64).
	FieldMax
	FieldMin
	// FieldUnion merges arrays as SetUnionJSON does.
	FieldUnion
)

// JSONMergeByField reads each value as a JSON object and merges them field by
// field: a field that is the same wherever it is stays, others follow the rule
// of their name, FieldLatest if there is none. No field is dropped, so one
// that only one writer removed comes back. The result is canonical (see
// SetUnionJSON). A value that is not a JSON object, or a field that is not of
// its rule's kind, leaves the siblings.
func JSONMergeByField(rules map[string]FieldRule) Resolver {
	rules = maps.Clone(rules)
	return func(_ context.Context, _ string, siblings []Sibling) (Resolution, error) {
		// In ascending order of time, so that the last with a field is the
		// latest.
		ordered := slices.Clone(siblings)
		slices.SortFunc(ordered, func(a, b Sibling) int {
			switch {
			case a.later(&b):
				return 1
			case b.later(&a):
				return -1
			}
			return bytes.Compare(a.Value, b.Value)
		})
		fields := make(map[string][]any)
		for _, s := range ordered {
			if s.Deleted {
				continue
			}
			v, err := decodeJSON(s.Value)
			if err != nil {
				return Leave(), err
			}
			object, ok := v.(map[string]any)
			if !ok {
				return Leave(), errors.New("a value is not a JSON object")
			}
			for name, x := range object {
				fields[name] = append(fields[name], x)
			}
		}
		out := make(map[string]any, len(fields))
		for name, values := range fields {
			v, err := mergeField(rules[name], values)
			if err != nil {
				return Leave(), fmt.Errorf("field with rule %d: %w", rules[name], err)
			}
			out[name] = v
		}
		return Merged(encodeJSON(out)), nil
	}
}

func mergeField(rule FieldRule, values []any) (any, error) {
	switch rule {
	case FieldUnion:
		return unionOf(values)
	case FieldMax, FieldMin:
		var best json.Number
		var bestF float64
		for i, v := range values {
			n, ok := v.(json.Number)
			if !ok {
				return nil, errors.New("not a number")
			}
			f, err := n.Float64()
			if err != nil {
				return nil, errors.New("not a number of float64")
			}
			better := f > bestF
			if rule == FieldMin {
				better = f < bestF
			}
			// Of two writings of one number, the same wins in any order.
			if i == 0 || better || (f == bestF && shorter([]byte(n), []byte(best))) {
				best, bestF = n, f
			}
		}
		return best, nil
	}
	return values[len(values)-1], nil
}

func unionOf(sets []any) ([]any, error) {
	type element struct {
		enc string
		v   any
	}
	var all []element
	for _, s := range sets {
		list, ok := s.([]any)
		if !ok {
			return nil, errors.New("not a JSON array")
		}
		for _, v := range list {
			all = append(all, element{string(encodeJSON(v)), v})
		}
	}
	slices.SortFunc(all, func(a, b element) int { return bytes.Compare([]byte(a.enc), []byte(b.enc)) })
	all = slices.CompactFunc(all, func(a, b element) bool { return a.enc == b.enc })
	out := make([]any, len(all))
	for i, e := range all {
		out[i] = e.v
	}
	return out, nil
}

// decodeJSON takes exactly one JSON value. Numbers stay as they are written.
func decodeJSON(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, errors.New("a value is not JSON") // the decoder's text would quote it
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("a value is more than one JSON value")
	}
	return v, nil
}

// encodeJSON is canonical for what decodeJSON returns: keys in order, no white
// space.
func encodeJSON(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // unreachable: every decoded value can be encoded
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}
