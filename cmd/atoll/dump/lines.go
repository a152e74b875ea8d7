package dump

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// MaxLine is the length of the longest line that Lines returns, in bytes: a
// value of 8 MiB in a bucket that allows it, and room for its key.
const MaxLine = 8<<20 + 64<<10

// ErrLongLine is returned for a line longer than MaxLine; the next call goes
// on behind it.
var ErrLongLine = fmt.Errorf("line is too long (field line: limit %d bytes)", MaxLine)

// Lines reads a text line by line. Unlike bufio.Scanner it goes on after a
// line that is too long.
type Lines struct {
	r   *bufio.Reader
	max int
	// complete: the last line had its newline.
	complete bool
}

// NewLines reads from r.
func NewLines(r io.Reader) *Lines { return &Lines{r: bufio.NewReaderSize(r, 64<<10), max: MaxLine} }

// Next returns a line without its newline, as the caller's own; io.EOF after
// the last one, which needs no newline.
func (l *Lines) Next() ([]byte, error) {
	var line []byte
	for {
		part, err := l.r.ReadSlice('\n')
		if len(line)+len(part) > l.max+1 {
			return nil, l.skip(err)
		}
		line = append(line, part...)
		l.complete = err == nil
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return line, nil
		default:
			return nil, err
		}
	}
}

// skip reads to the end of a line of which err was the last result.
func (l *Lines) skip(err error) error {
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = l.r.ReadSlice('\n')
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return ErrLongLine
}

// Blank reports whether a line has nothing but white space.
func Blank(line []byte) bool { return len(bytes.TrimSpace(line)) == 0 }
