package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/coord"
)

// The exit codes of commands that speak to a server. They are promised: new
// ones may be added, none changes its meaning.
const (
	exitNotFound     = 3
	exitPrecondition = 4
	exitSiblings     = 5
	exitUnavailable  = 6
	exitUnknown      = 7
	exitDegraded     = 8
	exitPartial      = 9
)

const exitCodesHelp = `The exit codes of all commands:

  0  done
  1  error that is none of the following
  2  wrong usage: a flag, an argument, a configuration, or input that the
     server refuses as invalid (too large a value, a context of another key,
     no such bucket); nothing was written
  3  the key has no value
  4  a condition does not hold (--if-absent and its like, too many siblings
     for a blind write, a plan of a topology that has changed); nothing was
     written. From 'atoll outcome': the write was not applied, and never will be
  5  the key has siblings that nobody has resolved
  6  unavailable: too few owners or no node answered in time, the server is
     too busy or its disk is full; nothing was written
  7  the outcome is unknown: the write may have been applied. The message says
     which command asks what became of it ('atoll outcome'), and writing again
     with the id that it names does not write twice ('atoll task ls' before
     changing members again)
  8  degraded: the cluster answers, but a node or a link is down (status), a
     region is out of service, not heard, or without its lease (dr status, dr
     lease), or not everything could be repaired (repair --wait)
  9  partial: the write is applied in the region that was asked, and not known
     to be in all the regions that --consistency or --regions ask for. It will
     get there; nothing is to be written again

A command over many keys (import, restore) ends with the code of the worst that
happened to one of them: 7 before 6 before 1.`

// exitCodesTopic is "atoll help exit-codes".
func exitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long:  exitCodesHelp,
	}
}

// outcomes in the order in which they are asked for: an error may be several
// of them.
var outcomes = []struct {
	is   error
	code int
	next string
}{
	{client.ErrUnknownOutcome, exitUnknown, ""}, // see unknown
	{client.ErrPartial, exitPartial, "nothing needs to be written again: the other regions get it when they can; -o json tells which have it"},
	{client.ErrLevelNotAllowed, exitUsage, "use a level that the bucket allows"},
	{client.ErrNotFound, exitNotFound, ""},
	{client.ErrSiblings, exitSiblings, ""},
	{client.ErrNoBucket, exitUsage, ""},
	{client.ErrBadSession, exitUsage, "begin a new session: name another file with --session"},
	{client.ErrSessionLost, exitPrecondition, "with --accept-loss the session goes on without them"},
	{client.ErrSessionBehind, exitUnavailable, "wait for the other region, ask another node, or begin a new session"},
	{client.ErrRegionFenced, exitUnavailable, "use nodes of another region; 'atoll dr status' says which are in service"},
	{client.ErrStale, exitUnavailable, "wait for the other region, or allow more with --max-staleness"},
	{client.ErrBadVersion, exitUsage, "read the key again, and give the context of that read"},
	{client.ErrInvalid, exitUsage, ""},
	{client.ErrBucketExists, exitPrecondition, "'atoll bucket show' says what it is, 'atoll bucket set' changes it"},
	{client.ErrRevision, exitPrecondition, "look at it again ('atoll bucket show'), and change what is there now"},
	{client.ErrContextRequired, exitPrecondition, "read the key, and write with --after what that read says"},
	{client.ErrConditionFailed, exitPrecondition, "look at what is there; -o json prints it with the context to write after"},
	{client.ErrTooManySiblings, exitPrecondition, "resolve the key ('atoll resolve'), or write with --after or --overwrite"},
	{client.ErrUnavailable, exitUnavailable, "see 'atoll status'"}, // see fewerOwners
	{client.ErrThrottled, exitUnavailable, "try again more slowly"},
	{client.ErrDeadline, exitUnavailable, "see 'atoll status', or give more time with --timeout"},
	{client.ErrDiskFull, exitUnavailable, "add room or nodes; see 'atoll status'"},
}

// failure turns an error of the SDK into what the user reads, and its exit
// code: what happened, why, and what to do next.
func (q *request) failure(err error) error {
	if err == nil {
		return nil
	}
	code, next := exitError, ""
	for _, o := range outcomes {
		if errors.Is(err, o.is) {
			code, next = o.code, o.next
			break
		}
	}
	text := err.Error()
	var e *client.Error
	if errors.As(err, &e) {
		text += q.bounds(e, text)
		if code == exitUnavailable {
			next = acrossRegions(e.Lacks, fewerOwners(e, next))
		}
		if code == exitUnknown {
			next = q.unknown(e)
		}
	}
	if next != "" {
		text += "\n  next: " + next
	}
	return withCode(code, described{text, err})
}

