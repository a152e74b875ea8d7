package coord

import "github.com/atolldb/atoll/node/cas"

// A node whose clock is ahead bids ballots that no other acceptor takes, and
// promises them to itself before it knows. Such a promise holds, durably, until that
// time has come; until then the node decides nothing for the key, and says so: the
// next server of the key does, with the other acceptors.

// inReach is how far ahead, in milliseconds, a ballot may be that is waited for; a node
// which has forgotten its promises takes none below half a second ahead, for half a
// second.
const inReach = 1000

func outOfReach(b cas.Ballot, now int64) bool { return b.Millis() > now+inReach }

// ownPromise notes when what this node has promised itself keeps it from proposing.
func (sk *serialKey) ownPromise(a *cas.Answer, now int64) {
	if a.Verdict == cas.OK || !outOfReach(a.Promised, now) {
		return
	}
	sk.mu.Lock()
	defer sk.mu.Unlock()
	if sk.run != nil {
		sk.run.barred = true
	}
}

// bar ends a turn whose message nobody would take: the proposer has bid too much,
// when the clock was ahead. It was sent to nobody.
func (sk *serialKey) bar(verb cas.Verb, turn uint64) {
	now := sk.c.HLC.Now()
	sk.mu.Lock()
	if sk.run != nil {
		sk.run.barred = true
	}
	sk.mu.Unlock()
	sk.feed(func(p *cas.Proposer) cas.Step {
		if verb == cas.Accept {
			return p.Unsent(turn, nil, now)
		}
		return p.Expire()
	})
}
