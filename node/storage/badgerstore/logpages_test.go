package badgerstore

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// adviceOf returns the flags that the kernel keeps for the mapping of each log
// in dir.
func adviceOf(t *testing.T, dir string) map[string][]string {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Skipf("the kernel does not tell: %v", err)
	}
	defer f.Close()
	flags := map[string][]string{}
	var of mapping // of a log, or none
	scan := bufio.NewScanner(f)
	for scan.Scan() {
		if m, ok := parseMapping(scan.Text()); ok && strings.HasPrefix(m.path, dir) && strings.HasSuffix(m.path, ".mem") {
			of = m
		}
		if rest, ok := strings.CutPrefix(scan.Text(), "VmFlags:"); ok {
			if of.path != "" {
				flags[filepath.Base(of.path)] = strings.Fields(rest)
			}
			of = mapping{}
		}
	}
	return flags
}

// Every log that is written to has the advice: the first one, the one after a
// restart, and those that follow as memtables get full. "rr" is the kernel's
// word for it.
func TestLogsAreAdvised(t *testing.T) {
	dir := t.TempDir()
	advised := func(log int) {
		t.Helper()
		flags, ok := adviceOf(t, dir)[logName(log)]
		if !ok {
			t.Fatalf("%s is not mapped", logName(log))
		}
		if !slices.Contains(flags, "rr") {
			t.Errorf("%s has the flags %v", logName(log), flags)
		}
	}
	s := open(t, Config{Dir: dir, MemTableSize: minMemTable})
	advised(1)
	n := 0
	for full := 0; full < 2; { // until there is a third log
		n++
		tx, err := s.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if err := tx.Put(fmt.Append(nil, "key ", n), make([]byte, 64<<10)); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		full = s.logs.next - 2
	}
	advised(3)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Config{Dir: dir, MemTableSize: minMemTable})
	advised(s.logs.next - 1)
}

func TestParseMapping(t *testing.T) {
	for line, want := range map[string]mapping{
		"7f0a1c000000-7f0a24000000 rw-s 00000000 fe:00 1966109                    /data/my dir/lsm/00001.mem": {0x7f0a1c000000, 0x7f0a24000000, 1966109, "/data/my dir/lsm/00001.mem"},
		"7f0a1c000000-7f0a24000000 rw-p 00000000 00:00 0":                                                     {},
		"c000000000-c004000000 rw-p 00000000 00:00 0 [anon: Go: heap]":                                        {0xc000000000, 0xc004000000, 0, "[anon: Go: heap]"},
		"c004000000-c000000000 rw-p 00000000 00:00 7 /x":                                                      {},
		"Size:               4096 kB":                                                                         {},
		"":                                                                                                    {},
	} {
		if got, ok := parseMapping(line); got != want || ok != (want.hi != 0) {
			t.Errorf("%q: %+v, %v", line, got, ok)
		}
	}
}
