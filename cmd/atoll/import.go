package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/cmd/atoll/intake"
)

const (
	importTimeout = 10 * time.Second
	// importTells so many lines that were refused; the rest it counts.
	importTells = 20
)

type importFlags struct {
	request
	bulkFlags
	overwrite bool
	rejects   string
}

func importCommand() *cobra.Command {
	q := importFlags{bulkFlags: bulkFlags{item: "line", most: 1 << 16}}
	cmd := &cobra.Command{
		Use:   "import (FILE | -)",
		Short: "Write many keys from a file of JSON lines",
		Long: `Write many keys. Each line is a JSON object with a key, or key_b64 for bytes
that are no text, and any JSON value, whose bytes are stored as they stand:

  {"key": "cart/42", "value": {"items": ["tea"]}}

A line that is wrong or refused is told with its number, and the others go on;
--rejects keeps those lines, and those whose outcome is unknown, in a file to
be imported again. What was not applied is tried again until --patience is
over; then the import stops and says from where --skip resumes it. An
interruption (Ctrl-C) waits for what is under way and says the same.

Writes are blind: a key that has a value already, or that is in the file
twice, gets a sibling. With --overwrite the last one counts, and a line may be
imported again without harm.`,
		Example: `  atoll import packages.jsonl
  atoll import packages.jsonl --overwrite --rejects rest.jsonl
  zcat backup.gz | atoll import - --rate 5000`,
		Args: cobra.ExactArgs(1),
	}
	q.serverFlags(cmd, importTimeout)
	q.followFlags(cmd)
	q.bucketFlag(cmd)
	q.writeFlags(cmd)
	f := cmd.Flags()
	f.BoolVar(&q.overwrite, "overwrite", false, "replace what is there, siblings included")
	q.add(cmd, 2048)
	f.StringVar(&q.rejects, "rejects", "", "new `FILE` for the lines that were not written, or perhaps not")
	out := formatFlag(cmd, "none", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return runImport(cmd, &q, out, args[0]) }
	return cmd
}

func runImport(cmd *cobra.Command, q *importFlags, out *format, name string) (err error) {
	if err := errors.Join(q.bulkFlags.check(cmd), q.request.check(cmd)); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process
	cmd.SetContext(ctx)
	input, size, err := openInput(ctx, cmd, name)
	if err != nil {
		return withCode(exitUsage, err)
	}
	defer input.Close() //nolint:errcheck // only read
	rejects, err := openRejects(q.rejects, q.item)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := rejects.close(); closeErr != nil && err == nil {
			err = closeErr
		}
	}()
	c, err := q.open(cmd)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // all writes are answered

	opts := []client.WriteOption{client.Level(q.level)}
	if q.w > 0 {
		opts = append(opts, client.W(int(q.w)))
	}
	if q.regions > 0 {
		opts = append(opts, client.Regions(int(q.regions)))
	}
	if q.sloppy {
		opts = append(opts, client.Sloppy())
	}
	if q.overwrite {
		opts = append(opts, client.Overwrite())
	}
	read := &countingReader{Reader: input}
	in := intake.New(intake.Config{
		Put: func(ctx context.Context, items []client.Item) []client.PutResult {
			return c.PutMany(ctx, items, opts...)
		},
		Reject: func(n int, raw []byte, err error) { rejects.add(cmd.ErrOrStderr(), n, raw, q.failure(err)) },
		Skip:   q.skip, Lines: q.inFlight, Rate: q.rate, Patience: q.patience,
	})
	began := time.Now()
	progress := startProgress(cmd.ErrOrStderr(), func() string {
		return importProgress(in.Result(), time.Since(began), read.n.Load(), size)
	})
	runErr := in.Run(ctx, read)
	progress.end()
	return q.finish(cmd, out, in.Result(), time.Since(began), runErr, rejects)
}

