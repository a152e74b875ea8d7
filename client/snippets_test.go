//lint:file-ignore SA4006 what documents show leaves the handling of errors to the reader
package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/atolldb/atoll/client"
)

// What README.md and docs show of the SDK, so that it compiles. Each function has one of
// their blocks of Go, word by word; TestDocumentsShowGoThatCompiles finds those that have
// none here.

func snippetReadme(ctx context.Context, value []byte) (any, error) {
	c, err := client.Open(ctx, "n1:7400,n2:7400", client.OnSiblings(client.SetUnionLines()))
	obj, err := c.Get(ctx, "cart/42") // resolved by the callback
	ver, err := c.Put(ctx, "cart/42", value, client.After(obj.Version()), client.LocalQuorum)
	ver, err = c.Update(ctx, "cart/42", func(cur client.Object) ([]byte, error) {
		return append(cur.Value(), "\ntea"...), nil
	})
	return ver, err
}

func snippetRegions(ctx context.Context) (any, error) {
	c, err := client.Open(ctx, "eu-1:7400,eu-2:7400,us-1:7400",
		client.Region("eu"),         // without it: the region of the node that answers first
		client.Fallback("us", "ap"), // without it: all regions, in the order of their numbers
		client.OnRegionChange(func(m client.RegionChange) { fmt.Println(m.From, "->", m.To, m.State) }))
	return c, err
}

func snippetUnknown(ctx context.Context, c *client.Client, order []byte) error {
	id := client.NewRequestID() // kept before the write, so that a crash does not lose it
	_, err := c.Put(ctx, "order/7", order, client.Request(id))
	if errors.Is(err, client.ErrUnknownOutcome) {
		// Now, or after a restart, within ten minutes: written unless it was.
		_, err = c.Put(ctx, "order/7", order, client.Again(id))
	}
	return err
}

func snippetSession(ctx context.Context, c *client.Client, cookie string, value []byte) (string, any, error) {
	user, err := c.SessionFrom(cookie) // or c.Session() for a new one
	user.Put(ctx, "cart/42", value, client.LocalTwo)
	obj, err := user.Get(ctx, "cart/42", client.LocalOne)
	cookie = user.Token() // good in every region
	return cookie, obj, err
}

func snippetCounter(ctx context.Context, c *client.Client) error {
	_, err := c.Update(ctx, "visits", func(cur client.Object) ([]byte, error) {
		n, _ := strconv.Atoi(string(cur.Value()))
		return []byte(strconv.Itoa(n + 1)), nil
	}, client.LocalSerial)
	return err
}

var _ = []any{snippetReadme, snippetRegions, snippetUnknown, snippetSession, snippetCounter}

var (
	goBlock = regexp.MustCompile("(?s)\n```go\n(.*?)\n```")
	blanks  = regexp.MustCompile(`\s+`)
)

// TestDocumentsShowGoThatCompiles: every block of Go in the documents is one of the
// functions above.
func TestDocumentsShowGoThatCompiles(t *testing.T) {
	here, err := os.ReadFile("snippets_test.go")
	if err != nil {
		t.Fatal(err)
	}
	compiled := blanks.ReplaceAllString(string(here), " ")
	found := 0
	for _, name := range documents(t) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range goBlock.FindAllStringSubmatch(string(text), -1) {
			found++
			if !strings.Contains(compiled, blanks.ReplaceAllString(strings.TrimSpace(block[1]), " ")) {
				t.Errorf("%s shows what client/snippets_test.go does not compile:\n%s", name, block[1])
			}
		}
	}
	if found < 5 {
		t.Errorf("%d blocks of Go: are they found?", found)
	}
}

func documents(t *testing.T) []string {
	t.Helper()
	names := []string{"../README.md"}
	for _, dir := range []string{"../docs/", "../deploy/runbooks/"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".md") {
				names = append(names, dir+e.Name())
			}
		}
	}
	return names
}
