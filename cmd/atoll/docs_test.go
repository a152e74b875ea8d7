package main

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// documents are those that tell people what to type.
var documents = []string{
	"README.md", "CONTRIBUTING.md", "docs/*.md", "docs/bench/*.md", "deploy/runbooks/*.md", "deploy/config/*.yaml",
	"deploy/systemd/*", "deploy/prometheus/*.yaml",
}

var (
	// literal is one word of a command, whatever is in it; redirect is none.
	literal  = regexp.MustCompile(`'[^']*'|"[^"]*"`)
	redirect = regexp.MustCompile(`\s\d?>>?\s*[^\s;|&)]+`)

	fence    = regexp.MustCompile("(?ms)^( *)```([^\n`]*)\n(.*?)^ *```$")
	span     = regexp.MustCompile("(?s)`([^`]+)`")
	inQuotes = regexp.MustCompile(`(?s)'(atoll [^']+)'`)
	called   = regexp.MustCompile(`(?:^|[|;&(]|\bthen|\bdo|\buntil|\bwhile|\bif)\s*(?:\$ )?(?:\./bin/|/usr/bin/)?atoll\s+([a-z-][^|;&)]*)`)
)

// advice is what a document tells its reader to type.
type advice struct {
	commands []string // whole ones, without the name of the program
	mentions []string // in the middle of a sentence, where arguments may be left out
	flags    []string // alone, of a command that the sentence is about
}

func adviceIn(text string) (a advice) {
	for _, block := range fence.FindAllStringSubmatch(text, -1) {
		kind, _, _ := strings.Cut(block[2], " ")
		if kind != "" && kind != "sh" && kind != "console" {
			continue
		}
		body := literal.ReplaceAllString(strings.ReplaceAll(block[3], "\\\n", " "), "TEXT")
		body = redirect.ReplaceAllString(body, "")
		for line := range strings.Lines(body) {
			line, _, _ = strings.Cut(line, " #")
			if kind == "console" && !strings.HasPrefix(line, "$ ") { // what it prints
				continue
			}
			for _, m := range called.FindAllStringSubmatch(strings.TrimSpace(line), -1) {
				a.commands = append(a.commands, strings.Join(strings.Fields(m[1]), " "))
			}
		}
	}
	text = fence.ReplaceAllString(text, "")
	for _, s := range append(span.FindAllStringSubmatch(text, -1), inQuotes.FindAllStringSubmatch(text, -1)...) {
		inner := strings.Join(strings.Fields(strings.ReplaceAll(s[1], "\n#", "\n")), " ")
		rest, isCommand := strings.CutPrefix(strings.TrimPrefix(inner, "./bin/"), "atoll ")
		switch {
		case isCommand:
			a.mentions = append(a.mentions, rest)
		case strings.HasPrefix(inner, "--"):
			a.flags = append(a.flags, inner)
		}
	}
	return a
}

// At three in the morning a command that does not exist is worse than none.
func TestDocumentsNameCommandsThatExist(t *testing.T) {
	known := allFlags(root())
	for _, pattern := range documents {
		names, err := filepath.Glob("../../" + pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(names), err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			a := adviceIn(string(text))
			for _, line := range a.commands {
				if why := wrongCommand(strings.Fields(line), true); why != "" {
					t.Errorf("%s: %q: %s", name, line, why)
				}
			}
			for _, line := range a.mentions {
				if why := wrongCommand(strings.Fields(line), false); why != "" {
					t.Errorf("%s: %q: %s", name, line, why)
				}
			}
			for _, f := range a.flags {
				if flag := strings.FieldsFunc(f, func(r rune) bool { return r == ' ' || r == '=' })[0]; !known[flag] {
					t.Errorf("%s: no command has a flag %s", name, flag)
				}
			}
			t.Logf("%s: %d commands, %d mentioned, %d flags", name, len(a.commands), len(a.mentions), len(a.flags))
		}
	}
}

// allFlags of cmd and of all commands below.
func allFlags(cmd *cobra.Command) map[string]bool {
	cmd.InitDefaultHelpFlag()
	known := map[string]bool{}
	cmd.Flags().VisitAll(func(f *pflag.Flag) { known["--"+f.Name] = true })
	for _, c := range cmd.Commands() {
		maps.Copy(known, allFlags(c))
	}
	return known
}

// wrongCommand says why words are no command; "" if they are one. A whole one has all
// its arguments.
func wrongCommand(words []string, whole bool) string {
	top := root()
	top.InitDefaultHelpCmd()
	cmd, rest, err := top.Find(words)
	if err != nil {
		return err.Error()
	}
	if cmd.HasSubCommands() && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		return "no command " + rest[0] + " below " + cmd.CommandPath()
	}
	cmd.InitDefaultHelpFlag()
	if bad := unknownFlag(cmd, rest); bad != "" {
		return "no flag " + bad
	}
	if !whole {
		return ""
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err.Error()
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		return err.Error()
	}
	return ""
}

func unknownFlag(cmd *cobra.Command, words []string) string {
	for _, w := range words {
		name, _, _ := strings.Cut(strings.TrimLeft(w, "-"), "=")
		switch {
		case strings.HasPrefix(w, "--") && cmd.Flags().Lookup(name) == nil:
			return w
		case strings.HasPrefix(w, "-") && !strings.HasPrefix(w, "--") && len(w) > 1 && cmd.Flags().ShorthandLookup(w[1:2]) == nil:
			return w
		}
	}
	return ""
}

func TestWrongCommand(t *testing.T) {
	for line, ok := range map[string]bool{
		"node join eu-4 --yes --wait": true, "task wait 7": true, "ring plan drain eu-2": true, "status -o json": true,
		"nodes ls": false, "node enter eu-4": false, "task wait": false, "dr failover a b": false, "node join a --timeout soon": false, "node join eu-4 --now": false, "status -z": false,
	} {
		if why := wrongCommand(strings.Fields(line), true); (why == "") != ok {
			t.Errorf("%s: %q", line, why)
		}
	}
}

func TestAdviceIn(t *testing.T) {
	text := "Ask `atoll dr\n  status`, or give `--yes`.\n" +
		"   ```sh exit=8 within=20s\n   ssh eu-1 sudo systemctl restart atoll\n" +
		"   until atoll status --endpoints $EU; do sleep 1; done\n   mv a b && atoll secret new $S\n   ```\n" +
		"   ```text\n   atoll: no command\n   ```\n" +
		"```\natoll pace --bytes 1MiB \\\n  --concurrent 8   # slower\natoll resolve $KEY --with 'jq \"a | b\"' 2>/dev/null; echo $?\natoll ring plan join eu-4 > plan.json\natoll export | jq . | atoll import -\n```\n" +
		"```console\n$ ./bin/atoll start --dev &  # runs\natoll: it runs\n```\n" +
		"# see 'atoll config\n# show FILE' for all\n"
	want := advice{
		commands: []string{
			"status --endpoints $EU", "secret new $S", "pace --bytes 1MiB --concurrent 8", "resolve $KEY --with TEXT", "ring plan join eu-4",
			"export", "import -", "start --dev",
		},
		mentions: []string{"dr status", "config show FILE"}, flags: []string{"--yes"},
	}
	if got := adviceIn(text); !reflect.DeepEqual(got, want) {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}