// fewerOwners adds for a read that one owner can answer it. A write that one owner
// acknowledges is refused unless its bucket or the configuration allows it, one with a
// condition always, and what changes buckets has no level.
func fewerOwners(e *client.Error, next string) string {
	if errors.Is(e, client.ErrUnavailable) && e.Op == "get" {
		return next + "; --consistency local-one needs one owner only"
	}
	return next
}

// acrossRegions is what to do next where it is not an owner that lacks but a region: to
// ask fewer owners would not help then, and at SERIAL it would give up what was asked for.
// A bucket's policy may have chosen the level, so it is the node that tells.
func acrossRegions(lacks client.Lack, next string) string {
	const lost = "'atoll status' says which regions are not heard; one that is lost for long is done without by 'atoll dr failover' (deploy/runbooks/region-failover.md)"
	switch lacks {
	case client.LackHome:
		return lost
	case client.LackRegions:
		return lost + "; --consistency local-quorum needs owners of this region only"
	}
	return next
}

// unreachable is the failure to speak to any node at all.
func unreachable(target string, err error) error {
	return unreachableBy(target, "--endpoints or "+endpointsVar, err)
}

// unreachableBy is the same where by is what says where the nodes are.
func unreachableBy(target, by string, err error) error {
	text := err.Error()
	if i := strings.LastIndex(text, "desc = "); i >= 0 { // what gRPC says last is what happened
		text = text[i+len("desc = "):]
		if s, err := strconv.Unquote(text); err == nil {
			text = strings.TrimPrefix(s, "transport: Error while dialing: ")
		}
	}
	next := "say where one is with " + by + ", or start one"
	if errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded { // somebody listens there, or nobody routes there
		next += "; one that starts tells on its admin listener what it waits for: /readyz?verbose"
	}
	return withCode(exitUnavailable, described{fmt.Sprintf("no node answers at %s: %s\n  next: %s", target, text, next), err})
}

// bounds says which input was wrong, unless text already does.
func (q *request) bounds(e *client.Error, text string) string {
	field, limit, seen := e.Field, e.Limit, e.Seen
	switch {
	case field != "" && strings.Contains(text, "field "+field):
		return ""
	case field != "":
	case errors.Is(e, client.ErrNoBucket):
		field, limit, seen = "bucket", "a bucket that exists", strconv.Quote(q.bucket)
	case errors.Is(e, client.ErrBadVersion):
		field, limit, seen = "after", "a context of this key and bucket", strconv.Quote(shorten(q.after, 40))
	case e.Needed > 0 && !strings.Contains(text, "answered"):
		who := " owners answered"
		if e.Lacks == client.LackRegions {
			who = " regions answered"
		}
		return ": " + strconv.Itoa(e.Acks) + " of " + strconv.Itoa(e.Needed) + who
	default:
		return ""
	}
	return inputBounds(field, limit, seen)
}

// inputBounds is how all messages about wrong input end.
func inputBounds(field, limit, seen string) string {
	return " (field " + field + ": limit " + limit + ", seen " + seen + ")"
}

// described is an error under another text.
type described struct {
	text string
	error
}

func (d described) Error() string { return d.text }
func (d described) Unwrap() error { return d.error }

// adminFailure is failure for calls of the Cluster service, which only look.
func adminFailure(doing string, err error) error {
	st := status.Convert(err)
	text := doing + ": " + st.Message()
	switch st.Code() {
	case codes.Unimplemented:
		return withCode(exitError, described{text + "\n  next: see 'atoll version' there: the node may be older than this program", err})
	case codes.InvalidArgument, codes.NotFound: // a bucket: no call asks for a key's value
		return withCode(exitUsage, described{text, err})
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted:
		return withCode(exitUnavailable, described{text, err})
	}
	return withCode(exitError, described{text, err})
}

// changeFailure is failure for calls of the Cluster service that change
// something.
func changeFailure(doing string, err error) error {
	e, ok := api.FromStatus(status.Convert(err))
	text := doing + ": " + status.Convert(err).Message()
	switch {
	case ok && e.Outcome == coord.Unknown,
		!ok && status.Code(err) != codes.Unimplemented: // the connection broke while it was under way
		return withCode(exitUnknown, described{text + "\n  next: see 'atoll task ls': it may have been done", err})
	case ok && e.Field == "plan":
		return withCode(exitPrecondition, described{text + "\n  next: plan again, and look at what is different", err})
	}
	return adminFailure(doing, err)
}

func shorten(s string, n int) string {
	if len(s) > n {
		return s[:n] + "..."
	}
	return s
}
