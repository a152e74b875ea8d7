package badgerstore

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/atolldb/atoll/node/storage"
)

// Some tests need a process that dies: the test binary runs itself, with the
// role in this variable.
const roleVar = "ATOLL_STORE_TEST_ROLE"

func TestMain(m *testing.M) {
	roles := map[string]func(dir string){"write": childWrite, "verify": childVerify, "sync": childSync, "open": childOpen}
	role, dir, _ := strings.Cut(os.Getenv(roleVar), " ")
	if child := roles[role]; child != nil {
		child(dir)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func role(t *testing.T, name, dir string, wrapper ...string) *exec.Cmd {
	args := append(wrapper, os.Args[0])
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), roleVar+"="+name+" "+dir,
		"GORACE=atexit_sleep_ms=0") // else each child of a race build ends a second late
	return cmd
}

func die(err error) {
	fmt.Println("child:", err)
	os.Exit(3)
}

// count is an op that writes the next number: a group of them is a run of
// numbers, so that what a crash took is plain to see.
type count struct {
	valueSize int
	n         uint64
	done      chan error
}

var countKey = []byte("count")

func numberKey(n uint64) []byte { return binary.BigEndian.AppendUint64([]byte("n"), n) }

// numberValue cannot be compressed nor mistaken for another.
func numberValue(n uint64, size int) []byte {
	v := blob(byte(n), max(size, 8))
	binary.BigEndian.PutUint64(v, n)
	return v
}

func (c *count) Size() int      { return c.valueSize + 40 }
func (c *count) Decided()       {}
func (c *count) Done(err error) { c.done <- err }
func (c *count) Decide(tx storage.Txn) error {
	v, err := tx.Get(countKey)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	if err == nil {
		c.n = binary.BigEndian.Uint64(v)
	}
	c.n++
	if err := tx.Put(countKey, binary.BigEndian.AppendUint64(nil, c.n)); err != nil {
		return err
	}
	return tx.Put(numberKey(c.n), numberValue(c.n, c.valueSize))
}

// writeCounts runs a committer with some writers, and calls acked for every
// number until that returns false.
func writeCounts(s *Store, writers, valueSize int, acked func(n uint64) bool) error {
	c := storage.NewCommitter(s, storage.CommitterConfig{Watermark: storage.Watermark{Warn: 1, Refuse: 1}})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	end := make(chan error, 1)
	go func() { end <- c.Run(ctx) }()
	var wg sync.WaitGroup
	errs := make(chan error, writers)
	for range writers {
		wg.Go(func() {
			for {
				op := &count{valueSize: valueSize, done: make(chan error, 1)}
				err := c.Submit(op)
				if err == nil {
					err = <-op.done
				}
				if err != nil {
					errs <- err
					return
				}
				if !acked(op.n) {
					return
				}
			}
		})
	}
	wg.Wait()
	cancel()
	err := <-end
	select {
	case e := <-errs:
		err = errors.Join(err, e)
	default:
	}
	return err
}

const childValue = 4096

// childWrite writes until it is killed, and prints what is acknowledged.
func childWrite(dir string) {
	s, err := Open(Config{Dir: dir, MemTableSize: minMemTable})
	if err != nil {
		die(err)
	}
	err = writeCounts(s, 32, childValue, func(n uint64) bool {
		_, err := fmt.Println(n)
		return err == nil
	})
	die(err)
}

