package dump

import (
	"encoding/base64"
	"strconv"
	"unicode/utf8"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// Append adds the line of r, its newline included, to dst. The format is that
// of docs/export-format.md: fields in a fixed order, no white space, absent
// where they would say nothing, and one way only to write each string.
func Append(dst []byte, r *adminv1.ExportRecord) []byte {
	dst = append(dst, `{"bucket":`...)
	dst = appendString(dst, []byte(r.Bucket))
	dst = appendBytes(dst, "key", r.Key)
	dst = append(dst, `,"versions":[`...)
	for i, v := range r.Versions {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendVersion(dst, v)
	}
	return append(dst, "]}\n"...)
}

func appendVersion(dst []byte, v *adminv1.ExportVersion) []byte {
	dst = append(dst, `{"version":"`...)
	dst = appendDot(dst, v.Actor, v.N)
	dst = append(dst, `","stamp":"`...)
	stamp := hlc.Stamp(v.Stamp)
	dst = strconv.AppendInt(dst, stamp.Millis(), 10)
	dst = append(dst, '.')
	dst = strconv.AppendUint(dst, uint64(uint16(stamp)), 10)
	dst = append(dst, '"')
	if v.Deleted {
		dst = append(dst, `,"deleted":true`...)
	}
	if v.ExpiresAt != 0 {
		dst = append(dst, `,"expires_at":`...)
		dst = strconv.AppendInt(dst, v.ExpiresAt, 10)
	}
	if !v.Deleted || len(v.Value) > 0 {
		dst = appendBytes(dst, "value", v.Value)
	}
	if len(v.Past) > 0 {
		dst = append(dst, `,"past":[`...)
		for i, p := range v.Past {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, '"')
			dst = appendDot(dst, p.Actor, p.N)
			for _, hole := range p.Holes {
				dst = append(dst, '-')
				dst = strconv.AppendUint(dst, hole.First, 10)
				if hole.Last != hole.First {
					dst = append(dst, ".."...)
					dst = strconv.AppendUint(dst, hole.Last, 10)
				}
			}
			dst = append(dst, '"')
		}
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

// appendDot writes crdt.Dot's String without its garbage.
func appendDot(dst []byte, actor uint32, n uint64) []byte {
	a := crdt.Actor(actor)
	dst = strconv.AppendUint(dst, uint64(a.Seq()), 10)
	dst = append(dst, '@')
	dst = strconv.AppendUint(dst, uint64(a.Region()), 10)
	dst = append(dst, '.')
	return strconv.AppendUint(dst, n, 10)
}

// appendBytes writes field name as text, or as name_b64 what is no text.
func appendBytes(dst []byte, name string, b []byte) []byte {
	dst = append(dst, ',', '"')
	dst = append(dst, name...)
	if utf8.Valid(b) {
		dst = append(dst, `":`...)
		return appendString(dst, b)
	}
	dst = append(dst, `_b64":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, b)
	return append(dst, '"')
}

const hexDigits = "0123456789abcdef"

// appendString writes a string as RFC 8785, section 3.2.2.2 does: it escapes
// the quote, the backslash and what is below U+0020, these by their short form
// where JSON has one, and nothing else. encoding/json escapes more than that,
// and not the same in all its versions.
func appendString(dst, s []byte) []byte {
	dst = append(dst, '"')
	start := 0
	for i, c := range s {
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[start:i]...)
		start = i + 1
		dst = append(dst, '\\')
		switch c {
		case '"', '\\':
			dst = append(dst, c)
		case '\b':
			dst = append(dst, 'b')
		case '\f':
			dst = append(dst, 'f')
		case '\n':
			dst = append(dst, 'n')
		case '\r':
			dst = append(dst, 'r')
		case '\t':
			dst = append(dst, 't')
		default:
			dst = append(dst, 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
