package intake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/client"
)

// server is what an import writes to: it fails as often as told.
type server struct {
	mu     sync.Mutex
	values map[string][]string // in the order of writes
	fate   func(key, value string) error
	delay  time.Duration
	most   int // items in one Put
}

var (
	errAway    = &client.Error{Reason: "UNAVAILABLE", Detail: "away"}
	errTooBig  = &client.Error{Reason: "INVALID", Field: "value", Limit: "1 bytes", Seen: "2 bytes"}
	errUnknown = &client.Error{Reason: "UNKNOWN_OUTCOME", Outcome: client.UnknownOutcome, Detail: "who knows"}
	errLevel   = &client.Error{Reason: "INVALID", Field: "level", Limit: "3", Seen: "5"}
	errBucket  = &client.Error{Reason: "NO_BUCKET"}
	errFenced  = &client.Error{Reason: "REGION_FENCED"}
)

func (s *server) put(ctx context.Context, items []client.Item) []client.PutResult {
	if s.delay > 0 {
		time.Sleep(s.delay)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.most = max(s.most, len(items))
	out := make([]client.PutResult, len(items))
	seen := map[string]bool{}
	for i, it := range items {
		if seen[it.Key] {
			panic("a key twice in one Put: the items of one are written in any order")
		}
		seen[it.Key] = true
		if ctx.Err() != nil {
			out[i].Err = ctx.Err()
			continue
		}
		if s.fate != nil {
			out[i].Err = s.fate(it.Key, string(it.Value))
		}
		if out[i].Err == nil || errors.Is(out[i].Err, client.ErrUnknownOutcome) {
			s.values[it.Key] = append(s.values[it.Key], string(it.Value))
		}
	}
	return out
}

type rejects struct {
	lines map[int]error
	raw   bytes.Buffer
}

func (r *rejects) add(n int, raw []byte, err error) {
	if _, twice := r.lines[n]; twice {
		panic(fmt.Sprintf("line %d was rejected twice", n))
	}
	r.lines[n] = err
	r.raw.Write(append(raw, '\n'))
}

func newServer(fate func(key, value string) error) *server {
	return &server{values: map[string][]string{}, fate: fate}
}

func config(s *server, r *rejects) Config {
	return Config{Put: s.put, Reject: r.add, Lines: 64, Patience: time.Minute}
}

func text(keys ...string) string {
	var b strings.Builder
	for i, k := range keys {
		fmt.Fprintf(&b, "{\"key\":%q,\"value\":%d}\n", k, i+1)
	}
	return b.String()
}

func numbered(n int) string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("k%d", i+1)
	}
	return text(keys...)
}

func TestEveryLineIsCountedOnce(t *testing.T) {
	s, r := newServer(func(key, _ string) error {
		switch key {
		case "big":
			return errTooBig
		case "maybe":
			return errUnknown
		}
		return nil
	}), &rejects{lines: map[int]error{}}
	in := New(config(s, r))
	input := text("a", "big") + "\n  \n" + "garbage\n" + `{"key":"maybe","value":1}` + "\n" + `{"key":"z","value":26}`
	if err := in.Run(t.Context(), strings.NewReader(input)); err != nil {
		t.Fatal(err)
	}
	want := Result{Read: 7, OK: 4, Failed: 2, Unknown: 1, Resume: 7}
	if got := in.Result(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if len(r.lines) != 3 || !errors.Is(r.lines[2], client.ErrTooLarge) || r.lines[5] == nil || !errors.Is(r.lines[6], client.ErrUnknownOutcome) {
		t.Errorf("rejected %v", r.lines)
	}
	if s.values["z"][0] != "26" {
		t.Errorf("the last line, without a newline, is %v", s.values["z"])
	}
}

// N4: the last of several lines with a key is the last that is written, though
// lines of other keys are written beside them.
func TestLinesOfOneKeyKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := newServer(nil), &rejects{}
		s.delay = time.Millisecond
		cfg := config(s, r)
		cfg.Lines = 4096
		var keys []string
		for i := range 600 {
			keys = append(keys, fmt.Sprintf("k%d", i%7), fmt.Sprintf("other%d", i))
		}
		if err := New(cfg).Run(t.Context(), strings.NewReader(text(keys...))); err != nil {
			t.Fatal(err)
		}
		for k, values := range s.values {
			for i := 1; i < len(values); i++ {
				var a, b int
				fmt.Sscan(values[i-1], &a)
				fmt.Sscan(values[i], &b)
				if a >= b {
					t.Fatalf("key %s: line %d was written before line %d", k, b, a)
				}
			}
		}
		if s.most < 2 {
			t.Errorf("lines were not batched")
		}
	})
}

func TestWhatWasNotAppliedIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		s, r := newServer(func(string, string) error {
			if time.Since(began) < 20*time.Second {
				return errAway
			}
			return nil
		}), &rejects{}
		in := New(config(s, r))
		if err := in.Run(t.Context(), strings.NewReader(numbered(100))); err != nil {
			t.Fatal(err)
		}
		if got, want := in.Result(), (Result{Read: 100, OK: 100, Resume: 100}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	})
}

// An outage longer than Patience stops the import; what it left is written by
// the next one from Resume on.
func TestResumeAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, away := time.Now(), true
		s, r := newServer(func(key, _ string) error {
			if away && (key == "k37" || time.Since(began) > time.Second) {
				return errAway
			}
			return nil
		}), &rejects{}
		s.delay = 10 * time.Millisecond
		in := New(config(s, r))
		err := in.Run(t.Context(), strings.NewReader(numbered(5000)))
		if !errors.Is(err, client.ErrUnavailable) {
			t.Fatalf("the import ended with %v", err)
		}
		if took := time.Since(began); took < time.Minute || took > 70*time.Second {
			t.Errorf("it gave up after %s", took)
		}
		res := in.Result()
		if res.Resume != 36 || res.Failed+res.Unknown != 0 || res.OK < res.Resume {
			t.Fatalf("%+v, want to resume after 36", res)
		}
		away = false
		cfg := config(s, r)
		cfg.Skip = res.Resume
		in = New(cfg)
		if err := in.Run(t.Context(), strings.NewReader(numbered(5000))); err != nil {
			t.Fatal(err)
		}
		if got, want := in.Result(), (Result{Read: 5000, OK: 5000 - 36, Resume: 5000}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		if len(s.values) != 5000 {
			t.Errorf("%d keys were written", len(s.values))
		}
	})
}

func TestInterruption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s, r := newServer(nil), &rejects{}
		s.delay = 100 * time.Millisecond
		in := New(config(s, r))
		time.AfterFunc(1050*time.Millisecond, cancel)
		if err := in.Run(ctx, strings.NewReader(numbered(100000))); !errors.Is(err, context.Canceled) {
			t.Fatalf("it ended with %v", err)
		}
		res := in.Result()
		if res.OK != len(s.values) || res.OK == 0 || res.OK > res.Read || res.Failed+res.Unknown != 0 {
			t.Errorf("%+v, but %d keys were written", res, len(s.values))
		}
		for i := 1; i <= res.Resume; i++ {
			if len(s.values[fmt.Sprintf("k%d", i)]) != 1 {
				t.Fatalf("line %d is before %d and was not written once", i, res.Resume)
			}
		}
	})
}

// Errors that every line would meet end the import at once.
func TestHopelessErrors(t *testing.T) {
	for _, e := range []*client.Error{errLevel, errBucket, errFenced} {
		s, r := newServer(func(string, string) error { return e }), &rejects{}
		in := New(config(s, r))
		if err := in.Run(t.Context(), strings.NewReader(numbered(1000))); !errors.Is(err, e) {
			t.Errorf("%v: the import ended with %v", e, err)
		}
		if res := in.Result(); res.Resume != 0 || res.OK+res.Failed != 0 {
			t.Errorf("%v: %+v", e, res)
		}
	}
}

