package regionmap

import (
	"encoding/binary"
	"fmt"
)

// Contact is where a region that came in online is found by nodes whose configuration
// does not have it. It does not change afterwards: nodes learn from the region itself
// who is in it by then.
type Contact struct {
	// NATS are the URLs of its servers, without credentials.
	NATS []string
	// Members are nodes of it, where others begin to ask.
	Members []Seed
}

// Seed is a node of a region.
type Seed struct{ ID, Rack, Client, Peer string }

// Bounds of a contact.
const (
	MaxNATS    = 64
	MaxSeeds   = 256
	MaxAddress = 255 // bytes of an address, a URL, an id or a rack
)

// Empty reports whether it says nothing: the region is found by configuration.
func (c *Contact) Empty() bool { return len(c.NATS) == 0 && len(c.Members) == 0 }

// Check says what is wrong, if anything is.
func (c *Contact) Check() error {
	if len(c.NATS) > MaxNATS || len(c.Members) > MaxSeeds {
		return fmt.Errorf("%d servers and %d nodes, at most %d and %d", len(c.NATS), len(c.Members), MaxNATS, MaxSeeds)
	}
	text := func(what, s string, least int) error {
		if len(s) < least || len(s) > MaxAddress {
			return fmt.Errorf("%s of %d bytes", what, len(s))
		}
		return nil
	}
	for _, url := range c.NATS {
		if err := text("a URL", url, 1); err != nil {
			return err
		}
	}
	seen := map[string]bool{}
	for _, m := range c.Members {
		for _, err := range []error{text("a node's id", m.ID, 1), text("a rack", m.Rack, 0), text("a client address", m.Client, 0), text("a peer address", m.Peer, 1)} {
			if err != nil {
				return err
			}
		}
		if seen[m.ID] {
			return fmt.Errorf("node %q is there twice", m.ID)
		}
		seen[m.ID] = true
	}
	return nil
}

func (c *Contact) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(c.NATS)))
	for _, url := range c.NATS {
		dst = appendString(dst, url)
	}
	dst = binary.AppendUvarint(dst, uint64(len(c.Members)))
	for _, m := range c.Members {
		for _, s := range []string{m.ID, m.Rack, m.Client, m.Peer} {
			dst = appendString(dst, s)
		}
	}
	return dst
}

func (d *decoder) contact() (c Contact) {
	for range d.Count(MaxNATS, 1) {
		c.NATS = append(c.NATS, string(d.Bytes(MaxAddress)))
	}
	for range d.Count(MaxSeeds, 4) {
		var m Seed
		for _, to := range []*string{&m.ID, &m.Rack, &m.Client, &m.Peer} {
			*to = string(d.Bytes(MaxAddress))
		}
		c.Members = append(c.Members, m)
	}
	return c
}
