package main

import (
	"errors"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

// anyRegion stands for all that the map of regions has.
const anyRegion = "any"

// followFlags are for what may be done in another region than that of the endpoints.
func (q *request) followFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&q.region, "region", "", "`NAME` of the region to work in; without it that of the node which answers first")
	f.StringSliceVar(&q.fallback, "fallback", nil,
		"`NAME,...` of the regions to work in, in this order, while that one is out of service by the map of regions, or "+anyRegion+"; without it none")
}

func (q *request) checkFollow(cmd *cobra.Command) error {
	names := q.fallback
	if f := cmd.Flags().Lookup("region"); f != nil && f.Changed {
		names = append([]string{q.region}, names...)
	}
	for _, name := range names {
		if name == "" || strings.ContainsAny(name, " ,") {
			return usage(cmd, errors.New("not the name of a region"+inputBounds("region", "NAME", strconv.Quote(name))))
		}
	}
	return nil
}

// where says in which region to work: what was not allowed elsewhere stays.
func (q *request) where() (opts []client.Option) {
	if q.region != "" {
		opts = append(opts, client.Region(q.region))
	}
	switch {
	case len(q.fallback) == 0:
		opts = append(opts, client.Pin())
	case len(q.fallback) > 1 || q.fallback[0] != anyRegion:
		opts = append(opts, client.Fallback(q.fallback...))
	}
	return opts
}
