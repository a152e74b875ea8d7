package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/cmd/atoll/bulk"
	"github.com/atolldb/atoll/cmd/atoll/dump"
	"github.com/atolldb/atoll/cmd/atoll/recovery"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

type restoreFlags struct {
	request
	bulkFlags
	conflict           conflictFlag
	check, dry         bool
	unsealed, noDefine bool
	report             string
}

func restoreCommand() *cobra.Command {
	q := restoreFlags{bulkFlags: bulkFlags{item: "record", most: 1 << 12, longest: 5 * time.Minute}}
	cmd := &cobra.Command{
		Use:   "restore (FILE | -)",
		Short: "Write what is in a backup into a deployment, new or living",
		Long: `Write the values of a backup. Buckets that are not there are made. All values of
a key that were siblings are siblings again; a value that was to expire lives
until then, and is left out if that is over. Keys that the backup has as deleted
are not touched. What is written are new writes: contexts, session tokens and
versions of the old deployment mean nothing to a new one.

What becomes of a key that is there already, --on-conflict says:

                             keep     sibling       replace
  never written              written  written       written
  has the backup's values    -        -             the backup's alone
  has other values           left     added beside  the backup's alone
  was deleted                left     left          written again

keep, the default, changes no key that anybody has written. In buckets of kind
lww, which have no siblings, sibling is keep. What was left is counted, and
--report keeps which keys it was.

A FILE is read to its end and checked before anything is written: a file that was
cut off, or changed, is refused. What comes on standard input (-) is checked while
it is read: whether it was whole is known at the end. --check does only that, and
asks no server; --dry-run reads every key besides, and says what would be done.

What was not applied is tried again until --patience is over; then, or when it is
interrupted, the restore waits for what is under way and says from where --skip
resumes it. It may be run again in any case: what is there is not written twice.`,
		Example: `  atoll restore atoll-2026-11-22.backup --endpoints eu-1:7400
  zstd -dc backup.zst | atoll restore - --on-conflict sibling --report rest.jsonl
  atoll restore --check atoll-2026-11-22.backup`,
		Args: cobra.ExactArgs(1),
	}
	q.serverFlags(cmd, importTimeout)
	f := cmd.Flags()
	f.StringVar(&q.bucket, "bucket", "", "`NAME` of the bucket; without it, all that the backup has")
	q.levelFlag(cmd)
	f.Lookup("consistency").Usage = "of reads and writes, see 'atoll help consistency'; without it, as the buckets say: " + strings.Join(levelNames(), ", ")
	f.Var(&q.conflict, "on-conflict", "what becomes of keys that are there: "+strings.Join(recovery.Conflicts, ", "))
	complete(cmd, "on-conflict", recovery.Conflicts)
	f.BoolVar(&q.check, "check", false, "read and check the backup, and write nothing")
	f.BoolVar(&q.dry, "dry-run", false, "read every key, say what would be done, and write nothing")
	f.BoolVar(&q.unsealed, "unsealed", false, "the file is of 'atoll export': it has no buckets, and nothing tells whether its end is missing")
	f.BoolVar(&q.noDefine, "no-buckets", false, "make and change no buckets")
	q.add(cmd, 128)
	f.StringVar(&q.report, "report", "", "new `FILE` for the keys that are not as in the backup, and why, as JSON lines")
	out := formatFlag(cmd, "none", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return runRestore(cmd, &q, out, args[0]) }
	return cmd
}

func runRestore(cmd *cobra.Command, q *restoreFlags, out *format, name string) error {
	if err := errors.Join(q.bulkFlags.check(cmd), atMostOne(cmd, "check", "dry-run"), q.request.check(cmd)); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process
	cmd.SetContext(ctx)
	if name != "-" || q.check {
		if err := q.readThrough(ctx, cmd, out, name); err != nil || q.check {
			return err
		}
	}
	input, size, err := openInput(ctx, cmd, name)
	if err != nil {
		return withCode(exitUsage, err)
	}
	defer input.Close() //nolint:errcheck // only read
	report, err := openRejects(q.report, q.item)
	if err != nil {
		return err
	}
	read := &countingReader{Reader: input}
	res, took, err := q.restore(ctx, cmd, dump.NewReader(read, q.unsealed), report, func() (int64, int64) { return read.n.Load(), size })
	if closeErr := report.close(); closeErr != nil {
		err = errors.Join(err, closeErr)
	}
	if res == nil {
		return err
	}
	return q.finish(cmd, out, *res, took, err)
}

