package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/node/process"
)

// bucketJSON is what is printed of a bucket with -o json.
type bucketJSON struct {
	Name           string     `json:"name"`
	Kind           string     `json:"kind"`
	Revision       uint64     `json:"revision"`
	Changed        string     `json:"changed,omitempty"`
	Reads          policyJSON `json:"reads"`
	Writes         policyJSON `json:"writes"`
	Sloppy         bool       `json:"sloppy"`
	RequireContext bool       `json:"require_context"`
	WarnSiblings   int        `json:"warn_siblings"`
	MaxSiblings    int        `json:"max_siblings"`
	MaxValue       int        `json:"max_value"`
	TTLMs          int64      `json:"ttl_ms"`
	Regions        []string   `json:"regions"`
	Home           string     `json:"home_region"`
}

// removedBucketJSON is what is printed of a bucket that was taken away: the revision
// that it had.
type removedBucketJSON struct {
	Name     string `json:"removed"`
	Revision uint64 `json:"revision"`
}

// policyJSON leaves out what the bucket does not say.
type policyJSON struct {
	Default  string `json:"default,omitempty"`
	Min      string `json:"min,omitempty"`
	Max      string `json:"max,omitempty"`
	Override string `json:"override,omitempty"`
}

// The defaults of what a bucket does not say.
const (
	defaultWarnSiblings = 64
	defaultMaxSiblings  = 256
	defaultMaxValue     = 1 << 20
)

func bucketForm(b client.BucketInfo) bucketJSON {
	or := func(n, otherwise int) int {
		if n == 0 {
			return otherwise
		}
		return n
	}
	policy := func(p client.LevelPolicy) policyJSON {
		name := func(l client.Level) string { l2 := bucketLevel(l); return l2.String() }
		return policyJSON{name(p.Default), name(p.Min), name(p.Max), name(p.Override)}
	}
	j := bucketJSON{
		Name: b.Name, Kind: b.Kind.String(), Revision: b.Revision, Reads: policy(b.Reads), Writes: policy(b.Writes),
		Sloppy: b.Sloppy, RequireContext: b.RequireContext, WarnSiblings: or(b.WarnSiblings, defaultWarnSiblings),
		MaxSiblings: or(b.MaxSiblings, defaultMaxSiblings), MaxValue: or(b.MaxValue, defaultMaxValue),
		TTLMs: b.TTL.Milliseconds(), Regions: append([]string{}, b.Regions...), Home: b.Home,
	}
	if !b.Changed.IsZero() {
		j.Changed = b.Changed.UTC().Format(timeForm)
	}
	return j
}

func printBucket(cmd *cobra.Command, out *format, b client.BucketInfo) error {
	j := bucketForm(b)
	if out.value == "json" {
		return printJSON(cmd.OutOrStdout(), j)
	}
	regions, home, changed := strings.Join(j.Regions, ", "), j.Home, j.Changed
	if regions == "" {
		regions = "all"
	}
	if home == "" {
		home = "-"
	}
	if changed == "" {
		changed = "never"
	}
	rows := newTable(cmd.OutOrStdout(), "policy", "value")
	for _, r := range [][2]string{
		{"name", j.Name},
		{"kind", j.Kind},
		{"revision", strconv.FormatUint(j.Revision, 10)},
		{"changed", changed},
		{"reads", policyText(b.Reads)},
		{"writes", policyText(b.Writes)},
		{"sloppy", strconv.FormatBool(j.Sloppy)},
		{"require context", strconv.FormatBool(j.RequireContext)},
		{"warn siblings", strconv.Itoa(j.WarnSiblings)},
		{"max siblings", strconv.Itoa(j.MaxSiblings)},
		{"max value", maxValueText(b)},
		{"ttl", ttlText(b.TTL)},
		{"regions", regions},
		{"home", home},
	} {
		rows.AppendRow([]any{r[0], r[1]})
	}
	rows.Render()
	return nil
}

// policyText says what the policy says, and "any" where that is nothing.
func policyText(p client.LevelPolicy) string {
	var parts []string
	for _, l := range []struct {
		name  string
		level client.Level
	}{{"default ", p.Default}, {"min ", p.Min}, {"max ", p.Max}, {"OVERRIDE ", p.Override}} {
		if l.level != 0 {
			parts = append(parts, l.name+l.level.String())
		}
	}
	if len(parts) == 0 {
		return "any"
	}
	return strings.Join(parts, ", ")
}

func maxValueText(b client.BucketInfo) string {
	if b.MaxValue == 0 {
		return process.Size(defaultMaxValue).String()
	}
	return process.Size(b.MaxValue).String()
}

func siblingsText(b client.BucketInfo) string {
	j := bucketForm(b)
	return strconv.Itoa(j.WarnSiblings) + "/" + strconv.Itoa(j.MaxSiblings)
}

func ttlText(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return d.String()
}

func moreText(b client.BucketInfo) string {
	var parts []string
	if b.Sloppy {
		parts = append(parts, "sloppy")
	}
	if b.RequireContext {
		parts = append(parts, "context required")
	}
	if b.Home != "" {
		parts = append(parts, "home "+b.Home)
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, ", ")
}
