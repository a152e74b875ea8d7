package dump

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func TestLines(t *testing.T) {
	long := strings.Repeat("x", 200<<10) // more than one buffer
	most := strings.Repeat("y", MaxLine)
	for _, c := range []struct {
		text string
		want []string
	}{
		{"", nil},
		{"a", []string{"a"}},
		{"a\n", []string{"a"}},
		{"\n\na\r\nb", []string{"", "", "a\r", "b"}},
		{long + "\nb\n", []string{long, "b"}},
		{most + "\n" + most, []string{most, most}},
		{"a\n" + most + "y\nb\n", []string{"a", "too long", "b"}},
		{most + "yy", []string{"too long"}},
	} {
		lines, got := NewLines(strings.NewReader(c.text)), []string(nil)
		for {
			line, err := lines.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if errors.Is(err, ErrLongLine) {
				line = []byte("too long")
			} else if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(line))
		}
		if !cmp.Equal(c.want, got) {
			t.Errorf("%.20q... of %d bytes: got %d lines, want %d", c.text, len(c.text), len(got), len(c.want))
		}
	}
	broken := fmt.Errorf("disk")
	lines := NewLines(io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(broken)))
	if _, err := lines.Next(); err != nil {
		t.Error(err)
	}
	if line, err := lines.Next(); !errors.Is(err, broken) {
		t.Errorf("half a line passed as a whole one: %q, %v", line, err)
	}
}