// readThrough reads all of a backup, and tells what it is, or what is wrong with it.
func (q *restoreFlags) readThrough(ctx context.Context, cmd *cobra.Command, out *format, name string) error {
	input, _, err := openInput(ctx, cmd, name)
	if err != nil {
		return withCode(exitUsage, err)
	}
	defer input.Close() //nolint:errcheck // only read
	r := dump.NewReader(input, q.unsealed)
	var n exported
	var head dump.Head
	var newest uint64
	buckets := 0
	for ctx.Err() == nil {
		it, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("this is no whole backup, nothing was written: %w", err)
		}
		switch {
		case it.Head != nil:
			head = *it.Head
		case it.Definition != nil:
			buckets++
			if _, err := bucketOf(*it.Definition); err != nil {
				return err
			}
		default:
			n.count(it.Record)
			for _, v := range it.Record.Versions {
				newest = max(newest, v.Stamp)
			}
		}
	}
	if ctx.Err() != nil {
		return errors.New("interrupted; nothing was written")
	}
	kept := "the backup is whole"
	if q.unsealed {
		kept = "each line is right; whether the last ones are missing cannot be told"
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s, %d buckets, %d records: %d with siblings, %d deletes\n",
		kept, origin(head), buckets, n.records, n.siblings, n.deletes)
	if q.check && out.value == "json" {
		form := map[string]any{
			"whole": !q.unsealed, "region": head.Region, "buckets": buckets, "records": n.records, "siblings": n.siblings,
			"deletes": n.deletes, "newest": stampText(newest),
		}
		if !q.unsealed {
			form["began"] = head.Began.Format(timeForm)
		}
		return printJSON(cmd.OutOrStdout(), form)
	}
	return nil
}

func origin(h dump.Head) string {
	if h.Region == "" {
		return "of unknown origin"
	}
	return fmt.Sprintf("of region %s, begun %s", h.Region, h.Began.Format(timeForm))
}

func stampText(stamp uint64) string {
	if stamp == 0 {
		return "-"
	}
	return time.UnixMilli(dump.StampMillis(stamp)).UTC().Format(timeForm)
}

// restore does it; there is no result when it did not begin.
func (q *restoreFlags) restore(
	ctx context.Context, cmd *cobra.Command, r *dump.Reader, report *rejectFile, progress func() (read, size int64),
) (*recovery.Result, time.Duration, error) {
	c, err := q.open(cmd, client.NoSession())
	if err != nil {
		return nil, 0, err
	}
	defer c.Close() //nolint:errcheck // all writes are answered
	b := backupReader{r: r, q: q, define: definer{q: q, c: c, cmd: cmd}}
	buckets, err := b.define.all(ctx) // definitions come before records, and make it longer
	if err != nil {
		return nil, 0, q.failure(err)
	}
	pace := bulk.NewPacer(q.rate)
	cfg := recovery.Config{
		Client: c, Buckets: buckets, Conflict: recovery.Conflict(q.conflict), Dry: q.dry, Skip: q.skip, InFlight: q.inFlight,
		Wait: pace.Wait, Patience: q.patience,
		Tell: func(n int, r *adminv1.ExportRecord, v recovery.Verdict, err error) { q.tell(cmd, report, n, r, v, err) },
	}
	if q.level != 0 || q.regions > 0 {
		cfg.Read = []client.ReadOption{client.Level(q.level)}
		cfg.Write = []client.WriteOption{client.Level(q.level)}
		if q.regions > 0 {
			cfg.Read, cfg.Write = append(cfg.Read, client.Regions(int(q.regions))), append(cfg.Write, client.Regions(int(q.regions)))
		}
	}
	run := recovery.New(cfg)
	began := time.Now()
	told := startProgress(cmd.ErrOrStderr(), func() string {
		res := run.Result()
		at, of := progress()
		s := fmt.Sprintf("%d records, %.0f/s, %d failed, %d unknown", res.Done(), float64(res.Done())/max(time.Since(began).Seconds(), 1e-9), res.Failed, res.Unknown)
		if of > 0 {
			s = fmt.Sprintf("%3d %%  ", min(100*at/of, 100)) + s
		}
		return s
	})
	err = run.Run(ctx, func() (*adminv1.ExportRecord, int, error) { return b.next(ctx) })
	told.end()
	res := run.Result()
	return &res, time.Since(began), err
}

// backupReader gives out the records that are asked for, and has buckets made on
// the way.
type backupReader struct {
	r      *dump.Reader
	q      *restoreFlags
	define definer
}

