package dump

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// MaxKey is the length of the longest key, in bytes.
const MaxKey = 1024

// Parse reads a line of an import. value is part of line. The errors name the
// field, the limit and what was seen.
func Parse(line []byte) (key string, value []byte, err error) {
	if !utf8.Valid(line) {
		return "", nil, errors.New("not valid UTF-8")
	}
	fields, err := object(line)
	if err != nil {
		return "", nil, err
	}
	plain, isPlain := fields["key"]
	encoded, isEncoded := fields["key_b64"]
	value, hasValue := fields["value"]
	switch {
	case isPlain && isEncoded:
		return "", nil, errors.New("both key and key_b64")
	case isPlain:
		key, err = text("key", plain)
	case isEncoded:
		key, err = decode(encoded)
	default:
		err = errors.New("no key (field key or key_b64)")
	}
	if err == nil && !hasValue {
		err = errors.New("no value (field value)")
	}
	if err != nil {
		return "", nil, err
	}
	if n := len(key); n < 1 || n > MaxKey {
		return "", nil, fmt.Errorf("key is out of bounds (field key: limit 1..%d bytes, seen %d bytes)", MaxKey, n)
	}
	return key, value, nil
}

// object splits a JSON object into the bytes of its fields' values.
func object(line []byte) (map[string][]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(line))
	if t, err := dec.Token(); err != nil {
		return nil, syntax(err)
	} else if t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	fields := make(map[string][]byte, 2)
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, syntax(err)
		}
		name, _ := t.(string) // the decoder lets nothing else pass
		switch name {
		case "key", "key_b64", "value":
		default:
			return nil, fmt.Errorf("unknown field %s (limit key, key_b64, value)", quoted(name))
		}
		if _, again := fields[name]; again {
			return nil, fmt.Errorf("field %s is there twice", name)
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, syntax(err)
		}
		fields[name] = raw
	}
	if _, err := dec.Token(); err != nil {
		return nil, syntax(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value in the line")
	}
	return fields, nil
}

func syntax(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("not a whole JSON object")
	}
	return fmt.Errorf("not JSON: %w", err)
}

// text decodes a JSON string. encoding/json makes U+FFFD of half a surrogate
// pair; that would make one key of many, so it is refused here.
func text(field string, raw []byte) (string, error) {
	var s string
	if len(raw) == 0 || raw[0] != '"' {
		return "", fmt.Errorf("field %s is not a string", field)
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", fmt.Errorf("field %s: %w", field, err)
	}
	if loneSurrogate(raw) {
		return "", fmt.Errorf("field %s has half a surrogate pair", field)
	}
	return s, nil
}

// loneSurrogate looks at the \u escapes of a valid JSON string.
func loneSurrogate(raw []byte) bool {
	const high, low, end = 0xd800, 0xdc00, 0xe000
	open := false // the escape before was the first half of a pair
	for i := 0; i < len(raw); i++ {
		unit := -1
		if raw[i] == '\\' {
			i++
			if raw[i] == 'u' {
				n, _ := strconv.ParseUint(string(raw[i+1:i+5]), 16, 16)
				unit = int(n)
				i += 4
			}
		}
		second := unit >= low && unit < end
		if second != open {
			return true
		}
		open = unit >= high && unit < low
	}
	return false // the closing quote has ended what was open
}

func decode(raw []byte) (string, error) {
	s, err := text("key_b64", raw)
	if err != nil {
		return "", err
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return "", fmt.Errorf("field key_b64: %w", err)
	}
	return string(b), nil
}

func quoted(s string) string {
	if len(s) > 40 {
		s = s[:40] + "..."
	}
	return strconv.Quote(s)
}
