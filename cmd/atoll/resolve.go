package main

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

type resolveFlags struct {
	request
	pick, value, file, with string
	remove                  bool
}

// verdict is what one value is made of the siblings.
type verdict struct {
	action string // "kept", "merged" or "deleted"
	kept   int    // index, -1 unless kept
	value  []byte
	ttl    time.Duration // what is left of the kept one's, 0 for none
}

// resolvedJSON is what resolve prints with -o json.
type resolvedJSON struct {
	writtenJSON
	Action string `json:"action"`
	// Kept is the version that was kept, Replaced all others.
	Kept     string   `json:"kept,omitempty"`
	Replaced []string `json:"replaced"`
}

func resolveCommand() *cobra.Command {
	var q resolveFlags
	cmd := &cobra.Command{
		Use:   "resolve KEY (--pick N | --value VALUE | --file FILE | --delete | --with CMD)",
		Short: "Make one value of a key's siblings",
		Long: `Read the siblings of a key and write one value in their place, with the context
of that read: what somebody writes meanwhile stays, as a sibling.

  --pick    keeps the sibling with that number or version, as 'atoll siblings'
            shows them. Numbers shift when a sibling joins; versions do not.
  --with    runs a shell command that gets what 'atoll siblings -o json' prints
            on its standard input; what it prints becomes the value, byte by
            byte. If it fails, nothing is written.

A key with one version is left as it is.`,
		Example: `  atoll resolve cart/42 --pick 1
  atoll resolve cart/42 --pick 3@2.17
  atoll resolve tags --with 'jq -r ".siblings[].value" | sort -u'`,
		Args: cobra.ExactArgs(1),
	}
	q.serverFlags(cmd, defaultTimeout)
	q.followFlags(cmd)
	q.bucketFlag(cmd)
	q.readFlags(cmd)
	q.writeFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&q.pick, "pick", "", "keep the sibling with this number or version: `N`")
	f.StringVar(&q.value, "value", "", "write `VALUE`")
	f.StringVar(&q.file, "file", "", "write what `FILE` holds")
	f.BoolVar(&q.remove, "delete", false, "delete the key")
	f.StringVar(&q.with, "with", "", "write what the shell command `CMD` makes of them")
	out := formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return runResolve(cmd, &q, out, args[0]) }
	return cmd
}

func runResolve(cmd *cobra.Command, q *resolveFlags, out *format, key string) error {
	ways := []string{"pick", "value", "file", "delete", "with"}
	if err := atMostOne(cmd, ways...); err != nil {
		return err
	}
	if !slices.ContainsFunc(ways, cmd.Flags().Changed) {
		return usage(cmd, errors.New("give one of --"+strings.Join(ways, ", --")))
	}
	c, err := q.open(cmd)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // the write is answered
	obj, err := q.readAll(cmd, c, key)
	if err != nil {
		return err
	}
	siblings := obj.Siblings()
	if len(siblings) == 0 || len(siblings) == 1 && len(siblings[0].Equals) == 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%q has one version: nothing to resolve\n", key)
		return nil
	}
	d, err := q.decide(cmd, key, obj)
	if err != nil {
		return err
	}
	opts := append(q.writeOptions(), client.After(obj.Version()))
	var version client.Version
	if d.action == "deleted" {
		version, err = c.Delete(cmd.Context(), key, opts...)
	} else {
		if d.ttl > 0 {
			opts = append(opts, client.TTL(d.ttl))
		}
		version, err = c.Put(cmd.Context(), key, d.value, opts...)
	}
	if err != nil && !errors.Is(err, client.ErrPartial) {
		return q.failure(err)
	}
	if terr := q.tell(cmd, out, key, siblings, d, version); terr != nil {
		return terr
	}
	return q.failure(err) // nil, or partial
}

func (q *resolveFlags) decide(cmd *cobra.Command, key string, obj client.Object) (verdict, error) {
	d := verdict{action: "merged", kept: -1}
	var err error
	switch {
	case cmd.Flags().Changed("pick"):
		return pick(cmd, q.pick, obj.Siblings(), time.Now())
	case cmd.Flags().Changed("value"):
		d.value = []byte(q.value)
	case cmd.Flags().Changed("file"):
		d.value, err = readFile(q.file)
	case cmd.Flags().Changed("with"):
		d.value, err = q.runWith(cmd, key, obj)
	case q.remove:
		d.action = "deleted"
	default:
		err = usage(cmd, errors.New("--delete=false decides nothing"))
	}
	return d, err
}

// pick finds the sibling that name is the number or the version of.
func pick(cmd *cobra.Command, name string, siblings []client.Sibling, now time.Time) (verdict, error) {
	found := -1
	for i, s := range siblings {
		if strconv.Itoa(i) == name || versionText(s.ID) == name {
			found = i
		}
	}
	if found < 0 {
		return verdict{}, usage(cmd, fmt.Errorf("no such sibling%s",
			inputBounds("pick", fmt.Sprintf("0..%d or a version", len(siblings)-1), strconv.Quote(shorten(name, 40)))))
	}
	s := siblings[found]
	if s.Deleted {
		return verdict{action: "deleted", kept: found}, nil
	}
	d := verdict{action: "kept", kept: found, value: s.Value}
	if !s.Expires.IsZero() {
		// At the least a millisecond: it expires as it would have.
		d.ttl = max(s.Expires.Sub(now), time.Millisecond)
	}
	return d, nil
}

func (q *resolveFlags) runWith(cmd *cobra.Command, key string, obj client.Object) ([]byte, error) {
	var in, out bytes.Buffer
	if err := printJSON(&in, q.objectJSON(key, obj)); err != nil {
		return nil, err
	}
	sh := exec.CommandContext(cmd.Context(), "sh", "-c", q.with)
	sh.Stdin, sh.Stdout, sh.Stderr = &in, &out, cmd.ErrOrStderr()
	if err := sh.Run(); err != nil {
		return nil, fmt.Errorf("the command of --with failed, nothing was written: %w", err)
	}
	if out.Len() > maxValue {
		return nil, tooLarge(fmt.Sprintf("%d bytes", out.Len()))
	}
	return out.Bytes(), nil
}

func (q *resolveFlags) tell(
	cmd *cobra.Command, out *format, key string, siblings []client.Sibling, d verdict, version client.Version,
) error {
	j := resolvedJSON{writtenJSON: q.writtenJSON(key, version), Action: d.action, Replaced: []string{}}
	var others []string
	for i, s := range siblings {
		for _, id := range s.Equals {
			j.Replaced = append(j.Replaced, versionText(id))
		}
		if i == d.kept {
			j.Kept = versionText(s.ID)
			if n := len(s.Equals); n > 0 {
				others = append(others, fmt.Sprintf("%d equal", n))
			}
			continue
		}
		j.Replaced = append(j.Replaced, versionText(s.ID))
		others = append(others, fmt.Sprintf("%d (%s, %s)%s", i, versionText(s.ID), s.Region, equalText(s)))
	}
	if out.value == "json" {
		return printJSON(cmd.OutOrStdout(), j)
	}
	did := map[string]string{
		"merged":  fmt.Sprintf("wrote %d bytes", len(d.value)),
		"deleted": "deleted the key",
	}[d.action]
	if d.action == "kept" {
		s := siblings[d.kept]
		did = fmt.Sprintf("kept %d (%s, %s)", d.kept, versionText(s.ID), s.Region)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%q: %s in place of %s\n", key, did, strings.Join(others, ", "))
	return err
}
