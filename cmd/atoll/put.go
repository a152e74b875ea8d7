package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

// maxValue is what no bucket allows to exceed; a bucket's own limit, 1 MiB by
// default, the server knows.
const maxValue = 8 << 20

// writtenJSON is what put and del print with -o json.
type writtenJSON struct {
	Bucket string  `json:"bucket"`
	Key    *string `json:"key,omitempty"`
	KeyB64 []byte  `json:"key_b64,omitempty"`
	// Context covers this write and what it followed; it is for --after of
	// the next one.
	Context string `json:"context"`
	// RequestID names the write in all its attempts; see "atoll outcome".
	RequestID string `json:"request_id"`
	// Replayed: an earlier attempt had written it. MaybeDuplicate: it is there
	// twice, perhaps, since not all owners could say what became of that one.
	Replayed       bool         `json:"replayed,omitempty"`
	MaybeDuplicate bool         `json:"maybe_duplicate,omitempty"`
	Achieved       achievedJSON `json:"achieved"`
}

func (q *request) writtenJSON(key string, v client.Version) writtenJSON {
	k := textOf([]byte(key))
	return writtenJSON{
		Bucket: q.bucket, Key: k.plain, KeyB64: k.base64, Context: v.String(), RequestID: q.info.RequestID.String(),
		Replayed: q.info.Replayed, MaybeDuplicate: q.info.MaybeDuplicate, Achieved: q.achieved(),
	}
}

func (q *request) afterFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&q.after, "after", "",
		"`CONTEXT` that get, put or siblings printed with -o json: replace what it had seen, and nothing else")
}

// version is what the flag names.
func (q *request) version(cmd *cobra.Command, c *client.Client, key, flag, context string) (client.Version, error) {
	v, err := c.ParseVersion(key, context)
	if err != nil {
		return v, usage(cmd, fmt.Errorf("not a context%s",
			inputBounds(flag, "a context that get, put or siblings printed with -o json", strconv.Quote(shorten(context, 40)))))
	}
	return v, nil
}

type putFlags struct {
	request
	file      string
	ttl       time.Duration
	overwrite bool
}

func putCommand() *cobra.Command {
	var q putFlags
	cmd := &cobra.Command{
		Use:   "put KEY (VALUE | - | --file FILE)",
		Short: "Write the value of a key",
		Long: `Write the value of a key. "-" reads the value from standard input.

A write says what it follows: with --after it replaces exactly what that
context had seen. Without it the write is blind, and stands beside what is
there as a sibling; --overwrite replaces whatever the node that takes the
write holds.

` + conditionHelp + `

` + requestHelp,
		Example: `  atoll put cart/42 '{"items":["tea"]}'
  atoll put logo --file logo.png
  generate | atoll put report -
  atoll put cart/42 "$new" --after "$(atoll get cart/42 -o json | jq -r .context)"
  atoll put lock/1 "$HOSTNAME" --if-absent --consistency local-serial
  atoll put order/7 "$order" --retry --request-id "$id"`,
		Args: cobra.RangeArgs(1, 2),
	}
	q.serverFlags(cmd, defaultTimeout)
	q.followFlags(cmd)
	q.bucketFlag(cmd)
	q.writeFlags(cmd)
	q.sessionFlag(cmd)
	q.afterFlag(cmd)
	q.conditionFlags(cmd)
	q.requestFlags(cmd)
	cmd.Flags().StringVar(&q.file, "file", "", "`FILE` that holds the value")
	cmd.Flags().DurationVar(&q.ttl, "ttl", 0, "the value reads as deleted after this time; without it, never")
	cmd.Flags().BoolVar(&q.overwrite, "overwrite", false, "replace what is there, siblings included")
	out := formatFlag(cmd, "none", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return runPut(cmd, &q, out, args) }
	return cmd
}

func runPut(cmd *cobra.Command, q *putFlags, out *format, args []string) error {
	key := args[0]
	if err := atMostOne(cmd, "after", "if-context", "overwrite"); err != nil {
		return err
	}
	if err := q.checkRequest(cmd, key); err != nil {
		return err
	}
	if cmd.Flags().Changed("ttl") && q.ttl <= 0 {
		return usage(cmd, fmt.Errorf("the time to live has to be positive%s", inputBounds("ttl", "> 0", q.ttl.String())))
	}
	value, err := valueOf(cmd, args[1:], q.file)
	if err != nil {
		return err
	}
	c, err := q.open(cmd)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // the write is answered
	if c, err = q.inSession(cmd, c); err != nil {
		return err
	}
	follow, err := q.followOptions(cmd, c, key)
	if err != nil {
		return err
	}
	opts := append(q.writeOptions(), follow...)
	if q.overwrite {
		opts = append(opts, client.Overwrite())
	}
	if q.ttl > 0 {
		opts = append(opts, client.TTL(q.ttl))
	}
	var v client.Version
	err = q.accepting(cmd, c, func() (err error) {
		v, err = c.Put(cmd.Context(), key, value, opts...)
		return err
	})
	return q.kept(c, q.written(cmd, out, key, v, err))
}

// written ends a command that wrote: a write that is partial is told, too.
func (q *request) written(cmd *cobra.Command, out *format, key string, v client.Version, err error) error {
	if errors.Is(err, client.ErrConditionFailed) {
		return q.conditionFailed(cmd, out, key, err)
	}
	if err != nil && !errors.Is(err, client.ErrPartial) {
		return q.failure(err)
	}
	if out.value == "json" {
		if jerr := printJSON(cmd.OutOrStdout(), q.writtenJSON(key, v)); jerr != nil {
			return jerr
		}
	}
	return q.failure(err)
}

// valueOf reads the value that a command was given in one of three ways.
func valueOf(cmd *cobra.Command, args []string, file string) ([]byte, error) {
	switch {
	case file != "" && len(args) > 0:
		return nil, usage(cmd, errors.New("a value and --file: give one of them"))
	case file != "":
		return readFile(file)
	case len(args) == 0:
		return nil, usage(cmd, errors.New("no value: give one, or - for standard input, or --file"))
	case args[0] == "-":
		return readValue(cmd.InOrStdin(), "standard input")
	}
	return []byte(args[0]), nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, withCode(exitUsage, err)
	}
	defer f.Close() //nolint:errcheck // only read
	switch st, err := f.Stat(); {
	case err != nil:
		return nil, err
	case st.IsDir():
		return nil, withCode(exitUsage, fmt.Errorf("%s is a directory", name))
	case st.Size() > maxValue:
		return nil, tooLarge(fmt.Sprintf("%d bytes", st.Size()))
	}
	return readValue(f, name)
}

// readValue stops reading where no value may be.
func readValue(r io.Reader, name string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxValue+1))
	if err != nil {
		return nil, fmt.Errorf("read the value from %s: %w", name, err)
	}
	if len(b) > maxValue {
		return nil, tooLarge(fmt.Sprintf("more than %d bytes", maxValue))
	}
	return b, nil
}

func tooLarge(seen string) error {
	return withCode(exitUsage, fmt.Errorf("value is too large%s", inputBounds("value", fmt.Sprintf("%d bytes", maxValue), seen)))
}
