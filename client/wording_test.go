package client_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/node/api/apitest"
)

// What is wrong with a call is told in one line that names it, with what is allowed and
// what was seen.
func TestErrorsNameWhatIsWrong(t *testing.T) {
	r := apitest.NewRegion(t, 3)
	ctx := context.Background()
	open := func(target string, opts ...client.Option) error {
		c, err := client.Open(ctx, target, opts...)
		if err == nil {
			c.Close() //nolint:errcheck // a failure anyway
		}
		return err
	}
	c, err := client.Open(ctx, addrs(r))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // nothing to learn
	put := func(opts ...client.WriteOption) error { _, err := c.Put(ctx, "k", nil, opts...); return err }
	get := func(opts ...client.ReadOption) error { _, err := c.Get(ctx, "k", opts...); return err }
	parsed := func(_ any, err error) error { return err }

	for name, v := range map[string]struct {
		err  error
		is   error
		text string
	}{
		"no port":          {open("localhost"), client.ErrInvalid, `"localhost" is not host:port`},
		"empty port":       {open("localhost:"), client.ErrInvalid, `"localhost:" is not host:port`},
		"a URL":            {open("http://127.0.0.1:7400"), client.ErrInvalid, `"http://127.0.0.1:7400" is not host:port`},
		"nobody":           {open("127.0.0.1:1"), client.ErrUnavailable, "open: no node tells the topology: ask 127.0.0.1:1 for the topology: "},
		"no such region":   {open(addrs(r), client.Region("mars")), client.ErrInvalid, "there is no such region (field region: limit eu, seen mars)"},
		"no such fallback": {open(addrs(r), client.Fallback("mars")), client.ErrInvalid, "(field fallback: limit eu, seen mars)"},
		"version":          {parsed(c.ParseVersion("k", "!!")), client.ErrBadVersion, ""},
		"token":            {parsed(c.SessionFrom("!!")), client.ErrBadSession, ""},
		"token of nothing": {parsed(c.SessionFrom("AAAAAAAA")), client.ErrBadSession, ""},
		"request id":       {parsed(client.ParseRequestID("x")), client.ErrInvalid, "not a request id"},
		"w of none":        {put(client.W(0)), client.ErrInvalid, "(field w: limit 1 or more, seen 0 or less)"},
		"w below none":     {put(client.W(-1)), client.ErrInvalid, "(field w: "},
		"regions of none":  {put(client.Regions(0)), client.ErrInvalid, "(field regions: "},
		"r of none":        {get(client.R(0)), client.ErrInvalid, "(field r: limit 1 or more, seen 0 or less)"},
		"reads of regions": {get(client.Regions(-2)), client.ErrInvalid, "(field regions: "},
		"deletes":          {parsed(c.Delete(ctx, "k", client.W(-1))), client.ErrInvalid, "(field w: "},
		"bucket":           {parsed(c.Buckets().Create(ctx, client.BucketInfo{Name: "default"})), client.ErrBucketExists, "create bucket at "},
		"large values":     {parsed(c.Buckets().Create(ctx, client.BucketInfo{Name: "x", MaxValue: 100 << 30})), client.ErrInvalid, "limit 0..8388608, seen 107374182400"},
		"siblings":         {parsed(c.Buckets().Create(ctx, client.BucketInfo{Name: "x", MaxSiblings: -1})), client.ErrInvalid, "limit 0..256, seen -1"},
	} {
		if v.err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		text := v.err.Error()
		var e *client.Error
		if errors.As(v.err, &e) && e.Field != "" && !strings.Contains(text, "(field ") {
			text += " (field " + e.Field + ": limit " + e.Limit + ", seen " + e.Seen + ")"
		}
		if !errors.Is(v.err, v.is) || !strings.Contains(text, v.text) || strings.Contains(text, "\n") || strings.HasPrefix(text, ":") {
			t.Errorf("%s: %q, want %v and %q on one line", name, text, v.is, v.text)
		}
		if v.is == client.ErrBucketExists && strings.Contains(text, "key#") {
			t.Errorf("%s: %q speaks of a key", name, text)
		}
	}
	if _, err := c.Put(ctx, "k", nil, client.W(1), client.Regions(1)); errors.Is(err, client.ErrInvalid) {
		t.Error("a number that is one:", err)
	}
}
