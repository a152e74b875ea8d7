package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/client"
)

var demoBlock = regexp.MustCompile("(?s)```demo\n(.*?)```")

// The scenarios of docs/consistency.md are what a reader may type: real nodes,
// gRPC and NATS, in three regions.
func TestDemoOfConsistency(t *testing.T) {
	text, err := os.ReadFile("../../docs/consistency.md")
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	blocks := demoBlock.FindAllStringSubmatch(string(text), -1)
	session := filepath.Join(t.TempDir(), "demo.session")
	for _, b := range blocks {
		script.WriteString(strings.ReplaceAll(b[1], "demo.session", session) + "\\use eu\n\\heal\n\\wait\n")
	}
	words := strings.Fields(script.String())
	for l := client.LocalOne; l <= client.Serial; l++ {
		if !slices.Contains(words, l.String()) {
			t.Errorf("no scenario for %s", l)
		}
	}
	if len(blocks) < 6 {
		t.Fatalf("%d scenarios: are they found?", len(blocks))
	}
	file := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(file, []byte(script.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startAtollOn(t, nil, nil, []string{"TMPDIR=" + t.TempDir()},
		"demo", "--regions", "eu,us,ap", "--nats", "1", "--latency", "5ms", "--script", file)
	out, err := io.ReadAll(p.out)
	if code := p.exit(); err != nil || code != exitOK {
		t.Errorf("exit code %d, %v\n%s\n%s", code, err, out, p.stderr.String())
	}
}
