package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
)

// format is the flag -o. The first of its values is the default; it never
// depends on where the output goes.
type format struct {
	value   string
	allowed []string
}

// formatFlag adds -o to cmd.
func formatFlag(cmd *cobra.Command, allowed ...string) *format {
	f := &format{allowed[0], allowed}
	cmd.Flags().VarP(f, "output", "o", "form of the output: "+strings.Join(allowed, ", "))
	complete(cmd, "output", allowed)
	return f
}

// Set implements pflag.Value.
func (f *format) Set(s string) error {
	if !slices.Contains(f.allowed, s) {
		return fmt.Errorf("no such form%s", inputBounds("output", strings.Join(f.allowed, "|"), s))
	}
	f.value = s
	return nil
}

func (f *format) String() string { return f.value }

// Type implements pflag.Value.
func (*format) Type() string { return "FORM" }

// printJSON prints v as one line.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// printProto prints a message of the public protocol as one line, by its field
// names there; 64-bit numbers are strings, as in all JSON of protobuf.
func printProto(w io.Writer, m proto.Message) error {
	b, err := marshalProto(m)
	if err != nil {
		return err
	}
	return printJSON(w, json.RawMessage(b)) // which also evens out the white space
}

func marshalProto(m proto.Message) ([]byte, error) {
	b, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return b, nil
}

// newTable has no borders and no colours, so that it is the same on a terminal
// and in a pipe.
func newTable(w io.Writer, header ...any) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	t.AppendHeader(header)
	return t
}

// text is bytes in JSON: as a string when they are valid UTF-8, else in base64.
type text struct {
	plain  *string
	base64 []byte
}

func textOf(b []byte) text {
	if utf8.Valid(b) {
		s := string(b)
		return text{plain: &s}
	}
	return text{base64: b}
}

// siblingJSON is one version of a key.
type siblingJSON struct {
	Index   int    `json:"index"`
	Version string `json:"version"`
	Region  string `json:"region"`
	Stamp   string `json:"stamp"`
	Time    string `json:"time"`
	Deleted bool   `json:"deleted,omitempty"`
	Expires string `json:"expires,omitempty"`
	// Equals are other versions with the same value.
	Equals []string `json:"equals,omitempty"`
	Size   int      `json:"size"`
	// Omitted: the value is left out for its size.
	Omitted  bool    `json:"omitted,omitempty"`
	Value    *string `json:"value,omitempty"`
	ValueB64 []byte  `json:"value_b64,omitempty"`
}

const timeForm = "2006-01-02T15:04:05.000Z07:00"

func siblingsJSON(siblings []client.Sibling) []siblingJSON {
	out := make([]siblingJSON, len(siblings))
	for i, s := range siblings {
		j := siblingJSON{
			Index: i, Version: versionText(s.ID), Region: s.Region, Stamp: hlc.Stamp(s.Stamp).String(),
			Time: s.Time.UTC().Format(timeForm), Deleted: s.Deleted, Size: s.Size, Omitted: s.Omitted,
		}
		if !s.Expires.IsZero() {
			j.Expires = s.Expires.UTC().Format(timeForm)
		}
		for _, id := range s.Equals {
			j.Equals = append(j.Equals, versionText(id))
		}
		if !s.Deleted && !s.Omitted {
			t := textOf(s.Value)
			j.Value, j.ValueB64 = t.plain, t.base64
		}
		out[i] = j
	}
	return out
}

// versionText names a write as logs and dumps do: sequence@region.n.
func versionText(id client.VersionID) string {
	return crdt.Dot{Actor: crdt.Actor(id.Actor), N: id.N}.String()
}

// achievedJSON says what an answer rests on.
type achievedJSON struct {
	Level       string   `json:"level,omitempty"`
	Needed      int      `json:"needed,omitempty"`
	Replicas    []string `json:"replicas,omitempty"`
	Region      string   `json:"region,omitempty"`
	Coordinator string   `json:"coordinator,omitempty"`
	Hinted      []string `json:"hinted,omitempty"`
	Degraded    bool     `json:"degraded,omitempty"`
	Attempts    int      `json:"attempts,omitempty"`
	// Reached is the strongest level that is fulfilled, Regions what each region
	// had to do with it.
	Reached string       `json:"reached,omitempty"`
	Regions []regionJSON `json:"regions,omitempty"`
}

type regionJSON struct {
	Region   string `json:"region"`
	State    string `json:"state"`
	Replicas int    `json:"replicas"`
	Needed   int    `json:"needed"`
	Detail   string `json:"detail,omitempty"`
}

func regionsJSON(list []client.RegionInfo) (out []regionJSON) {
	for _, g := range list {
		out = append(out, regionJSON{g.Region, g.State.String(), g.Replicas, g.Needed, g.Detail})
	}
	return out
}

func (q *request) achieved() achievedJSON {
	i := q.info
	l := level(i.Level)
	reached := ""
	if i.Reached != 0 {
		reached = i.Reached.String()
	}
	return achievedJSON{
		Reached: reached, Regions: regionsJSON(i.Regions),
		Level: l.String(), Needed: i.Needed, Replicas: i.Replicas, Region: i.Region,
		Coordinator: i.Coordinator, Hinted: i.Hinted, Degraded: i.Degraded, Attempts: i.Attempts,
	}
}

// preview of a value for a table: quoted, so that it cannot play with the
// terminal, and cut.
func preview(b []byte) string {
	const most = 40
	cut := ""
	if len(b) > most {
		b, cut = b[:most], "..."
		for i := 0; i < utf8.UTFMax-1 && !utf8.Valid(b); i++ { // not in the middle of a rune
			b = b[:len(b)-1]
		}
	}
	return strconv.Quote(string(b)) + cut
}

// sizeText is a number of bytes for people.
func sizeText(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/unit, 0
	for f >= unit && i < 4 {
		f, i = f/unit, i+1
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGTP"[i])
}
