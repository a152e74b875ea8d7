// Package jskv is the topology registry and the topology store on a JetStream
// key-value bucket of the region's own NATS servers. It holds what nodes must
// agree on before they mint, and who owns what; nothing that a client waits for
// goes through it.
//
// The bucket of region east is TOPO_east, one key a fact. All values but the
// first are JSON:
//
//	topology      what the region is; see value.go
//	lead          {"holder":"n1","count":7,"ttl_ms":15000}  who leads its changes
//	actors        {"seq":12}                     highest sequence handed out
//	nodes.<id>    {"actor":771,"nonce":"..."}    the node's current identity
//	regions                          the map of all regions and this one's votes;
//	                                 bytes, see geo/regionmap
//	facts.<name>  {"value":"..."}                what all nodes must agree on
//
// Invariants:
//
//	K1  A change is a write at an expected revision; a majority of replicas
//	    has it before it counts. So changes are linearizable.
//	K2  Reads come from the stream's leader, never from any replica at hand
//	    (direct get, the default of buckets, answers with the past). A read
//	    may still be old while a leader is being replaced: it can then make a
//	    change fail or a nonce look spent, never make two nodes share one.
//	K3  A sequence is burnt when in doubt: after an unanswered request the
//	    next one takes the next number. A topology whose storing was not
//	    answered is recognised by a token that only its writer knows.
//	K4  Every call is repeated until its context ends; right after a start of
//	    the servers, and for some seconds after the loss of a leader, nothing
//	    answers.
//	K5  A lease is judged by the clock of whoever wants it: it is over when
//	    nothing has been written to it for as long as it says, as seen from
//	    there. No two clocks are compared.
package jskv

import (
	"time"

	"github.com/atolldb/atoll/node/topology"
)

const (
	// tryTimeout bounds one request; the first ones after a start get lost.
	tryTimeout = 2 * time.Second
	pauseMin   = 20 * time.Millisecond
	pauseMax   = time.Second

	actorsKey   = "actors"
	topologyKey = "topology"
	leadKey     = "lead"
	// history of each key, for whoever has to find out what happened.
	history = 8
	// maxValue is a topology, its token, and the headers of a write.
	maxValue = topology.MaxEncoded + 64<<10
	maxBytes = 64 << 20
)

// Config of a registry or a store.
type Config struct {
	Region   topology.Region
	RegionID topology.RegionID
	// Replicas of the bucket: 1 on a standalone server, else 3.
	Replicas int
}
