package badgerstore

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/node/storage"
)

// The lines that end the engine must be those of the Badger in use: after an
// upgrade this test says which to look for anew.
func TestFatalLinesAreBadgers(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/dgraph-io/badger/v4").Output()
	if err != nil {
		t.Skipf("no go command: %v", err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "*.go"))
	if err != nil || len(files) == 0 {
		t.Skip("no sources of badger")
	}
	var source []byte
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		source = append(source, b...)
	}
	for _, line := range fatalLines {
		if !bytes.Contains(source, []byte(`f("`+line)) {
			t.Errorf("badger never logs %q", line)
		}
	}
}

func TestFatalLineFailsTheStore(t *testing.T) {
	for _, format := range []string{
		"Error while curlf sync: %v\n",
		"error flushing memtable to disk: %v, retrying",
		"While running doCompact: %v\n",
	} {
		s := open(t, Config{Dir: t.TempDir(), MemTableSize: minMemTable})
		put(t, s, "a", []byte("1"))
		snap := s.Snapshot()
		tx, err := s.Begin()
		if err != nil {
			t.Fatal(err)
		}
		s.db.Opts().Logger.Errorf(format, errors.New("input/output error"))
		select {
		case <-s.Failed():
		default:
			t.Fatalf("%q: not failed", format)
		}
		_, get := s.Get([]byte("a"))
		_, fromSnap := snap.Get([]byte("a"))
		_, begin := s.Begin()
		_, usage := s.Usage()
		for what, err := range map[string]error{
			"err": s.Err(), "get": get, "snapshot": fromSnap, "begin": begin, "usage": usage,
			"put": tx.Put([]byte("b"), nil), "commit": tx.Commit(), "beside": s.WriteBeside("f", nil),
			"scan": s.Scan(nil, nil, func(storage.KV) bool { return true }), "close": s.Close(),
		} {
			if !errors.Is(err, storage.ErrFailed) || !strings.Contains(err.Error(), "input/output error") {
				t.Errorf("%s: %v", what, err)
			}
		}
		s.db.Close() // only a test may: it has no broken disk
	}
}

func TestOtherLinesDoNot(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), MemTableSize: minMemTable})
	l := s.db.Opts().Logger
	l.Errorf("while deleting file: %s, err: %v", "x.mem", errors.New("no such file"))
	l.Warningf("MANIFEST delete: table %d has already been removed", 1)
	l.Infof("writeRequests: %v", "only information")
	if s.Err() != nil {
		t.Error(s.Err())
	}
}

func TestLogHidesKeys(t *testing.T) {
	var out bytes.Buffer
	b := newBridge(hclog.New(&hclog.LoggerOptions{Output: &out, Level: hclog.Trace, JSONFormat: true}), func(error) {})
	type cd struct{ left []byte }
	b.Errorf("Unable to read: Key: %v, Version : %v, Error: %v\n", []byte("secret"), uint64(7), errors.New("EOF"))
	b.Warningf("compaction %+v", cd{[]byte("secret")})
	b.Debugf("First key=%q\n", []byte("secret"))
	b.Infof("plain")
	text := out.String()
	if strings.Contains(text, "secret") || strings.Contains(text, "115") {
		t.Errorf("a key is in the log: %s", text)
	}
	for _, want := range []string{`"@message":"badger"`, "Key: ..., Version : 7, Error: EOF", "compaction ...", `"line":"plain"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
}

// An idle committer ends with the failure of its engine.
func TestIdleCommitterEndsWithTheStore(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), MemTableSize: minMemTable})
	c := storage.NewCommitter(s, storage.CommitterConfig{Watermark: storage.Watermark{Warn: 1, Refuse: 1}})
	end := make(chan error, 1)
	go func() { end <- c.Run(t.Context()) }()
	s.db.Opts().Logger.Errorf("error flushing memtable to disk: %v, retrying", errors.New("input/output error"))
	if err := <-end; !errors.Is(err, storage.ErrFailed) {
		t.Errorf("run: %v", err)
	}
	s.db.Close()
}
