package coord_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/coord"
)

// Bad input is named: the field, what is allowed, what came. Nothing is sent.
func TestBadInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		a := r.owners("default", "k")[0]
		context := a.mustPut(t, put("k", "v")).Context
		a.wire.reset()
		with := func(change func(p *coord.Put)) coord.Put {
			p := put("k", "v")
			change(&p)
			return p
		}
		for name, c := range map[string]struct {
			p                  coord.Put
			code               coord.Code
			field, limit, seen string
			alsoGet            bool
		}{
			"no such bucket":   {with(func(p *coord.Put) { p.Bucket = "none" }), coord.CodeNoBucket, "bucket", "a bucket that exists", `"none"`, true},
			"long bucket":      {with(func(p *coord.Put) { p.Bucket = strings.Repeat("b", 64) }), coord.CodeNoBucket, "bucket", "a bucket that exists", `"` + strings.Repeat("b", 63) + `"...`, true},
			"empty key":        {with(func(p *coord.Put) { p.Key = nil }), coord.CodeInvalid, "key", "1..1024 bytes", "0 bytes", true},
			"long key":         {with(func(p *coord.Put) { p.Key = make([]byte, 1025) }), coord.CodeInvalid, "key", "1024 bytes", "1025 bytes", true},
			"large value":      {with(func(p *coord.Put) { p.Value = make([]byte, 1<<20+1) }), coord.CodeInvalid, "value", "1048576 bytes", "1048577 bytes", false},
			"bucket's limit":   {with(func(p *coord.Put) { p.Bucket, p.Value = "small", make([]byte, 11) }), coord.CodeInvalid, "value", "10 bytes", "11 bytes", false},
			"negative ttl":     {with(func(p *coord.Put) { p.TTL = -1 }), coord.CodeInvalid, "ttl", "0..876000h0m0s", "-1ns", false},
			"ttl of 101 years": {with(func(p *coord.Put) { p.TTL = 101 * 365 * 24 * time.Hour }), coord.CodeInvalid, "ttl", "0..876000h0m0s", "884760h0m0s", false},
			"ttl below 1 ms":   {with(func(p *coord.Put) { p.TTL = time.Millisecond - 1 }), coord.CodeInvalid, "ttl", "whole milliseconds", "999.999µs", false},
			"negative w":       {with(func(p *coord.Put) { p.W = -1 }), coord.CodeInvalid, "w", "1..3", "-1", false},
			"w of 4 of 3":      {with(func(p *coord.Put) { p.W = 4 }), coord.CodeInvalid, "w", "1..3", "4", false},
			"level 11":         {with(func(p *coord.Put) { p.Level = 11 }), coord.CodeInvalid, "level", "0..10", "11", true},
			"level 11 and w":   {with(func(p *coord.Put) { p.Level, p.W = 11, 1 }), coord.CodeInvalid, "level", "0..10", "11", false},
			"junk context":     {with(func(p *coord.Put) { p.Context = []byte("junk") }), coord.CodeBadContext, "context", "a context that was returned for this key", "4 bytes", false},
			"foreign context":  {with(func(p *coord.Put) { p.Key, p.Context = []byte("k2"), context }), coord.CodeBadContext, "context", "a context that was returned for this key", fmt.Sprint(len(context), " bytes"), false},
			"changed context": {with(func(p *coord.Put) {
				p.Context = slices.Clone(context)
				p.Context[20] ^= 1
			}), coord.CodeBadContext, "context", "a context that was returned for this key", fmt.Sprint(len(context), " bytes"), false},
		} {
			check := func(what string, e *coord.Error) {
				t.Helper()
				if e == nil || e.Code != c.code || e.Outcome != coord.NotApplied || e.Field != c.field || e.Limit != c.limit || e.Seen != c.seen || e.Detail == "" {
					t.Errorf("%s: %s: %+v", name, what, e)
				}
			}
			_, e := a.put(t, c.p)
			check("put", e)
			if c.alsoGet {
				_, e := a.get(t, coord.Get{Bucket: c.p.Bucket, Key: c.p.Key, Level: c.p.Level})
				check("get", e)
			}
		}
		for _, n := range []int{-1, 4} {
			if _, e := a.get(t, coord.Get{Key: []byte("k"), R: n}); e == nil || e.Field != "r" || e.Limit != "1..3" || e.Seen != fmt.Sprint(n) {
				t.Errorf("r of %d: %+v", n, e)
			}
		}
		if sent := a.wire.requests(); len(sent) > 0 {
			t.Errorf("sent %+v", sent)
		}
		// The bounds themselves are fine.
		for _, p := range []coord.Put{
			with(func(p *coord.Put) { p.Key = make([]byte, 1024) }),
			with(func(p *coord.Put) { p.Value = make([]byte, 1<<20) }),
			with(func(p *coord.Put) { p.Value = nil }),
			with(func(p *coord.Put) { p.Bucket, p.Value = "small", make([]byte, 10) }),
			with(func(p *coord.Put) { p.TTL = time.Millisecond }),
			with(func(p *coord.Put) { p.TTL = 100 * 365 * 24 * time.Hour }),
			with(func(p *coord.Put) { p.W = 3 }),
			with(func(p *coord.Put) { p.Context = context }),
			with(func(p *coord.Put) { p.Bucket, p.Value = "large", make([]byte, 8<<20) }),
		} {
			a.mustPut(t, p)
		}
	})
}
