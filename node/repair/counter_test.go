package repair_test

import (
	"sync"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

// counter is a transport that counts requests by verb.
type counter struct {
	peer.Transport
	mu   sync.Mutex
	sent map[peer.Verb]int
	// bytes of requests and replies.
	bytes map[peer.Verb]int
	// asked counts requests by receiver; epoch is the last one's.
	asked map[topology.NodeID]int
	epoch map[topology.NodeID]topology.Epoch
	// refuse, if not nil, says which requests get a refusal.
	refuse func(peer.Request) bool
}

func newCounter() *counter {
	return &counter{sent: map[peer.Verb]int{}, bytes: map[peer.Verb]int{}, asked: map[topology.NodeID]int{}, epoch: map[topology.NodeID]topology.Epoch{}}
}

func (c *counter) Send(to topology.NodeID, req peer.Request, done peer.Done) {
	c.mu.Lock()
	c.sent[req.Verb]++
	c.asked[to]++
	c.epoch[to] = req.Epoch
	c.bytes[req.Verb] += len(req.Body)
	refused := c.refuse != nil && c.refuse(req)
	c.mu.Unlock()
	if refused {
		go done(nil, &peer.Refusal{Code: peer.CodeInternal, Detail: "by the test"})
		return
	}
	c.Transport.Send(to, req, func(b []byte, err error) {
		c.mu.Lock()
		c.bytes[req.Verb] += len(b)
		c.mu.Unlock()
		done(b, err)
	})
}

// reset forgets what was counted.
func (c *counter) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.sent)
	clear(c.bytes)
	clear(c.asked)
}

func (c *counter) askedOf(id topology.NodeID) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked[id]
}

func (c *counter) count(v peer.Verb) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent[v]
}
