// Package dump holds the text formats of records: the lines that import reads,
// the lines that export writes, and backups, which are such lines between a head
// and an end by which a file is known to be whole. It opens and closes nothing.
//
// A line of an import is a JSON object with a key and any JSON value; the
// value's bytes are stored as they stand in the line:
//
//	{"key": "cart/42", "value": {"items": ["tea"]}}
//	{"key_b64": "/wA=", "value": null}
//
// A line of an export has everything a record holds, versions and their pasts
// included; docs/export-format.md defines it, and backups, byte by byte.
//
// Invariants:
//
//	D1  Equal records give equal lines; different records different ones.
//	D2  What a line of an import does not say unambiguously is an error: a
//	    field twice, an unknown field, text that is not valid Unicode. No two
//	    keys become one.
//	D3  Of a backup exactly what Writer wrote is read: of a file that was cut off
//	    or changed anywhere Reader returns *Damage before it returns io.EOF.
package dump
