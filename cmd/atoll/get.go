package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crdt"
)

// objectJSON is what get and siblings print of a key with -o json.
type objectJSON struct {
	Bucket string  `json:"bucket"`
	Key    *string `json:"key,omitempty"`
	KeyB64 []byte  `json:"key_b64,omitempty"`
	Found  bool    `json:"found"`
	// Value is there when there is one value and no conflict.
	Value    *string `json:"value,omitempty"`
	ValueB64 []byte  `json:"value_b64,omitempty"`
	// Context is for --after of the next write.
	Context  string        `json:"context"`
	Siblings []siblingJSON `json:"siblings"`
	Achieved achievedJSON  `json:"achieved"`
}

func (q *request) objectJSON(key string, obj client.Object) objectJSON {
	k := textOf([]byte(key))
	j := objectJSON{
		Bucket: q.bucket, Key: k.plain, KeyB64: k.base64, Found: obj.Exists(),
		Context: obj.Version().String(), Siblings: siblingsJSON(obj.Siblings()), Achieved: q.achieved(),
	}
	if obj.Value() != nil {
		v := textOf(obj.Value())
		j.Value, j.ValueB64 = v.plain, v.base64
	}
	return j
}

func getCommand() *cobra.Command {
	var q request
	cmd := &cobra.Command{
		Use:   "get KEY",
		Short: "Print the value of a key",
		Long: `Print the value of a key: its bytes, and nothing else.

If concurrent writes were not resolved there is no one value to print: stdout
stays empty and the exit code is 5; 'atoll siblings' shows them and 'atoll
resolve' makes one value of them. With -o json all of it is printed in any
case, with the context that a write that follows this read names by --after.

--version prints one sibling, by the version that 'atoll siblings' shows.`,
		Example: `  atoll get cart/42
  atoll get cart/42 --consistency local-one
  atoll get cart/42 --version 17@1.4
  atoll get cart/42 -o json | jq -r .context`,
		Args: cobra.ExactArgs(1),
	}
	q.serverFlags(cmd, defaultTimeout)
	q.followFlags(cmd)
	q.bucketFlag(cmd)
	q.readFlags(cmd)
	q.sessionFlag(cmd)
	q.stalenessFlags(cmd)
	out := formatFlag(cmd, "raw", "json")
	var version string
	cmd.Flags().StringVar(&version, "version", "", "print the sibling with this `VERSION`")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if cmd.Flags().Changed("version") {
			return runGetVersion(cmd, &q, out, args[0], version)
		}
		return runGet(cmd, &q, out, args[0])
	}
	return cmd
}

func runGet(cmd *cobra.Command, q *request, out *format, key string) error {
	if err := q.checkStaleness(cmd); err != nil {
		return err
	}
	c, err := q.open(cmd)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // reads leave nothing behind
	if c, err = q.inSession(cmd, c); err != nil {
		return err
	}
	var obj client.Object
	err = q.accepting(cmd, c, func() (err error) {
		obj, err = c.Get(cmd.Context(), key, q.readOptions()...)
		return err
	})
	if kept := q.keepSession(c); kept != nil {
		return kept
	}
	conflict, absent := errors.Is(err, client.ErrSiblings), errors.Is(err, client.ErrNotFound)
	if err != nil && !conflict && !absent {
		return q.failure(err)
	}
	if out.value == "json" {
		if err := printJSON(cmd.OutOrStdout(), q.objectJSON(key, obj)); err != nil {
			return err
		}
	}
	switch {
	case conflict:
		return withCode(exitSiblings, fmt.Errorf("%q has %d siblings\n  next: 'atoll siblings %s' shows them, 'atoll resolve %s' makes one value of them",
			key, len(obj.Siblings()), key, key))
	case absent:
		return withCode(exitNotFound, fmt.Errorf("%q has no value", key))
	case out.value == "raw":
		_, err = cmd.OutOrStdout().Write(obj.Value())
		return err
	}
	return nil
}

func runGetVersion(cmd *cobra.Command, q *request, out *format, key, version string) error {
	dot, err := crdt.ParseDot(version)
	if err != nil {
		return usage(cmd, fmt.Errorf("not a version%s", inputBounds("version", "SEQUENCE@REGION.N", strconv.Quote(shorten(version, 40)))))
	}
	c, err := q.open(cmd)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // reads leave nothing behind
	var opts []client.ReadOption
	if cmd.Flags().Changed("consistency") {
		opts = append(opts, client.Level(q.level))
	}
	s, err := c.GetVersion(cmd.Context(), key, client.VersionID{Actor: uint32(dot.Actor), N: dot.N}, opts...)
	switch {
	case errors.Is(err, client.ErrNoVersion):
		return withCode(exitNotFound, fmt.Errorf("%q has no version %s, or not any more", key, version))
	case err != nil:
		return q.failure(err)
	case out.value == "json":
		return printJSON(cmd.OutOrStdout(), siblingsJSON([]client.Sibling{s})[0])
	case s.Deleted:
		return withCode(exitNotFound, fmt.Errorf("version %s of %q is a delete", version, key))
	}
	_, err = cmd.OutOrStdout().Write(s.Value)
	return err
}
