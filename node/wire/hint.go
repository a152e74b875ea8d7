package wire

// Hint asks a node that does not own a key to keep its record for an owner
// that is away; the reply is empty and means that the hint is durable.
type Hint struct {
	// Owner is the id of the node that the record is for.
	Owner string
	Entry Entry
}

// AppendHint appends the encoding of m.
func AppendHint(dst []byte, m *Hint) []byte {
	w := writer{dst}
	w.string(m.Owner)
	w.entries([]Entry{m.Entry})
	return w.b
}

// DecodeHint decodes a Hint.
func DecodeHint(b []byte) (Hint, error) {
	r := newReader(b)
	m := Hint{Owner: r.string()}
	es := r.entries()
	if err := r.end(); err != nil || len(es) != 1 || m.Owner == "" {
		return Hint{}, ErrMalformed
	}
	m.Entry = es[0]
	return m, nil
}
