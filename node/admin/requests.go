package admin

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
)

// Requests measures clients' operations, beneath whatever brought them: unary
// calls, streams and batches alike.
type Requests struct {
	durations *prometheus.HistogramVec
	// epoch is what times are taken since: the time since a moment costs half
	// of what the time of day costs.
	epoch time.Time
	// cells are made when first needed: most combinations never happen.
	cells [len(opNames)][len(levelNames)][len(codeNames)]atomic.Pointer[cell]
}

type cell struct{ prometheus.Observer }

const (
	opGet = iota
	opPut
	opDelete
)

var opNames = [...]string{"get", "put", "delete"}

// levelNames are those of quorum.Level with underscores, and explicit counts.
var levelNames = [...]string{
	quorum.Default: "local_quorum", quorum.LocalOne: "local_one", quorum.LocalTwo: "local_two",
	quorum.LocalThree: "local_three", quorum.LocalQuorum: "local_quorum", quorum.LocalAll: "local_all",
	quorum.Quorum: "quorum", quorum.EachQuorum: "each_quorum", quorum.All: "all",
	quorum.LocalSerial: "local_serial", quorum.Serial: "serial",
	explicit: "explicit", otherLevel: "other",
}

const (
	explicit   = int(quorum.Serial) + 1
	otherLevel = explicit + 1
)

// codeNames are those of coord.Code, and what has no code there.
var codeNames = [...]string{
	codeOK:            "ok",
	coord.CodeInvalid: "invalid", coord.CodeUnavailable: "unavailable",
	coord.CodeOverloaded: "overloaded", coord.CodeDiskFull: "disk_full",
	coord.CodeTooManySiblings: "too_many_siblings", coord.CodeCorrupt: "corrupt",
	coord.CodeClockSkew: "clock_skew", coord.CodeBadContext: "bad_context",
	coord.CodeNoBucket: "no_bucket", coord.CodeInternal: "internal",
	coord.CodeStopping: "stopping", coord.CodeDeadline: "deadline",
	coord.CodePartial: "partial", coord.CodeConditionFailed: "condition_failed",
	coord.CodeSessionBehind: "session_behind", coord.CodeSessionLost: "session_lost",
	coord.CodeBadSession: "bad_session", coord.CodeStale: "stale",
	coord.CodeRegionFenced: "region_fenced", coord.CodeLevelNotAllowed: "level_not_allowed",
	coord.CodeContextAhead: "context_ahead", coord.CodeContextRequired: "context_required",
	coord.CodeNoVersion: "no_version", coord.CodeBucketExists: "bucket_exists", coord.CodeRevision: "revision_mismatch",
	codeUnknown: "unknown_outcome", codeOther: "other",
}

const (
	codeOK      = 0
	codeUnknown = int(coord.CodeRevision) + 1 // a write whose outcome is not known, whatever the cause
	codeOther   = codeUnknown + 1
)

// NewRequests returns a measure of nothing yet.
func NewRequests() *Requests {
	return &Requests{epoch: time.Now(), durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "atoll_request_duration_seconds",
		Help: "Duration of clients' operations, from the request's arrival at the coordinating node to the answer.",
		Buckets: []float64{
			.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10,
		},
	}, []string{"op", "consistency", "code"})}
}

func (r *Requests) observe(op int, level quorum.Level, count int, start time.Duration, err error) {
	l, c := levelOf(level, count), codeOf(err)
	at := r.cells[op][l][c].Load()
	if at == nil {
		at = &cell{r.durations.WithLabelValues(opNames[op], levelNames[l], codeNames[c])}
		r.cells[op][l][c].Store(at)
	}
	at.Observe(float64(time.Since(r.epoch)-start) / float64(time.Second))
}

func levelOf(level quorum.Level, count int) int {
	switch {
	case count != 0:
		return explicit
	case !level.Valid():
		return otherLevel
	default:
		return int(level)
	}
}

func codeOf(err error) int {
	if err == nil {
		return codeOK
	}
	var e *coord.Error
	switch {
	case !errors.As(err, &e):
		return codeOther
	case e.Outcome == coord.Unknown:
		return codeUnknown
	case int(e.Code) < len(codeNames) && codeNames[e.Code] != "":
		return int(e.Code)
	default:
		return codeOther
	}
}

// Coordinator returns next, measured.
func (r *Requests) Coordinator(next api.Coordinator) api.Coordinator { return measured{r, next} }

type measured struct {
	*Requests
	next api.Coordinator
}

func (m measured) Get(g coord.Get, done func(coord.GetResult, error)) {
	start, level, r := time.Since(m.epoch), g.Level, g.R
	m.next.Get(g, func(res coord.GetResult, err error) {
		m.observe(opGet, level, r, start, err)
		done(res, err)
	})
}

func (m measured) Put(p coord.Put, done func(coord.PutResult, error)) {
	start := time.Since(m.epoch)
	op, level, w := opPut, p.Level, p.W
	if p.Delete {
		op = opDelete
	}
	m.next.Put(p, func(res coord.PutResult, err error) {
		m.observe(op, level, w, start, err)
		done(res, err)
	})
}

// Outcome is not measured: it is a question about a request.
func (m measured) Outcome(o coord.OutcomeQuery, done func(coord.OutcomeResult, error)) {
	m.next.Outcome(o, done)
}

// Await is not measured: it takes as long as it takes.
func (m measured) Await(a coord.Await, done func([]coord.RegionAchieved, error)) {
	m.next.Await(a, done)
}
