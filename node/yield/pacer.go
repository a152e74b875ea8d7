package yield

import (
	"context"
	"sync"
	"time"

	"github.com/atolldb/atoll/internal/pause"
)

// Pacer spreads the bytes of one sort of background work over time. Who has
// done something pays for it, in turn, before he goes on. The zero value with a
// Governor, or without, is ready.
type Pacer struct {
	Governor *Governor

	mu  sync.Mutex
	due account
}

// account is what was done, and what has been paid for it, in bytes since ever.
// It has no clock.
type account struct {
	owed, paid float64
	at         time.Time
}

// burst is how much may be done unpaid after a rest, in seconds of the rate.
const burst = .05

// pass lets time pass at a rate. Nothing but the burst is saved up.
func (a *account) pass(now time.Time, rate float64) {
	if !a.at.IsZero() {
		a.paid += max(now.Sub(a.at).Seconds(), 0) * rate
	}
	a.at = now
	a.paid = min(a.paid, a.owed+burst*rate)
}

// after is how long until bill is paid at this rate.
func (a *account) after(bill, rate float64) time.Duration {
	return max(time.Duration((bill-a.paid)/rate*float64(time.Second)), 0)
}

// slice is how long a payer goes by one look at the rate.
const slice = 50 * time.Millisecond

// Pay waits until n bytes that were done are paid for, at no more than most a
// second, which is asked for again and again: what changes holds at once. The
// only error is that of ctx.
func (p *Pacer) Pay(ctx context.Context, n int, most func() uint64) error {
	return p.pay(ctx, n, func() uint64 { return p.Governor.Rate(most()) })
}

// PayPatiently is Pay for work that can wait, since nobody lacks anything until it is
// done: a quarter of the Floor, and a 256th of most, is the least that it has.
func (p *Pacer) PayPatiently(ctx context.Context, n int, most func() uint64) error {
	return p.pay(ctx, n, func() uint64 { return p.Governor.rate(most(), patientFloor, 4*leastShare) })
}

// PayAtLeast is Pay for work that is to be done in time, whatever it does to clients: at the
// rate that harms nobody, or at least, in bytes a second, if that is more. What has
// to be done faster than anything can be is not held.
func (p *Pacer) PayAtLeast(ctx context.Context, n int, least func() float64) error {
	return p.pay(ctx, n, func() uint64 { return p.atLeast(least()) })
}

func (p *Pacer) atLeast(rate float64) uint64 {
	return max(p.Governor.Level(), uint64(min(rate, ceiling)))
}

func (p *Pacer) pay(ctx context.Context, n int, rate func() uint64) error {
	bill, wait := p.charge(n, rate())
	for wait > 0 {
		if !pause.For(ctx, min(wait, slice)) {
			return ctx.Err()
		}
		wait = p.left(bill, rate())
	}
	return ctx.Err()
}

// Delay charges n bytes and returns how long they take to be paid for, most at
// most, at the rate of now, which allowed does not bound from above, since those
// who ask keep to it: for who cannot wait himself.
func (p *Pacer) Delay(n int, allowed uint64, most time.Duration) time.Duration {
	_, wait := p.charge(n, max(p.Governor.Level(), p.Governor.Rate(allowed)))
	return min(wait, most)
}

// DelayAtLeast is Delay for PayAtLeast.
func (p *Pacer) DelayAtLeast(n int, least float64) time.Duration {
	_, wait := p.charge(n, p.atLeast(least))
	return wait
}

// charge makes out a bill for n bytes, and tells how long it takes to be paid.
func (p *Pacer) charge(n int, rate uint64) (bill float64, wait time.Duration) {
	p.Governor.did(n)
	p.mu.Lock()
	defer p.mu.Unlock()
	bill = p.due.owed + float64(n)
	return bill, p.wait(bill, float64(n), rate)
}

// left is how long it still takes to pay a bill.
func (p *Pacer) left(bill float64, rate uint64) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wait(bill, 0, rate)
}

// wait lets time pass, and n bytes be owed. Nothing is paid for while work is held:
// else all who wait would go on at once when it is over. Called with mu held.
func (p *Pacer) wait(bill, n float64, rate uint64) time.Duration {
	now, perSecond := time.Now(), float64(max(rate, 1))
	held := time.Duration(0)
	if rate < ceiling {
		held = p.Governor.held(now)
	}
	if held > 0 {
		p.due.at = now
	}
	p.due.pass(now, perSecond)
	p.due.owed += n
	if rate >= ceiling {
		return 0
	}
	return max(p.due.after(bill, perSecond), held)
}
