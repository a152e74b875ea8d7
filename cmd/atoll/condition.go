package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crdt"
)

// conditionFlags are what must be there for a write to happen.
type conditionFlags struct {
	absent, present  bool
	version, context string
}

const conditionHelp = `With --if-absent, --if-present, --if-version or --if-context the write happens
only if that holds, and then replaces all that is there. If it does not hold
nothing is written, the exit code is 4, and what is there is told; with -o json
as 'atoll get -o json' prints it, with the context for the next try. It is
certain with --consistency local-serial: of two such writes one happens. At
other levels one owner judges it, and concurrent writes become siblings.`

func (q *request) conditionFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&q.condition.absent, "if-absent", false, "only if the key has no value")
	f.BoolVar(&q.condition.present, "if-present", false, "only if the key has a value, or siblings")
	f.StringVar(&q.condition.version, "if-version", "", "only if this `VERSION`, as siblings prints it, is there, and no sibling")
	f.StringVar(&q.condition.context, "if-context", "",
		"only if nothing is there that this `CONTEXT` has not seen; an empty one has seen nothing")
}

// followOptions are of --after and the conditions.
func (q *request) followOptions(cmd *cobra.Command, c *client.Client, key string) ([]client.WriteOption, error) {
	if err := atMostOne(cmd, "if-absent", "if-present", "if-version", "if-context"); err != nil {
		return nil, err
	}
	if err := atMostOne(cmd, "after", "if-context"); err != nil {
		return nil, err
	}
	var opts []client.WriteOption
	flags := cmd.Flags()
	if flags.Changed("after") {
		v, err := q.version(cmd, c, key, "after", q.after)
		if err != nil {
			return nil, err
		}
		opts = append(opts, client.After(v))
	}
	switch of := &q.condition; {
	case of.absent:
		opts = append(opts, client.IfAbsent())
	case of.present:
		opts = append(opts, client.IfPresent())
	case flags.Changed("if-version"):
		dot, err := crdt.ParseDot(of.version)
		if err != nil {
			return nil, usage(cmd, fmt.Errorf("not a version%s",
				inputBounds("if-version", "SEQUENCE@REGION.N", strconv.Quote(shorten(of.version, 40)))))
		}
		opts = append(opts, client.IfVersion(client.VersionID{Actor: uint32(dot.Actor), N: dot.N}))
	case flags.Changed("if-context"):
		q.after = of.context
		v, err := q.version(cmd, c, key, "if-context", of.context)
		if err != nil {
			return nil, err
		}
		opts = append(opts, client.IfUnchanged(v))
	}
	return opts, nil
}

// conditionFailed shows what is there in place of what the condition asked for.
func (q *request) conditionFailed(cmd *cobra.Command, out *format, key string, err error) error {
	var e *client.Error
	if !errors.As(err, &e) {
		return q.failure(err)
	}
	obj, ok := e.Current()
	if !ok {
		return q.failure(err)
	}
	if out.value == "json" {
		if jerr := printJSON(cmd.OutOrStdout(), q.objectJSON(key, obj)); jerr != nil {
			return jerr
		}
	}
	return q.failure(described{e.Detail + "\n" + thereText(obj), err})
}

// thereText is what is there, for people.
func thereText(obj client.Object) string {
	if !obj.Exists() {
		return "  there is: no value"
	}
	var b strings.Builder
	b.WriteString("  there is:")
	for _, s := range obj.Siblings() {
		value := preview(s.Value)
		switch {
		case s.Deleted:
			value = "(deleted)"
		case s.Omitted:
			value = "(left out)"
		}
		fmt.Fprintf(&b, "\n    %s of %s: %s", versionText(s.ID), s.Region, value+equalText(s))
	}
	return b.String()
}
