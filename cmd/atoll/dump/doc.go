// Package dump holds the two text formats of records: the lines that import
// reads and the lines that export writes. It does no I/O.
//
// A line of an import is a JSON object with a key and any JSON value; the
// value's bytes are stored as they stand in the line:
//
//	{"key": "cart/42", "value": {"items": ["tea"]}}
//	{"key_b64": "/wA=", "value": null}
//
// A line of an export has everything a record holds, versions and their pasts
// included; docs/export-format.md defines it byte by byte.
//
// Invariants:
//
//	D1  Equal records give equal lines; different records different ones.
//	D2  What a line of an import does not say unambiguously is an error: a
//	    field twice, an unknown field, text that is not valid Unicode. No two
//	    keys become one.
package dump