func TestReadError(t *testing.T) {
	s, r := newServer(nil), &rejects{lines: map[int]error{}}
	in := New(config(s, r))
	broken := errors.New("broken pipe")
	err := in.Run(t.Context(), io.MultiReader(strings.NewReader(numbered(3)+`{"key":"k4","val`), brokenReader{broken}))
	if !errors.Is(err, broken) {
		t.Errorf("it ended with %v", err)
	}
	if got, want := in.Result(), (Result{Read: 3, OK: 3, Resume: 3}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

type brokenReader struct{ err error }

func (r brokenReader) Read([]byte) (int, error) { return 0, r.err }

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := newServer(nil), &rejects{}
		cfg := config(s, r)
		cfg.Rate = 50
		began := time.Now()
		if err := New(cfg).Run(t.Context(), strings.NewReader(numbered(501))); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began).Round(10 * time.Millisecond); took != 10*time.Second {
			t.Errorf("501 lines at 50 a second took %s", took)
		}
	})
}

// N1 to N4 under random trouble: every line up to Resume is written, or
// rejected; what is unknown was sent once.
func TestNothingIsLost(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		lines := rapid.IntRange(0, 300).Draw(rt, "lines")
		keys := rapid.SliceOfN(rapid.IntRange(0, 200), lines, lines).Draw(rt, "keys")
		fates := rapid.SliceOfN(rapid.SampledFrom([]error{nil, nil, nil, errAway, errUnknown, errTooBig}), 64, 64).Draw(rt, "fates")
		stopAfter := rapid.SampledFrom([]time.Duration{0, 5 * time.Millisecond, 70 * time.Millisecond, time.Hour}).Draw(rt, "stop after")
		width := rapid.IntRange(1, 200).Draw(rt, "width")
		synctest.Test(t, func(t *testing.T) {
			calls := 0
			s, r := newServer(func(string, string) error { calls++; return fates[calls%len(fates)] }), &rejects{lines: map[int]error{}}
			s.delay = time.Millisecond
			cfg := config(s, r)
			cfg.Lines = width
			names := make([]string, lines)
			for i, k := range keys {
				names[i] = fmt.Sprint(k)
			}
			ctx, cancel := context.WithTimeout(t.Context(), stopAfter)
			defer cancel()
			in := New(cfg)
			in.Run(ctx, strings.NewReader(text(names...))) //nolint:errcheck // an interruption
			checkResult(rt, in.Result(), s, r, names)
		})
	})
}

func checkResult(rt *rapid.T, res Result, s *server, r *rejects, names []string) {
	if res.Read > len(names) || res.OK+res.Failed+res.Unknown > res.Read || res.Resume > res.OK+res.Failed+res.Unknown {
		rt.Fatalf("counts do not add up: %+v", res)
	}
	if len(r.lines) != res.Failed+res.Unknown {
		rt.Fatalf("%d were rejected of %+v", len(r.lines), res)
	}
	times := map[string]int{}
	for k, values := range s.values {
		last := 0
		for _, v := range values {
			times[v]++
			var n int
			fmt.Sscan(v, &n)
			if n <= last || names[n-1] != k {
				rt.Fatalf("key %s was written as %v", k, values)
			}
			last = n
		}
	}
	for i := range names {
		n := i + 1
		err, refused := r.lines[n]
		written := times[fmt.Sprint(n)]
		want := 0
		if errors.Is(err, client.ErrUnknownOutcome) || (!refused && n <= res.Resume) {
			want = 1
		}
		if refused && written != want || written > 1 || !refused && written < want {
			rt.Fatalf("line %d was written %d times; rejected: %v; %+v", n, written, err, res)
		}
	}
}
