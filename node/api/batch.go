package api

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/status"

	"github.com/atolldb/atoll/node/coord"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// The bounds of a batch.
const (
	MaxBatchItems = 1000
	MaxBatchBytes = 4 << 20 // of a BatchPut's items, and of a BatchGet's results
	batchInFlight = 256     // items of one batch that run at a time
)

// window lets a batch have batchInFlight items in flight and waits for all.
type window struct {
	slots chan struct{}
	all   sync.WaitGroup
}

func newWindow() *window { return &window{slots: make(chan struct{}, batchInFlight)} }

// begin waits for a slot.
func (w *window) begin(ctx context.Context) error {
	select {
	case w.slots <- struct{}{}:
		w.all.Add(1)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *window) end() {
	<-w.slots
	w.all.Done()
}

// wait returns when every item has ended. The coordinator ends each by the
// batch's deadline, so this is not long after ctx's.
func (w *window) wait() { w.all.Wait() }

func checkBatch(items, bytes int) *coord.Error {
	bad := func(field string, limit, seen int, unit string) *coord.Error {
		return &coord.Error{
			Code: coord.CodeInvalid, Detail: "the batch is too large", Field: field,
			Limit: strconv.Itoa(limit) + unit, Seen: strconv.Itoa(seen) + unit,
		}
	}
	if items > MaxBatchItems {
		return bad("items", MaxBatchItems, items, " items")
	}
	if bytes > MaxBatchBytes {
		return bad("items", MaxBatchBytes, bytes, " bytes")
	}
	return nil
}

// BatchGet reads up to MaxBatchItems keys. Results that do not fit in
// MaxBatchBytes any more are errors with the field "reply"; they have to be
// asked for by Get.
func (s *KVService) BatchGet(ctx context.Context, q *atollv1.BatchGetRequest) (*atollv1.BatchGetResponse, error) {
	if s.isStopping() {
		return nil, ToStatus(stopping()).Err()
	}
	if bad := checkBatch(len(q.Items), 0); bad != nil {
		return nil, ToStatus(bad).Err()
	}
	results := make([]*atollv1.GetResult, len(q.Items))
	fail := func(i int, e *coord.Error) {
		results[i] = &atollv1.GetResult{Result: &atollv1.GetResult_Error{Error: s.errorProto(e)}}
	}
	var total atomic.Int64
	at, w, conn := deadline(ctx), newWindow(), connection(ctx)
	for i, item := range q.Items {
		g, bad := parseGet(item, at)
		if bad != nil {
			fail(i, bad)
			continue
		}
		if err := w.begin(ctx); err != nil {
			return nil, status.FromContextError(err).Err()
		}
		s.get(time.Now(), conn, getSize(&g), g, func(r coord.GetResult, err error) {
			defer w.end()
			if err != nil {
				fail(i, classify(err, false))
				return
			}
			ok := s.getResponse(r)
			size := replySize(ok)
			if total.Add(int64(size)) > MaxBatchBytes {
				total.Add(-int64(size)) // a smaller one may fit
				fail(i, tooLargeReply(MaxBatchBytes, size))
				return
			}
			results[i] = &atollv1.GetResult{Result: &atollv1.GetResult_Ok{Ok: ok}}
		})
	}
	w.wait()
	return &atollv1.BatchGetResponse{Results: results}, nil
}

// BatchPut writes up to MaxBatchItems keys, of MaxBatchBytes together. Each
// has its own result. Items for the same key run at the same time and become
// siblings unless their contexts say otherwise.
func (s *KVService) BatchPut(ctx context.Context, q *atollv1.BatchPutRequest) (*atollv1.BatchPutResponse, error) {
	if s.isStopping() {
		return nil, ToStatus(stopping()).Err()
	}
	bytes := 0
	for _, item := range q.Items {
		bytes += len(item.Bucket) + len(item.Key) + len(item.Value) + len(item.Context) + len(item.Session)
	}
	if bad := checkBatch(len(q.Items), bytes); bad != nil {
		return nil, ToStatus(bad).Err()
	}
	results := make([]*atollv1.PutResult, len(q.Items))
	fail := func(i int, e *coord.Error) {
		results[i] = &atollv1.PutResult{Result: &atollv1.PutResult_Error{Error: s.errorProto(e)}}
	}
	at, w, conn := deadline(ctx), newWindow(), connection(ctx)
	for i, item := range q.Items {
		p, bad := parsePut(item, at)
		if bad != nil {
			fail(i, bad)
			continue
		}
		if err := w.begin(ctx); err != nil {
			// Items before this one may have been applied.
			return nil, ToStatus(&coord.Error{
				Code: coord.CodeDeadline, Outcome: coord.Unknown, Detail: err.Error(),
			}).Err()
		}
		s.put(time.Now(), conn, putSize(&p), p, func(r coord.PutResult, err error) {
			defer w.end()
			if err != nil {
				fail(i, classify(err, true))
				return
			}
			results[i] = &atollv1.PutResult{Result: &atollv1.PutResult_Ok{Ok: s.putResponse(r)}}
		})
	}
	w.wait()
	return &atollv1.BatchPutResponse{Results: results}, nil
}