// A kill in the middle of everything, with memtables being flushed and tables
// compacted: a suffix may go, but nothing that was acknowledged.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	last := uint64(0)
	for round := range 3 {
		cmd := role(t, "write", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		acked := last
		lines := bufio.NewScanner(out)
		for seen := 0; lines.Scan(); seen++ {
			n, err := strconv.ParseUint(lines.Text(), 10, 64)
			if err != nil {
				t.Fatalf("child said %q", lines.Text())
			}
			acked = max(acked, n)
			if seen == 4000 {
				cmd.Process.Kill()
			}
		}
		cmd.Wait()
		if acked < last+4000 {
			t.Fatalf("round %d: the child ended at %d", round, acked)
		}

		s := open(t, Config{Dir: dir, MemTableSize: minMemTable})
		report, err := storage.CheckMarkers(s)
		if err != nil || report.Lost() || report.Highest == 0 {
			t.Fatalf("round %d: %v, %v", round, report, err)
		}
		next := uint64(1)
		err = s.Scan([]byte("n"), []byte("o"), func(kv storage.KV) bool {
			if !bytes.Equal(kv.Key, numberKey(next)) || !bytes.Equal(kv.Value, numberValue(next, childValue)) {
				t.Errorf("round %d: entry %d is %x", round, next, kv.Key)
				return false
			}
			next++
			return true
		})
		if err != nil || next-1 < acked {
			t.Fatalf("round %d: %d survived, %d were acknowledged, %v", round, next-1, acked, err)
		}
		v, err := s.Get(countKey)
		if err != nil || binary.BigEndian.Uint64(v) != next-1 {
			t.Fatalf("round %d: count is %x, %d survived, %v", round, v, next-1, err)
		}
		last = next - 1
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A crash leaves empty logs behind, in Badger's own window between truncating
// and removing one, or between creating and sizing one.
func TestEmptyLogsDoNotStopTheStart(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), MemTableSize: minMemTable}
	s := open(t, cfg)
	put(t, s, "a", []byte("1"))
	empty := []string{"00000.mem", "00077.mem", "000009.vlog"}
	for _, name := range empty {
		if err := os.WriteFile(filepath.Join(cfg.lsmDir(), name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(cfg); !errors.Is(err, ErrInUse) {
		t.Fatalf("second open: %v", err)
	}
	for _, name := range empty { // they may be the other process's
		if fileSize(t, filepath.Join(cfg.lsmDir(), name)) != 0 {
			t.Fatal("touched the files of another process")
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, cfg)
	if v, err := s.Get([]byte("a")); err != nil || string(v) != "1" {
		t.Errorf("get: %q, %v", v, err)
	}
}

// flipBit flips one bit of a file.
func flipBit(t *testing.T, name string, at int64, bit int) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1 << bit
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

// used is how much of a log is not zero.
func used(t *testing.T, name string) int64 {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return int64(len(bytes.TrimRight(b, "\x00")))
}

// One flipped bit in the log of the memtable: Badger comes up without a word
// and without thousands of synced keys. The markers must tell.
func TestFlippedBitInLogIsNoticed(t *testing.T) {
	origin := t.TempDir()
	s := open(t, Config{Dir: origin, MemTableSize: minMemTable})
	const total = 3000
	err := writeCounts(s, 16, 100, func(n uint64) bool { return n < total })
	if err != nil {
		t.Fatal(err)
	}
	snapshotDir := t.TempDir()
	copyTree(t, origin, snapshotDir) // not closed: the log is all there is

	rng := rand.New(rand.NewPCG(1, 1))
	silent := 0
	for range 12 {
		dir := t.TempDir()
		copyTree(t, snapshotDir, dir)
		logs, err := filepath.Glob(filepath.Join(dir, "lsm", "*.mem"))
		if err != nil || len(logs) != 1 {
			t.Fatal(logs, err)
		}
		// Behind Badger's file header, whose damage it does report.
		at := 20 + rng.Int64N(used(t, logs[0])-20)
		flipBit(t, logs[0], at, rng.IntN(8))

		d, err := Open(Config{Dir: dir, MemTableSize: minMemTable})
		if err != nil {
			t.Logf("flip at %d: open: %v", at, err)
			continue
		}
		report, err := storage.CheckMarkers(d)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		if err := d.Scan([]byte("n"), []byte("o"), func(storage.KV) bool { n++; return true }); err != nil {
			t.Fatal(err)
		}
		if n < total {
			silent++
			if !report.Lost() {
				t.Errorf("flip at %d: %d of %d keys, and %v", at, n, total, report)
			}
		}
		d.Close()
	}
	if silent < 6 {
		t.Errorf("only %d of 12 flips lost something: the test is not one", silent)
	}
}

const verifyTotal = 400

// verifyValue covers small values, large ones, and one in pieces.
func verifyValue(n uint64) []byte {
	return numberValue(n, map[bool]int{false: 50 + int(n)*7, true: pieceSize + 5000}[n == 77])
}

// childVerify opens a damaged store and reads everything. It ends with 0 if
// nothing wrong was served, which includes that the store did not open.
func childVerify(dir string) {
	s, err := Open(Config{Dir: dir, MemTableSize: minMemTable})
	if err != nil {
		fmt.Println("open:", err)
		return
	}
	bad := 0
	for n := uint64(1); n <= verifyTotal; n++ {
		v, err := s.Get(numberKey(n))
		switch {
		case errors.Is(err, storage.ErrCorrupt):
			bad++
		case err != nil:
			die(fmt.Errorf("get %d: %w", n, err))
		case !bytes.Equal(v, verifyValue(n)):
			die(fmt.Errorf("get %d: wrong bytes", n))
		}
	}
	seen, lo := 0, []byte("n")
	for {
		err := s.Scan(lo, []byte("o"), func(kv storage.KV) bool {
			if !bytes.Equal(kv.Value, verifyValue(binary.BigEndian.Uint64(kv.Key[1:]))) {
				die(errors.New("scan: wrong bytes"))
			}
			seen++
			return true
		})
		var corrupt *storage.CorruptError
		if !errors.As(err, &corrupt) {
			if err != nil {
				die(err)
			}
			break
		}
		seen++
		lo = append(corrupt.Key, 0)
	}
	if seen != verifyTotal {
		die(fmt.Errorf("scan: %d keys of %d", seen, verifyTotal))
	}
	fmt.Println("opened,", bad, "corrupt")
}

// One flipped bit anywhere in a table: a clean error, never other bytes and
// never "not found".
func TestFlippedBitInTable(t *testing.T) {
	origin := t.TempDir()
	s := open(t, Config{Dir: origin, MemTableSize: minMemTable})
	for n := uint64(1); n <= verifyTotal; n++ {
		put(t, s, string(numberKey(n)), verifyValue(n))
	}
	if err := s.Close(); err != nil { // flushes the memtable into a table
		t.Fatal(err)
	}
	tables, err := filepath.Glob(filepath.Join(origin, "lsm", "*.sst"))
	if err != nil || len(tables) != 1 {
		t.Fatal(tables, err)
	}
	if out, err := role(t, "verify", origin).Output(); err != nil || string(out) != "opened, 0 corrupt\n" {
		t.Fatalf("undamaged: %s, %v", out, err)
	}
	size := fileSize(t, tables[0])
	rng := rand.New(rand.NewPCG(2, 2))
	outcomes := map[string]int{}
	for i := range 24 {
		dir := t.TempDir()
		copyTree(t, origin, dir)
		at := rng.Int64N(size)
		if i%2 == 1 { // index, bloom filter and footer
			at = size - 1 - rng.Int64N(4<<10)
		}
		flipBit(t, filepath.Join(dir, "lsm", filepath.Base(tables[0])), at, rng.IntN(8))
		cmd := role(t, "verify", dir)
		cmd.Stderr = io.Discard
		out, err := cmd.Output()
		var exit *exec.ExitError
		switch {
		case errors.As(err, &exit) && exit.ExitCode() == 3:
			t.Errorf("flip at %d of %d: %s", at, size, out)
		case err != nil:
			outcomes["badger ended the process"]++
		case bytes.HasPrefix(out, []byte("open:")) && !bytes.Contains(out, []byte(storage.ErrCorrupt.Error())):
			outcomes["open failed for another reason"]++
		case bytes.HasPrefix(out, []byte("open:")):
			outcomes["open says corrupt"]++
		default:
			outcomes["opened"]++
		}
	}
	t.Logf("%v", outcomes)
	if outcomes["open says corrupt"] == 0 {
		t.Error("no flip was reported as corruption")
	}
}

// childSync commits until a sync fails, which must be soon, and checks that
// this is the end of the engine.
func childSync(dir string) {
	s, err := Open(Config{Dir: dir, MemTableSize: minMemTable})
	if err != nil {
		die(err)
	}
	for n := range 500 {
		tx, err := s.Begin()
		if err != nil {
			die(fmt.Errorf("begin %d: %w", n, err))
		}
		if err := tx.Put(fmt.Append(nil, "k", n), nil); err != nil {
			die(err)
		}
		if err := tx.Commit(); err != nil {
			_, getErr := s.Get([]byte("k0"))
			_, beginErr := s.Begin()
			if !errors.Is(err, storage.ErrFailed) || !errors.Is(getErr, storage.ErrFailed) || !errors.Is(beginErr, storage.ErrFailed) {
				die(fmt.Errorf("after %w: %v, %v", err, getErr, beginErr))
			}
			<-s.Failed()
			fmt.Println("failed:", err)
			return
		}
	}
	die(errors.New("no commit failed"))
}

// A sync that the kernel refuses, of the log or of the value log (which Badger
// syncs too, and whose failure it only logs).
func TestRefusedSync(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("not run: there is no strace")
	}
	if out, err := exec.CommandContext(t.Context(), strace, "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		t.Skipf("not run: strace may not trace: %v: %s", err, out)
	}
	which := map[string]bool{}
	for when := 10; when < 14; when++ {
		cmd := role(t, "sync", t.TempDir(), strace, "-f", "-o", os.DevNull,
			"-e", "trace=msync", "-e", fmt.Sprintf("inject=msync:error=EIO:when=%d", when))
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("failed: ")) {
			t.Errorf("sync %d refused: %v: %s", when, err, out)
		}
		which[map[bool]string{true: "value log", false: "log"}[bytes.Contains(out, []byte("curlf"))]] = true
	}
	if len(which) != 2 {
		t.Errorf("refused only: %v", which)
	}
}
