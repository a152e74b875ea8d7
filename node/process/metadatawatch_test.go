package process

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/topology/jskv"
)

// serversTwin answers like the servers do, after a while.
type serversTwin struct {
	asked  int
	after  time.Duration
	answer jskv.Servers
	err    error
}

func (r *serversTwin) ask(ctx context.Context) (jskv.Servers, error) {
	r.asked++
	select {
	case <-time.After(r.after):
		return r.answer, r.err
	case <-ctx.Done():
		return jskv.Servers{}, ctx.Err()
	}
}

// looked looks and expects what is told within a time.
func looked(t *testing.T, w *metadataWatch, within time.Duration, want string) {
	t.Helper()
	began := time.Now()
	got := fmt.Sprint(w.look().problem())
	if took := time.Since(began); got != want || took > within {
		t.Errorf("after %v: %s\nwant within %v: %s", took, got, within, want)
	}
}

func TestMetadataIsAskedWhenSomebodyLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers := serversTwin{after: 100 * time.Millisecond, answer: jskv.Servers{Total: 3, Up: 3}}
		w := newMetadataWatch(servers.ask)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go w.Run(ctx)

		time.Sleep(time.Hour)
		if servers.asked != 0 {
			t.Errorf("asked %d times, and nobody looked", servers.asked)
		}
		for range 20 {
			go w.look()
		}
		looked(t, w, servers.after, "<nil>")
		for range 20 {
			looked(t, w, 0, "<nil>")
		}
		if synctest.Wait(); servers.asked != 1 {
			t.Errorf("asked %d times for 41 looks", servers.asked)
		}

		// What was told long ago is not told again: it is asked for, and waited for.
		servers.answer.Up = 2
		time.Sleep(time.Hour)
		looked(t, w, servers.after, "2 of 3 metadata servers up")
	})
}

func TestMetadataThatDoesNotAnswerHoldsNobody(t *testing.T) {
	const notYet = "the metadata servers were asked, and have not answered yet: look again"
	synctest.Test(t, func(t *testing.T) {
		servers := serversTwin{after: time.Hour, answer: jskv.Servers{Total: 3, Up: 3}}
		w := newMetadataWatch(servers.ask)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go w.Run(ctx)

		looked(t, w, metadataPatience, notYet)
		time.Sleep(metadataLimit)
		looked(t, w, 0, "the metadata servers do not answer: without a quorum, or cut off from this node: "+waits)

		servers.after = 0
		time.Sleep(metadataFresh)
		looked(t, w, 0, "<nil>")

		// How many there are is remembered; what was told a moment ago is told until there
		// is something newer, and no longer than that.
		servers.err = errors.New("no leader")
		time.Sleep(metadataFresh)
		looked(t, w, 0, "the 3 metadata servers do not answer: without a quorum, or cut off from this node: "+waits)
		servers.after = metadataPatience + time.Second
		time.Sleep(metadataFresh)
		looked(t, w, metadataPatience, "the 3 metadata servers do not answer: without a quorum, or cut off from this node: "+waits)
		time.Sleep(metadataOld + metadataFresh)
		looked(t, w, metadataPatience, notYet)
		if m := w.look(); m.Total != 3 || m.Up != 0 {
			t.Errorf("%+v", m)
		}
	})
}

func TestMetadataProblem(t *testing.T) {
	for want, s := range map[string]jskv.Servers{
		"<nil>":                      {Total: 3, Up: 3},
		"2 of 3 metadata servers up": {Total: 3, Up: 2},
		"3 of 4 metadata servers up": {Total: 4, Up: 3},
		"1 of 3 metadata servers up, without a quorum: " + waits: {Total: 3, Up: 1},
		"2 of 4 metadata servers up, without a quorum: " + waits: {Total: 4, Up: 2},
		"the 3 metadata servers are without a quorum: " + waits:  {Total: 3},
	} {
		if got := fmt.Sprint(metadata{Servers: s, At: time.Now()}.problem()); got != want {
			t.Errorf("%+v: %s, want %s", s, got, want)
		}
	}
	if err := (metadata{Servers: jskv.Servers{Total: 1, Up: 1}, At: time.Now()}).problem(); err != nil {
		t.Errorf("one of one: %v", err)
	}
}
