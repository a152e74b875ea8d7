package bucket

import (
	"encoding/binary"
	"errors"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/internal/strict"
	"github.com/atolldb/atoll/node/quorum"
)

// The encoding of a table, as it stands in the store; equal tables have equal
// bytes.
//
//	1 byte    format, 1
//	uvarint   number of definitions, then ascending by name:
//	  bytes     name
//	  1 byte    flags: 1 lww, 2 deleted, 4 sloppy, 8 requires context
//	  uvarint   revision
//	  8 bytes   stamp, big-endian
//	  4 bytes   levels of reads: default, min, max, override
//	  4 bytes   levels of writes, the same
//	  uvarint   siblings to warn of
//	  uvarint   siblings at most
//	  uvarint   bytes of a value
//	  uvarint   milliseconds to live
//	  uvarint   number of regions, and that many bytes
//	  bytes     home region
//
// Bytes are a uvarint and that many bytes; all uvarints are minimal. A decoder
// refuses what a newer format may mean, so an old node changes nothing that it
// does not understand.

const tableFormat = 1

const (
	flagLWW = 1 << iota
	flagDeleted
	flagSloppy
	flagContext
	flagsKnown = 1<<iota - 1
)

// ErrMalformed says that bytes are no table of this format.
var ErrMalformed = errors.New("malformed table of buckets")

// AppendTable appends the encoding of t.
func AppendTable(dst []byte, t Table) []byte {
	dst = append(dst, tableFormat)
	dst = binary.AppendUvarint(dst, uint64(len(t)))
	for i := range t {
		dst = appendDefinition(dst, &t[i])
	}
	return dst
}

func appendDefinition(dst []byte, d *Definition) []byte {
	dst = appendString(dst, d.Name)
	var flags byte
	for _, f := range []struct {
		set bool
		bit byte
	}{{d.Kind == crdt.LWW, flagLWW}, {d.Deleted, flagDeleted}, {d.Sloppy, flagSloppy}, {d.RequireContext, flagContext}} {
		if f.set {
			flags |= f.bit
		}
	}
	dst = append(dst, flags)
	dst = binary.AppendUvarint(dst, d.Revision)
	dst = binary.BigEndian.AppendUint64(dst, uint64(d.Stamp))
	for _, p := range []quorum.Policy{d.Reads, d.Writes} {
		dst = append(dst, byte(p.Default), byte(p.Min), byte(p.Max), byte(p.Override))
	}
	for _, n := range []uint64{uint64(d.WarnSiblings), uint64(d.MaxSiblings), uint64(d.MaxValue), d.TTL, uint64(len(d.Regions))} {
		dst = binary.AppendUvarint(dst, n)
	}
	for _, r := range d.Regions {
		dst = appendString(dst, r)
	}
	return appendString(dst, d.Home)
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// DecodeTable decodes a table, whose definitions are all in order.
func DecodeTable(b []byte) (Table, error) {
	d := decoder{strict.Reader{B: b}}
	if d.take(1)[0] != tableFormat {
		return nil, ErrMalformed
	}
	n := d.Uvarint()
	if n > uint64(len(b))/8 {
		return nil, ErrMalformed
	}
	var t Table
	for range n {
		def := d.definition()
		if d.Bad || def.Check() != nil || len(t) > 0 && t[len(t)-1].Name >= def.Name {
			return nil, ErrMalformed
		}
		t = append(t, def)
	}
	if d.Bad || len(d.B) > 0 {
		return nil, ErrMalformed
	}
	return t, nil
}

type decoder struct{ strict.Reader }

// take returns n bytes, zeros when there are too few.
func (d *decoder) take(n int) []byte {
	if b := d.Take(n); b != nil {
		return b
	}
	return make([]byte, n)
}

func (d *decoder) string() string { return string(d.Bytes(MaxName)) }

func (d *decoder) policy() quorum.Policy {
	b := d.take(4)
	return quorum.Policy{Default: quorum.Level(b[0]), Min: quorum.Level(b[1]), Max: quorum.Level(b[2]), Override: quorum.Level(b[3])}
}

func (d *decoder) definition() Definition {
	var def Definition
	def.Name = d.string()
	flags := d.take(1)[0]
	d.Bad = d.Bad || flags&^flagsKnown != 0
	if flags&flagLWW != 0 {
		def.Kind = crdt.LWW
	}
	def.Deleted, def.Sloppy, def.RequireContext = flags&flagDeleted != 0, flags&flagSloppy != 0, flags&flagContext != 0
	def.Revision = d.Uvarint()
	def.Stamp = hlc.Stamp(binary.BigEndian.Uint64(d.take(8)))
	def.Reads, def.Writes = d.policy(), d.policy()
	def.WarnSiblings, def.MaxSiblings, def.MaxValue = d.Uint32(), d.Uint32(), d.Uint32()
	def.TTL = d.Uvarint()
	n := d.Uvarint()
	d.Bad = d.Bad || n > maxRegions
	for i := uint64(0); i < n && !d.Bad; i++ {
		def.Regions = append(def.Regions, d.string())
	}
	def.Home = d.string()
	return def
}
