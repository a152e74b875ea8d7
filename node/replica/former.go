package replica

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
)

// maxFormer bounds the actors that a node remembers to have had.
const maxFormer = 16

// Former returns, ascending, the last actors that this node had before the one
// that it mints with now, as its directory and the registry know: nobody mints
// with them any more. None while it has no actor: it may yet resume the last one.
func (r *Replica) Former() []crdt.Actor {
	if all := r.former.Load(); all != nil && r.Actor() != 0 {
		return slices.DeleteFunc(slices.Clone(*all), func(a crdt.Actor) bool { return a == r.Actor() })
	}
	return nil
}

// noteFormer adds what the registry knows of, which the directory may not: it was
// wiped. It returns the last ones of both.
func noteFormer(tx storage.Txn, actors []crdt.Actor, id topology.Identity) ([]crdt.Actor, error) {
	var told []crdt.Actor
	b, err := tx.Get(keyFormer)
	if err == nil {
		err = json.Unmarshal(b, &told)
	}
	if err != nil {
		told = nil // there are none yet, or they are unreadable: rounds close what they know
	}
	if id.Before != 0 && !slices.Contains(told, id.Before) && !slices.Contains(actors, id.Before) {
		told = append(told, id.Before)
		told = told[max(0, len(told)-maxFormer):]
		if b, err = json.Marshal(told); err != nil {
			return nil, fmt.Errorf("encode former actors: %w", err)
		}
		if err := tx.Put(keyFormer, b); err != nil {
			return nil, fmt.Errorf("write former actors: %w", err)
		}
	}
	all := slices.Concat(told, actors)
	slices.Sort(all)
	all = slices.Compact(all)
	return all[max(0, len(all)-maxFormer-1):], nil
}
