package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// mostSiblings looks for the keys that have most.
type mostSiblings struct{ limit, min int }

// mostSiblingsLimit bounds how many keys are kept.
const mostSiblingsLimit = 10_000

// keySiblings is one key with its versions.
type keySiblings struct {
	Bucket   string  `json:"bucket"`
	Key      *string `json:"key,omitempty"`
	KeyB64   []byte  `json:"key_b64,omitempty"`
	Versions int     `json:"versions"`
	Bytes    uint64  `json:"bytes"`
	// Regions and Writers are how many different ones the versions are of.
	Regions int       `json:"regions"`
	Writers int       `json:"writers"`
	Oldest  time.Time `json:"oldest"`
	Newest  time.Time `json:"newest"`

	key []byte
}

// mostSiblingsJSON is what is printed with -o json.
type mostSiblingsJSON struct {
	Keys []keySiblings `json:"keys"`
	// Found counts all keys with --min versions, and Versions all of theirs.
	Found    int `json:"found"`
	Versions int `json:"versions"`
}

func (m *mostSiblings) flags(cmd *cobra.Command) {
	cmd.Flags().IntVarP(&m.limit, "limit", "n", 20, "without KEY: keys at most")
	cmd.Flags().IntVar(&m.min, "min", 2, "without KEY: keys with so many versions or more")
}

// onlyWithoutKey refuses flags that say nothing about one key.
func onlyWithoutKey(cmd *cobra.Command, names ...string) error {
	for _, name := range names {
		if cmd.Flags().Changed(name) {
			return usage(cmd, fmt.Errorf("--%s is for all keys: give no KEY with it", name))
		}
	}
	return nil
}

func (m *mostSiblings) check(cmd *cobra.Command) error {
	if m.limit < 1 || m.limit > mostSiblingsLimit {
		return usage(cmd, errors.New("bad number of keys"+inputBounds("limit", fmt.Sprintf("1..%d", mostSiblingsLimit), strconv.Itoa(m.limit))))
	}
	if m.min < 2 || m.min > 1_000_000 {
		return usage(cmd, errors.New("bad number of versions"+inputBounds("min", "2..1000000", strconv.Itoa(m.min))))
	}
	for _, name := range []string{"consistency", "r", "regions", "session"} {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed {
			return usage(cmd, fmt.Errorf("--%s is for one key: give a KEY with it", name))
		}
	}
	return nil
}

func (m *mostSiblings) run(cmd *cobra.Command, q *request, out *format) error {
	if err := m.check(cmd); err != nil {
		return err
	}
	c, err := q.dialCluster(cmd)
	if err != nil {
		return err
	}
	defer c.close()
	bucket := ""
	if cmd.Flags().Changed("bucket") {
		bucket = q.bucket
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	stream, err := c.Export(ctx, &adminv1.ExportRequest{Bucket: bucket, MinVersions: uint32(m.min), NoValues: true})
	if err != nil {
		return adminFailure("look for siblings", err)
	}
	res := mostSiblingsJSON{Keys: []keySiblings{}}
	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return adminFailure("look for siblings", err)
		}
		for _, r := range msg.Records {
			m.take(&res, r)
		}
	}
	m.cut(&res, m.limit)
	if out.value == "json" {
		return printJSON(cmd.OutOrStdout(), res)
	}
	return m.table(cmd.OutOrStdout(), &res)
}

// take keeps twice as many as are asked for, at most.
func (m *mostSiblings) take(res *mostSiblingsJSON, r *adminv1.ExportRecord) {
	res.Found++
	res.Versions += len(r.Versions)
	res.Keys = append(res.Keys, siblingsOf(r))
	if len(res.Keys) >= 2*m.limit {
		m.cut(res, m.limit)
	}
}

// cut keeps the n keys with most versions.
func (m *mostSiblings) cut(res *mostSiblingsJSON, n int) {
	slices.SortFunc(res.Keys, func(a, b keySiblings) int {
		return cmp.Or(cmp.Compare(b.Versions, a.Versions), cmp.Compare(a.Bucket, b.Bucket), slices.Compare(a.key, b.key))
	})
	res.Keys = res.Keys[:min(n, len(res.Keys))]
}

func siblingsOf(r *adminv1.ExportRecord) keySiblings {
	name := textOf(r.Key)
	k := keySiblings{Bucket: r.Bucket, Key: name.plain, KeyB64: name.base64, Versions: len(r.Versions), key: r.Key}
	regions, writers := map[uint8]bool{}, map[uint32]bool{}
	for _, v := range r.Versions {
		k.Bytes += v.Size
		regions[crdt.Actor(v.Actor).Region()], writers[v.Actor] = true, true
		at := hlc.Stamp(v.Stamp).Time().UTC()
		if k.Oldest.IsZero() || at.Before(k.Oldest) {
			k.Oldest = at
		}
		if at.After(k.Newest) {
			k.Newest = at
		}
	}
	k.Regions, k.Writers = len(regions), len(writers)
	return k
}

func (m *mostSiblings) table(w io.Writer, res *mostSiblingsJSON) error {
	if _, err := fmt.Fprintf(w, "keys with %d versions or more: %d, with %d in all\n", m.min, res.Found, res.Versions); err != nil || res.Found == 0 {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	t := newTable(w, "key", "bucket", "versions", "bytes", "regions", "writers", "oldest", "newest")
	for _, k := range res.Keys {
		t.AppendRow([]any{
			preview(k.key), k.Bucket, k.Versions, sizeText(int64(k.Bytes)), k.Regions, k.Writers,
			k.Oldest.Format(timeForm), k.Newest.Format(timeForm),
		})
	}
	t.Render()
	return nil
}
