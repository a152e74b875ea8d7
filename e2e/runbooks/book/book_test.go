package book

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const good = `---
runbook: x
regions: eu us
nodes: 1
config: repair: {index_every: 1s}
fault: kill eu-1
fault: kill us-1
serving: us
fails: DISK_FULL THROTTLED
rto: 5s
set: LOST=eu
---
# X

## Trigger
## Impact
## Decide

1. Look.

   ~~~sh exit=8 within=10s
   atoll status
   ~~~

   ~~~text
   DN   eu-1 …  2
   ~~~

## Act
~~~sh
true
~~~
~~~text
~~~
## Verify
~~~sh exit=any
true
~~~
~~~text
~~~
## Roll back
## Afterwards
`

func text(s string) string { return strings.ReplaceAll(s, "~~~", "```") }

func TestParse(t *testing.T) {
	b, err := Parse("x", text(good))
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Steps) != 3 || len(b.Faults) != 2 || b.RTO != 5*time.Second || b.Env["LOST"] != "eu" || len(b.Regions) != 2 ||
		len(b.Config) != 1 || b.Config[0] != "repair: {index_every: 1s}" || len(b.Fails) != 2 {
		t.Errorf("read as %+v", b)
	}
	s := b.Steps[0]
	if s.Command != "atoll status" || s.Exit != 8 || s.Within != 10*time.Second || len(s.Expect) != 1 || !b.Steps[2].AnyExit {
		t.Errorf("first step: %+v", s)
	}
	for output, want := range map[string]bool{
		"a\n DN  eu-1   is gone  2\n": true, "DN eu-1 is gone 3": false, "x DN eu-1 2": false, "": false,
	} {
		if _, ok := s.Matches(output); ok != want {
			t.Errorf("%q matches: %v", output, ok)
		}
	}
}

func TestRefuse(t *testing.T) {
	for what, change := range map[string][2]string{
		"no front matter":       {"---\nrunbook", "runbook"},
		"unknown key":           {"nodes: 1", "nodez: 1"},
		"another name":          {"runbook: x", "runbook: y"},
		"a heading is missing":  {"## Impact\n", ""},
		"headings in disorder":  {"## Trigger\n## Impact", "## Impact\n## Trigger"},
		"nothing is printed":    {"~~~text\n   DN   eu-1 …  2\n   ~~~\n", ""},
		"no exit code":          {"exit=8", "exit=x"},
		"unknown word":          {"exit=8", "sudo"},
		"commands before":       {"## Decide", "## Other"},
		"no fault":              {"fault: kill eu-1\nfault: kill us-1\n", ""},
		"a block that is none":  {"~~~sh exit=any", "~~~go"},
		"open block":            {"true\n~~~\n~~~text\n~~~\n## Verify", "true\n## Verify"},
		"no time to recover in": {"rto: 5s\n", ""},
		"rpo of something else": {"rto: 5s", "rto: 5s\nrpo: some"},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		if bad == good {
			t.Fatalf("%s: nothing was changed", what)
		}
		if b, err := Parse("x", text(bad)); err == nil {
			t.Errorf("%s: read as %+v", what, b)
		}
	}
}

// TestRunbooks reads all there are, whether they are rehearsed here or not.
func TestRunbooks(t *testing.T) {
	files, err := filepath.Glob("../../../deploy/runbooks/*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d runbooks, %v", len(files), err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".md")
		if name == "README" {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(name, string(b)); err != nil {
			t.Error(err)
		}
	}
}
