package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var (
	fence = regexp.MustCompile("(?s)```\n(.*?)```")
	span  = regexp.MustCompile("`(atoll [^`]+)`")
)

// commandsIn returns what a document tells its reader to type.
func commandsIn(text string) (lines []string) {
	for _, block := range fence.FindAllStringSubmatch(text, -1) {
		for line := range strings.Lines(block[1]) {
			line, _, _ = strings.Cut(line, "#")
			if line = strings.TrimSpace(line); strings.HasPrefix(line, "atoll ") {
				lines = append(lines, line)
			}
		}
	}
	text = fence.ReplaceAllString(text, "")
	for _, s := range span.FindAllStringSubmatch(strings.ReplaceAll(text, "\n", " "), -1) {
		lines = append(lines, s[1])
	}
	return lines
}

// At three in the morning a command that does not exist is worse than none.
func TestDocumentsNameCommandsThatExist(t *testing.T) {
	for _, name := range []string{"operations.md", "durability.md"} {
		text, err := os.ReadFile("../../docs/" + name)
		if err != nil {
			t.Fatal(err)
		}
		lines := commandsIn(string(text))
		if len(lines) < 3 {
			t.Errorf("%s has %d commands: are they found?", name, len(lines))
		}
		for _, line := range lines {
			line, _, _ = strings.Cut(line, " > ")
			if why := wrongCommand(strings.Fields(line)[1:]); why != "" {
				t.Errorf("%s: %q: %s", name, line, why)
			}
		}
	}
}

// wrongCommand says why words are no command; "" if they are one.
func wrongCommand(words []string) string {
	top := root()
	top.InitDefaultHelpCmd()
	cmd, rest, err := top.Find(words)
	if err != nil {
		return err.Error()
	}
	if cmd.HasSubCommands() && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		return "no command " + rest[0] + " below " + cmd.CommandPath()
	}
	if bad := unknownFlag(cmd, rest); bad != "" {
		return "no flag " + bad
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
		"nodes ls": false, "node enter eu-4": false, "node join eu-4 --now": false, "status -z": false,
	} {
		if why := wrongCommand(strings.Fields(line)); (why == "") != ok {
			t.Errorf("%s: %q", line, why)
		}
	}
}
