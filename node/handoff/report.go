package handoff

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
)

// Report is what a Copier says of itself: the reply to VerbMoves, whose request
// has no body. It travels as JSON, since it is small and seldom; fields that a
// reader does not know are left out.
type Report struct {
	Copies []Progress
	// Received is what came by tasks, those of the past included, since this
	// node started.
	Received []Received
	// Keeps are the owners for whom this node keeps hints.
	Keeps []topology.NodeID
}

// Progress of one copy.
type Progress struct {
	Move      topology.MoveID
	Task      topology.TaskID
	Partition hashring.Partition
	// Began and With: see topology.Synced.
	Began topology.Epoch
	With  []topology.NodeID
	// Keys and Bytes that came, and the bytes that are expected in all, 0 for
	// not known yet.
	Keys, Bytes, Total uint64
	// Waits says why it does not go on, "" if it does.
	Waits string
	// Behind: see topology.Synced.
	Behind []topology.NodeID
}

// Received of one task.
type Received struct {
	Task topology.TaskID
	// Copies that were completed, the Bytes that came, those of copies that run
	// included, and the Size of what the completed ones hold: what Bytes is
	// above that came more than once.
	Copies, Bytes, Size uint64
	// Rate in bytes a second.
	Rate uint64
}

// maxReport bounds an encoded report that is read.
const maxReport = 1 << 20

var errReport = errors.New("malformed report of moves")

func encodeReport(r Report) []byte {
	b, err := json.Marshal(r)
	if err != nil { // of numbers and strings only
		panic(fmt.Sprintf("encode report: %v", err))
	}
	return b
}

func decodeReport(b []byte) (Report, error) {
	var r Report
	if len(b) > maxReport {
		return r, errReport
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return Report{}, fmt.Errorf("%w: %w", errReport, err)
	}
	return r, nil
}
