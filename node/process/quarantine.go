package process

import (
	"errors"
	"fmt"

	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/storage/badgerstore"
)

// maxQuarantined is how many damaged stores may lie about before a node no
// longer sets another one aside by itself: its disk is not to be trusted, and
// might become full.
const maxQuarantined = 3

// openOrSetAside opens the store. One that is damaged is set aside if there are
// other owners to get everything from; the node then begins with an empty one,
// as if its disk had been replaced.
func (p *Process) openOrSetAside(cfg badgerstore.Config) (*badgerstore.Store, error) {
	store, err := openReadable(cfg)
	if !errors.Is(err, storage.ErrCorrupt) {
		return store, err
	}
	if !p.hasOtherOwners() {
		return nil, fmt.Errorf("the store is damaged, and the configuration names no other owners of what was in it: %w", err)
	}
	before, listErr := badgerstore.Quarantined(cfg.Dir)
	if listErr != nil {
		return nil, errors.Join(err, listErr)
	}
	if len(before) >= maxQuarantined {
		return nil, fmt.Errorf("the store is damaged, as %d before it that lie in %s: %w", len(before), cfg.Dir, err)
	}
	to, moveErr := badgerstore.Quarantine(cfg.Dir)
	if moveErr != nil {
		return nil, errors.Join(err, moveErr)
	}
	p.log.Error("the store is damaged and was set aside: this node begins with an empty one and gets everything from the other owners; check the disk, and delete what was set aside", "set-aside", to, "error", err)
	return openReadable(cfg)
}

// openReadable opens a store in which all is readable that no node can start
// without.
func openReadable(cfg badgerstore.Config) (*badgerstore.Store, error) {
	store, err := badgerstore.Open(cfg)
	if err != nil {
		return nil, err
	}
	if err := replica.Readable(store); err != nil {
		return nil, errors.Join(fmt.Errorf("open store in %s: %w", cfg.Dir, err), store.Close())
	}
	return store, nil
}

// hasOtherOwners reports whether, by the configuration, everything that this
// node has is at other nodes, too.
func (p *Process) hasOtherOwners() bool {
	if p.cfg.Replicas < 2 {
		return false
	}
	for _, r := range p.cfg.Regions {
		if r.Name == p.cfg.Region {
			return len(r.Members) > 1 || p.cfg.Join != nil
		}
	}
	return false
}
