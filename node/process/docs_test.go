package process

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// keyName is a key of the configuration with its block, as documents write it.
var keyName = regexp.MustCompile("`([a-z_]+(?:\\.[a-z_]+)+)(?:: [^`]*)?`")

// wrongKey says why a dotted name is no key of the configuration; "" if it is one, or its
// first part is no block, so that it is something else.
func wrongKey(name string) string {
	parts := strings.Split(name, ".")
	if !slices.Contains(keysAt(""), parts[0]) {
		return ""
	}
	for i := 1; i < len(parts); i++ {
		block := strings.Join(parts[:i], ".")
		if !slices.Contains(keysAt(block+"."), parts[i]) {
			return parts[i] + " is no key of " + block
		}
	}
	return ""
}

// What operators are told to set can be set.
func TestDocumentsNameKeysThatExist(t *testing.T) {
	files := []string{"../../README.md"}
	for _, pattern := range []string{"../../docs/*.md", "../../deploy/runbooks/*.md"} {
		more, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, more...)
	}
	found := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range keyName.FindAllStringSubmatch(string(text), -1) {
			found++
			if why := wrongKey(m[1]); why != "" {
				t.Errorf("%s names %s: %s", file, m[1], why)
			}
		}
	}
	if found < 10 {
		t.Errorf("%d keys are named: are they found?", found)
	}
}

func TestWrongKey(t *testing.T) {
	for name, right := range map[string]bool{
		"nats.cluster": true, "nats.cluster.routes": true, "repair.index_bytes": true, "client.go": true,
		"nats.clusters": false, "repair.index": false, "nats.cluster.route": false, "geo.max_age.more": false,
	} {
		if why := wrongKey(name); (why == "") != right {
			t.Errorf("%s: %q", name, why)
		}
	}
}
