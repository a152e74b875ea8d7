package dump

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// A backup is lines: a head, the definitions of the buckets, the records as an
// export writes them, and an end. docs/export-format.md describes it.

// MaxRecordLine is the length of the longest line of a backup, in bytes: a record
// as large as a node sends one, written in the form that takes most.
const MaxRecordLine = 1 << 30

// formatVersion of backups.
const formatVersion = 1

// timeForm of a head: UTC, milliseconds.
const timeForm = "2006-01-02T15:04:05.000Z"

// Head says where a backup comes from.
type Head struct {
	// Region that was asked.
	Region string `json:"region"`
	// Bucket that it has alone, "" for all.
	Bucket string `json:"bucket,omitempty"`
	// Began is when it began, by the clock of the machine that wrote it: what was
	// acknowledged in the region before is in it. In whole milliseconds, UTC.
	Began time.Time `json:"-"`
}

type headJSON struct {
	Backup int `json:"atoll_backup"`
	Head
	BeganText string `json:"began"`
}

// Policy of a Definition, levels by name; "" says nothing.
type Policy struct {
	Default  string `json:"default,omitempty"`
	Min      string `json:"min,omitempty"`
	Max      string `json:"max,omitempty"`
	Override string `json:"override,omitempty"`
}

// Definition of a bucket; fields that are zero have their defaults.
type Definition struct {
	Name           string   `json:"name"`
	Kind           string   `json:"kind"`
	Reads          Policy   `json:"reads"`
	Writes         Policy   `json:"writes"`
	Sloppy         bool     `json:"sloppy,omitempty"`
	RequireContext bool     `json:"require_context,omitempty"`
	WarnSiblings   int      `json:"warn_siblings,omitempty"`
	MaxSiblings    int      `json:"max_siblings,omitempty"`
	MaxValue       int      `json:"max_value,omitempty"`
	TTLMs          int64    `json:"ttl_ms,omitempty"`
	Regions        []string `json:"regions,omitempty"`
	Home           string   `json:"home_region,omitempty"`
}

type definitionJSON struct {
	Definition Definition `json:"definition"`
}

type endJSON struct {
	End struct {
		Records int    `json:"records"`
		SHA256  string `json:"sha256"`
	} `json:"end"`
}

// Writer writes a backup.
type Writer struct {
	w       io.Writer
	sum     hash.Hash
	line    []byte
	records int
}

// NewWriter writes the head.
func NewWriter(w io.Writer, h Head) (*Writer, error) {
	b := &Writer{w: w, sum: sha256.New()}
	return b, b.write(headForm(h))
}

func headForm(h Head) headJSON { return headJSON{formatVersion, h, h.Began.UTC().Format(timeForm)} }

func (b *Writer) write(v any) error {
	line, err := marshal(v)
	if err != nil {
		return err
	}
	return b.put(line)
}

// marshal writes one line, its newline included.
func marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode a line of the backup: %w", err)
	}
	return buf.Bytes(), nil
}

func (b *Writer) put(line []byte) error {
	b.sum.Write(line)
	if _, err := b.w.Write(line); err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	return nil
}

// Define writes a bucket's definition. All of them come before the records.
func (b *Writer) Define(d Definition) error { return b.write(definitionJSON{d}) }

// Record writes a record; they come in the order of an export.
func (b *Writer) Record(r *adminv1.ExportRecord) error {
	if b.line = Append(b.line[:0], r); len(b.line) > MaxRecordLine {
		return fmt.Errorf("a record takes more than a backup can hold (limit %d bytes, seen %d bytes): resolve its siblings first", MaxRecordLine, len(b.line))
	}
	b.records++
	return b.put(b.line)
}

// End writes the end: without it a backup is not whole.
func (b *Writer) End() error {
	var e endJSON
	e.End.Records, e.End.SHA256 = b.records, hex.EncodeToString(b.sum.Sum(nil))
	return b.write(e)
}

// Damage is what is wrong with a backup.
type Damage struct {
	Line int // from 1
	Why  string
}

func (d *Damage) Error() string { return fmt.Sprintf("line %d: %s", d.Line, d.Why) }

// Item is one line of a backup; one of the three is set.
type Item struct {
	Head       *Head
	Definition *Definition
	Record     *adminv1.ExportRecord
	// Size of the line in bytes.
	Size int
}

// Reader reads a backup, and checks it: the form of each line, the order, the sum,
// and that nothing is missing.
type Reader struct {
	lines    *Lines
	unsealed bool
	sum      hash.Hash
	line     int
	records  int
	last     place
	ended    bool
}

