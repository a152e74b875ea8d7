package jetstream

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
)

func TestComplaints(t *testing.T) {
	refusal := fmt.Errorf("%w: %w", nats.ErrTLS, x509.UnknownAuthorityError{})
	alert := errors.New("remote error: tls: certificate required")
	doubt := fmt.Errorf("%w: connection closed by remote after TLS handshake: %w", nats.ErrTLS, io.EOF)
	nobody := errors.New("connection refused")
	type step struct {
		after time.Duration
		err   error
		warn  bool
	}
	for name, steps := range map[string][]step{
		"a refusal at once, and from time to time": {{0, refusal, true}, {time.Second, alert, false}, {tellEvery, alert, true}},
		"nobody there": {{0, nobody, false}, {tellEvery, nobody, false}},
		"doubts in a row, and a reason at once": {
			{0, doubt, false}, {1, doubt, false}, {1, doubt, false}, {1, nobody, false}, {1, doubt, false},
			{1, doubt, true}, {1, doubt, false}, {1, alert, true}, {1, alert, false}, {tellEvery - 2, doubt, true},
		},
		"doubts now and then": {
			{0, doubt, false}, {tellEvery + 1, doubt, false}, {tellEvery + 1, doubt, false},
			{tellEvery + 1, doubt, false}, {tellEvery + 1, doubt, false}, {tellEvery + 1, doubt, false},
		},
	} {
		c := &complaints{logger: hclog.NewNullLogger()}
		now := time.Now()
		for i, s := range steps {
			now = now.Add(s.after)
			if got := c.level(nil, s.err, now); (got == hclog.Warn) != s.warn {
				t.Errorf("%s: step %d is told as %v", name, i, got)
			}
		}
	}
}