// finish tells the result, and chooses the exit code.
func (q *importFlags) finish(
	cmd *cobra.Command, out *format, res intake.Result, took time.Duration, runErr error, rejects *rejectFile,
) error {
	done := res.OK + res.Failed + res.Unknown
	rate := float64(done) / max(took.Seconds(), 1e-9)
	fmt.Fprintf(cmd.ErrOrStderr(), "imported %d lines in %s, %.0f/s: %d ok, %d failed, %d unknown\n",
		done, took.Round(time.Millisecond), rate, res.OK, res.Failed, res.Unknown)
	if out.value == "json" {
		if err := printJSON(cmd.OutOrStdout(), map[string]any{
			"ok": res.OK, "failed": res.Failed, "unknown": res.Unknown, "resume": res.Resume,
			"seconds": took.Seconds(), "rate": rate, "complete": runErr == nil,
		}); err != nil {
			return err
		}
	}
	code := exitError
	if res.Unknown > 0 {
		code = exitUnknown
	}
	switch {
	case runErr != nil:
		why := q.failure(runErr)
		if errors.Is(runErr, context.Canceled) {
			why = errors.New("interrupted")
		}
		if c := exitCode(why); code != exitUnknown {
			code = c
		}
		return withCode(code, fmt.Errorf("the import is not complete: %w\n  next: %s", why, q.next(runErr, res.Resume)))
	case res.Failed+res.Unknown > 0:
		next := "--rejects FILE would have kept them"
		if rejects.file != nil {
			next = "they are in " + q.rejects
		}
		what := fmt.Sprintf("%d lines were not written", res.Failed)
		if res.Unknown > 0 {
			what += fmt.Sprintf(", of %d more it is not known", res.Unknown)
		}
		return withCode(code, errors.New(what+"; "+next))
	}
	return nil
}

func openInput(ctx context.Context, cmd *cobra.Command, name string) (io.ReadCloser, int64, error) {
	if name == "-" {
		return io.NopCloser(&interruptible{ctx: ctx, r: cmd.InOrStdin()}), 0, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err == nil && st.IsDir() {
		err = fmt.Errorf("%s is a directory", name)
	}
	if err != nil {
		f.Close() //nolint:errcheck // only read
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// interruptible reads from what may never send anything and cannot be told to
// stop, such as a terminal. A read that is given up keeps its goroutine until
// something comes.
type interruptible struct {
	ctx  context.Context //nolint:containedctx // io.Reader takes none
	r    io.Reader
	buf  [32 << 10]byte
	rest []byte
	err  error
}

func (i *interruptible) Read(b []byte) (int, error) {
	if len(i.rest) == 0 && i.err == nil {
		done := make(chan struct{})
		go func() {
			n, err := i.r.Read(i.buf[:])
			i.rest, i.err = i.buf[:n], err
			close(done)
		}()
		select {
		case <-done:
		case <-i.ctx.Done():
			return 0, i.ctx.Err() // and i is not used again
		}
	}
	n := copy(b, i.rest)
	if i.rest = i.rest[n:]; len(i.rest) == 0 {
		return n, i.err
	}
	return n, nil
}

type countingReader struct {
	io.Reader
	n atomic.Int64
}

func (r *countingReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.n.Add(int64(n))
	return n, err
}

// rejectFile keeps items and tells the first of them.
type rejectFile struct {
	item string // what their numbers count
	file *os.File
	buf  *bufio.Writer
	told int
	err  error
}

func openRejects(name, item string) (*rejectFile, error) {
	if name == "" {
		return &rejectFile{item: item}, nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, withCode(exitUsage, err)
	}
	return &rejectFile{item: item, file: f, buf: bufio.NewWriter(f)}, nil
}

func (r *rejectFile) add(stderr io.Writer, n int, raw []byte, err error) {
	if r.told < importTells {
		fmt.Fprintf(stderr, "%s %d: %v\n", r.item, n, err)
	} else if r.told == importTells {
		fmt.Fprintf(stderr, "further %ss like these are only counted\n", r.item)
	}
	r.told++
	r.keep(raw)
}

// keep keeps a line without telling it.
func (r *rejectFile) keep(raw []byte) {
	if r.buf == nil || r.err != nil {
		return
	}
	if _, r.err = r.buf.Write(raw); r.err == nil {
		r.err = r.buf.WriteByte('\n')
	}
}

func (r *rejectFile) close() error {
	if r.file == nil {
		return nil
	}
	if err := r.buf.Flush(); r.err == nil {
		r.err = err
	}
	if err := r.file.Close(); r.err == nil {
		r.err = err
	}
	if r.err != nil {
		return fmt.Errorf("write the rejected %ss: %w", r.item, r.err)
	}
	return nil
}

func importProgress(res intake.Result, took time.Duration, read, size int64) string {
	done := res.OK + res.Failed + res.Unknown
	s := fmt.Sprintf("%d lines, %.0f/s, %d failed, %d unknown", done, float64(done)/max(took.Seconds(), 1e-9), res.Failed, res.Unknown)
	if size > 0 {
		s = fmt.Sprintf("%3d %%  ", min(100*read/size, 100)) + s
	}
	return s
}