// NewReader reads from r. An unsealed one is an export: it has no head and no end,
// and nothing tells whether its last lines are missing.
func NewReader(r io.Reader, unsealed bool) *Reader {
	l := NewLines(r)
	l.max = MaxRecordLine
	return &Reader{lines: l, unsealed: unsealed, sum: sha256.New()}
}

// Next returns the next line; io.EOF when the backup is whole and has ended,
// *Damage when it is not what Writer wrote, and other errors of reading.
func (b *Reader) Next() (Item, error) {
	raw, err := b.lines.Next()
	switch {
	case errors.Is(err, io.EOF) && (b.ended || b.unsealed):
		return Item{}, io.EOF
	case errors.Is(err, io.EOF) && b.line == 0:
		return Item{}, b.damage("the file is empty")
	case errors.Is(err, io.EOF):
		return Item{}, b.damage(fmt.Sprintf("the file ends here, after %d records, and has no end line: the rest of it is missing", b.records))
	case err != nil && !errors.Is(err, ErrLongLine):
		return Item{}, fmt.Errorf("read the backup: %w", err)
	}
	b.line++
	switch {
	case err != nil:
		return Item{}, b.damage(fmt.Sprintf("longer than any record (limit %d bytes)", MaxRecordLine))
	case b.ended:
		return Item{}, b.damage("something follows the end")
	case !b.lines.complete:
		return Item{}, b.damage("the file ends within this line: the rest of it is missing")
	}
	return b.item(raw)
}

func (b *Reader) damage(why string) *Damage { return &Damage{max(b.line, 1), why} }

func (b *Reader) item(raw []byte) (Item, error) {
	if bytes.HasPrefix(raw, []byte(`{"end":`)) && !b.unsealed && b.line > 1 {
		if err := b.end(raw); err != nil {
			return Item{}, err
		}
		return b.Next()
	}
	b.sum.Write(raw)
	b.sum.Write([]byte{'\n'})
	it := Item{Size: len(raw)}
	var err error
	switch {
	case b.line == 1 && !b.unsealed:
		it.Head, err = parseHead(raw)
	case bytes.HasPrefix(raw, []byte(`{"definition":`)) && b.records == 0 && !b.unsealed:
		it.Definition = &Definition{}
		var in definitionJSON
		err = canonical(raw, &in)
		*it.Definition = in.Definition
	default:
		it.Record, err = ParseRecord(raw)
		b.records++
	}
	if err != nil {
		return Item{}, b.damage(err.Error())
	}
	if it.Record != nil {
		at := placeOf(it.Record)
		if b.records > 1 && !at.after(b.last) {
			return Item{}, b.damage("out of order")
		}
		b.last = at
	}
	return it, nil
}

func (b *Reader) end(raw []byte) error {
	var e endJSON
	if err := canonical(raw, &e); err != nil {
		return b.damage(err.Error())
	}
	if e.End.Records != b.records {
		return b.damage(fmt.Sprintf("%d records came before the end, not %d: some are missing or doubled", b.records, e.End.Records))
	}
	if e.End.SHA256 != hex.EncodeToString(b.sum.Sum(nil)) {
		return b.damage("the SHA-256 of what came before is another one: the file was changed")
	}
	b.ended = true
	return nil
}

// canonical decodes what marshal has written, and nothing else.
func canonical(raw []byte, to any) error {
	if err := json.Unmarshal(raw, to); err != nil {
		return notJSON(err)
	}
	again, err := marshal(to)
	if err != nil || !bytes.Equal(again[:len(again)-1], raw) {
		return errNotCanonical
	}
	return nil
}

func parseHead(raw []byte) (*Head, error) {
	if !strings.HasPrefix(string(raw), `{"atoll_backup":`) {
		return nil, errors.New("not the head of a backup: what 'atoll export' has written is read with --unsealed, other files by 'atoll import'")
	}
	var in headJSON
	if err := canonical(raw, &in); err != nil {
		return nil, err
	}
	if in.Backup != formatVersion {
		return nil, fmt.Errorf("a backup of another version (limit %d, seen %d)", formatVersion, in.Backup)
	}
	began, err := time.Parse(timeForm, in.BeganText)
	if err != nil {
		return nil, errors.New("field began is no time")
	}
	in.Began = began
	if headForm(in.Head).BeganText != in.BeganText {
		return nil, errNotCanonical
	}
	return &in.Head, nil
}
