package peertest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

func echo(t *testing.T, n Net) {
	a := n.Start("a", mute)
	n.Start("b", mirror)
	for i := range 20 {
		mustEcho(t, a, "b", fmt.Sprintf("message %d", i))
	}
}

func emptyBody(t *testing.T, n Net) {
	a := n.Start("a", mute)
	n.Start("b", mirror)
	mustEcho(t, a, "b", "")
}

func requestFields(t *testing.T, n Net) {
	type seen struct {
		from topology.NodeID
		req  peer.Request
	}
	got := make(chan seen, 1)
	a := n.Start("a", mute)
	n.Start("b", func(from topology.NodeID, req peer.Request, reply peer.Done) {
		got <- seen{from, req}
		reply(nil, nil)
	})
	want := peer.Request{Verb: peer.VerbPull, Epoch: 1 << 40, Timeout: 12 * time.Second, Body: []byte("body")}
	if _, err := call(t, a, "b", want); err != nil {
		t.Fatal(err)
	}
	s := await(t, got, "the request")
	if s.from != "a" || s.req.Verb != want.Verb || s.req.Epoch != want.Epoch || !bytes.Equal(s.req.Body, want.Body) {
		t.Errorf("got %+v from %s, want %+v from a", s.req, s.from, want)
	}
	if s.req.Timeout <= 0 || s.req.Timeout > want.Timeout {
		t.Errorf("the peer was given %s of %s", s.req.Timeout, want.Timeout)
	}
}

func thousands(t *testing.T, n Net) {
	a := n.Start("a", mute)
	b := n.Start("b", mirror)
	n.Start("c", mirror)
	reach(t, a, "b")
	reach(t, a, "c")
	reach(t, b, "c")
	const senders, each = 16, 250
	failed := make(chan error, senders)
	for s := range senders {
		from, to := a, topology.NodeID("b")
		switch s % 3 {
		case 1:
			to = "c"
		case 2:
			from, to = b, "c"
		}
		go func() {
			failed <- func() error {
				outcomes := make(chan error, each)
				for i := range each {
					want := fmt.Appendf(nil, "%d/%d/%s", s, i, strings.Repeat("x", i))
					from.Send(to, peer.Request{Verb: peer.VerbRead, Timeout: patience, Body: want}, func(got []byte, err error) {
						if err == nil && !bytes.Equal(got, want) {
							err = fmt.Errorf("got %.20q, want %.20q", got, want)
						}
						outcomes <- err
					})
				}
				var errs error
				for range each {
					errs = errors.Join(errs, <-outcomes)
				}
				return errs
			}()
		}()
	}
	for range senders {
		if err := await(t, failed, "a sender"); err != nil {
			t.Error(err)
		}
	}
}

func refusals(t *testing.T, n Net) {
	a := n.Start("a", mute)
	n.Start("b", func(_ topology.NodeID, req peer.Request, reply peer.Done) {
		err := &peer.Refusal{Code: peer.Code(req.Body[0]), Detail: string(req.Body[1:])}
		if req.Epoch == 1 {
			reply(nil, err)
			return
		}
		reply([]byte("not to be seen"), fmt.Errorf("while at it: %w", err))
	})
	for code := peer.CodeInternal; code <= peer.CodeStopping; code++ {
		for _, detail := range []string{"", "why", strings.Repeat("long ", 2000)} {
			for _, epoch := range []topology.Epoch{1, 2} {
				reply, err := call(t, a, "b", peer.Request{
					Verb: peer.VerbRead, Epoch: epoch, Timeout: patience, Body: append([]byte{byte(code)}, detail...),
				})
				var no *peer.Refusal
				if !errors.As(err, &no) {
					t.Fatalf("code %d: got %v", code, err)
				}
				if no.Code != code || !strings.HasPrefix(detail, no.Detail) || len(no.Detail) < min(len(detail), 256) {
					t.Errorf("sent code %d and %d bytes, got %d and %d", code, len(detail), no.Code, len(no.Detail))
				}
				if reply != nil {
					t.Errorf("a refusal brought %d bytes along", len(reply))
				}
			}
		}
	}
}