func (b *backupReader) next(ctx context.Context) (*adminv1.ExportRecord, int, error) {
	for {
		it, err := b.r.Next()
		var damage *dump.Damage
		switch {
		case errors.As(err, &damage):
			return nil, 0, fmt.Errorf("this is no whole backup: %w", damage)
		case err != nil:
			return nil, 0, err
		case it.Definition != nil && (b.q.bucket == "" || b.q.bucket == it.Definition.Name):
			if err := b.define.bucket(ctx, *it.Definition); err != nil {
				return nil, 0, err
			}
		case it.Record != nil && (b.q.bucket == "" || b.q.bucket == it.Record.Bucket):
			return it.Record, it.Size, nil
		}
	}
}

// tell names a record that is not in the store as it is in the backup. Keys go
// into the report, and nowhere else.
func (q *restoreFlags) tell(cmd *cobra.Command, report *rejectFile, n int, r *adminv1.ExportRecord, v recovery.Verdict, err error) {
	what, why := v.String(), ""
	switch {
	case err != nil && errors.Is(err, client.ErrUnknownOutcome):
		what, why = "unknown", err.Error()
	case err != nil:
		what, why = "failed", q.failure(err).Error()
	}
	t := textOf(r.Key)
	line := struct {
		Record int     `json:"record"`
		What   string  `json:"what"`
		Bucket string  `json:"bucket"`
		Key    *string `json:"key,omitempty"`
		KeyB64 []byte  `json:"key_b64,omitempty"`
		Why    string  `json:"why,omitempty"`
	}{n, what, r.Bucket, t.plain, t.base64, why}
	var text strings.Builder
	if printErr := printJSON(&text, line); printErr != nil {
		return // strings and numbers are always encoded
	}
	raw := []byte(strings.TrimSuffix(text.String(), "\n"))
	if err == nil {
		report.keep(raw)
		return
	}
	report.add(cmd.ErrOrStderr(), n, raw, err)
}

// finish tells the result, and chooses the exit code.
func (q *restoreFlags) finish(cmd *cobra.Command, out *format, res recovery.Result, took time.Duration, runErr error) error {
	by := func(v recovery.Verdict) int { return res.Count(v) }
	would := "restored"
	if q.dry {
		would = "nothing was written; a restore would take"
	}
	fmt.Fprintf(cmd.ErrOrStderr(), `%s %d records in %s, %.0f/s
  %d written, %d present, %d added as siblings, %d replaced
  %d left with other values, %d left deleted, %d deleted in the backup, %d expired since
  %d failed, %d unknown; the newest write that was read is of %s
`, would, res.Done(), took.Round(time.Millisecond), float64(res.Done())/max(took.Seconds(), 1e-9),
		by(recovery.Written), by(recovery.Present), by(recovery.Added), by(recovery.Replaced),
		by(recovery.Left), by(recovery.LeftDeleted), by(recovery.Dead), by(recovery.Expired),
		res.Failed, res.Unknown, stampText(res.Newest))
	if out.value == "json" {
		form := map[string]any{
			"failed": res.Failed, "unknown": res.Unknown, "resume": res.Resume, "seconds": took.Seconds(),
			"complete": runErr == nil, "dry_run": q.dry, "newest": stampText(res.Newest),
		}
		for v := recovery.Written; v <= recovery.Expired; v++ {
			form[v.String()] = res.Count(v)
		}
		if err := printJSON(cmd.OutOrStdout(), form); err != nil {
			return err
		}
	}
	code := exitError
	if res.Unknown > 0 {
		code = exitUnknown
	}
	switch {
	case runErr != nil:
		why := runErr
		var coded codedError
		switch {
		case errors.Is(runErr, context.Canceled):
			why = errors.New("interrupted")
		case !errors.As(runErr, &coded):
			why = q.failure(runErr)
		}
		if c := exitCode(why); code != exitUnknown {
			code = c
		}
		return withCode(code, fmt.Errorf("the restore is not complete: %w\n  next: %s", why, q.next(runErr, res.Resume)))
	case res.Failed+res.Unknown > 0:
		return withCode(code, fmt.Errorf("%d keys were not written, of %d more it is not known; --report FILE keeps which", res.Failed, res.Unknown))
	}
	return nil
}

// conflictFlag is --on-conflict.
type conflictFlag recovery.Conflict

// Set implements pflag.Value.
func (c *conflictFlag) Set(s string) error {
	for i, name := range recovery.Conflicts {
		if name == s {
			*c = conflictFlag(i)
			return nil
		}
	}
	return fmt.Errorf("no such way%s", inputBounds("on-conflict", strings.Join(recovery.Conflicts, "|"), s))
}

func (c *conflictFlag) String() string { return recovery.Conflict(*c).String() }

// Type implements pflag.Value.
func (*conflictFlag) Type() string { return "WAY" }