func otherErrors(t *testing.T, n Net) {
	a := n.Start("a", mute)
	n.Start("b", func(_ topology.NodeID, _ peer.Request, reply peer.Done) { reply(nil, errors.New("disk on fire")) })
	_, err := call(t, a, "b", request("x"))
	var no *peer.Refusal
	if !errors.As(err, &no) || no.Code != peer.CodeInternal || no.Detail != "disk on fire" {
		t.Errorf("got %v, want an internal refusal with the text", err)
	}
}

func tooLargeRequest(t *testing.T, n Net) {
	a := n.Start("a", mute)
	n.Start("b", mirror)
	reach(t, a, "b")
	req := request("")
	req.Body = make([]byte, peer.MaxMessage+1)
	if _, err := call(t, a, "b", req); !errors.Is(err, peer.ErrNotTried) {
		t.Errorf("got %v, want ErrNotTried", err)
	}
	mustEcho(t, a, "b", "the link still works")
}

func tooLargeReply(t *testing.T, n Net) {
	a := n.Start("a", mute)
	n.Start("b", func(_ topology.NodeID, _ peer.Request, reply peer.Done) { reply(make([]byte, peer.MaxMessage+1), nil) })
	_, err := call(t, a, "b", request(""))
	var no *peer.Refusal
	if !errors.As(err, &no) || no.Code != peer.CodeInternal {
		t.Errorf("got %v, want an internal refusal", err)
	}
}

func largeBothWays(t *testing.T, n Net) {
	a := n.Start("a", mute)
	n.Start("b", mirror)
	for _, size := range []int{peer.LargeMessage, peer.LargeMessage + 1, 1 << 20, peer.MaxMessage} {
		mustEcho(t, a, "b", strings.Repeat("0123456789abcdef", size/16+1)[:size])
	}
}

// largeRequestsBeside: a small request that is sent after many large ones does
// not wait for them all (P4).
func largeRequestsBeside(t *testing.T, n Net) {
	beside(t, n, func(_ topology.NodeID, _ peer.Request, reply peer.Done) { reply(nil, nil) }, 4<<20)
}

// largeRepliesBeside: nor does its reply wait for large replies.
func largeRepliesBeside(t *testing.T, n Net) {
	large := make([]byte, 4<<20)
	beside(t, n, func(_ topology.NodeID, req peer.Request, reply peer.Done) {
		if req.Verb == peer.VerbScan {
			reply(large, nil)
			return
		}
		reply(nil, nil)
	}, 0)
}

func beside(t *testing.T, n Net, h peer.Handler, size int) {
	const many = 12
	a := n.Start("a", mute)
	n.Start("b", h)
	reach(t, a, "b")
	order := make(chan bool, many+1)
	note := func(large bool) peer.Done {
		return func(_ []byte, err error) {
			if err != nil {
				t.Error(err)
			}
			order <- large
		}
	}
	body := make([]byte, size)
	for range many {
		a.Send("b", peer.Request{Verb: peer.VerbScan, Timeout: patience, Body: body}, note(true))
	}
	a.Send("b", request("small"), note(false))
	place := -1
	for i := range many + 1 {
		if !await(t, order, "a reply") {
			place = i
		}
	}
	if place > many/2 {
		t.Errorf("the small message came in as number %d of %d", place+1, many+1)
	}
}

func self(t *testing.T, n Net) {
	a := n.Start("a", mirror)
	mustEcho(t, a, "a", "to myself")
	reached := make(chan topology.NodeID, 1)
	b := n.Start("b", func(from topology.NodeID, _ peer.Request, reply peer.Done) {
		reached <- from
		reply(nil, &peer.Refusal{Code: peer.CodeFull, Detail: "no"})
	})
	_, err := call(t, b, "b", request(""))
	var no *peer.Refusal
	if !errors.As(err, &no) || no.Code != peer.CodeFull {
		t.Errorf("got %v, want a refusal", err)
	}
	if from := await(t, reached, "the request"); from != "b" {
		t.Errorf("the request to myself came from %q", from)
	}
	c := n.Start("c", mute)
	req := request("")
	req.Timeout = 50 * time.Millisecond
	if _, err := call(t, c, "c", req); !errors.Is(err, peer.ErrTimeout) {
		t.Errorf("got %v, want ErrTimeout", err)
	}
}
