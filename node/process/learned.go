package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/internal/wholefile"
	"github.com/atolldb/atoll/node/topology"
)

// What other regions told of themselves is kept in the data directory, one file
// a region: regions/<name>.topology, in topology's encoding. It is where a node
// begins to ask after a restart. A file that cannot be read costs no more than
// that: the configuration has members, too. The map of all regions is kept beside
// them, as regions/map.

func (p *Process) learnedDir() string { return filepath.Join(p.cfg.DataDir, "regions") }

func (p *Process) learnedFile(r topology.Region) string {
	return filepath.Join(p.learnedDir(), string(r)+".topology")
}

// recall reads what earlier runs have learned, and returns the epochs that are
// kept.
func (p *Process) recall() (map[topology.Region]topology.Epoch, error) {
	kept := map[topology.Region]topology.Epoch{}
	for _, of := range p.world.others.All() {
		t, err := p.learned(of)
		if err != nil {
			return nil, err
		}
		if t != nil && p.world.others.Learn(t) {
			kept[t.Region] = t.Epoch
		}
	}
	return kept, nil
}

// learned is what earlier runs have learned of a region, nil for nothing that is of use
// beside what is configured.
func (p *Process) learned(of *topology.Topology) (*topology.Topology, error) {
	b, err := os.ReadFile(p.learnedFile(of.Region))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what was learned of region %s: %w", of.Region, err)
	}
	t, err := topology.Decode(b)
	if err != nil {
		p.log.Warn("what was learned of another region is unreadable and is learned anew", "of", string(of.Region), "error", err)
		return nil, nil
	}
	if t.RegionID != of.RegionID || t.Table.Partitions() != of.Table.Partitions() {
		return nil, nil // of one that had the name before
	}
	return t, nil
}

// keepLearned writes what other regions tell of themselves, from what is kept
// already.
func (p *Process) keepLearned(ctx context.Context, kept map[topology.Region]topology.Epoch) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.world.others.Newer():
		}
		for _, t := range p.world.others.All() {
			if t.Epoch == unheard || t.Epoch == kept[t.Region] {
				continue
			}
			p.log.Info("another region has changed", "of", string(t.Region), "epoch", uint64(t.Epoch), "members", len(t.Members))
			if err := replaceFile(p.learnedFile(t.Region), topology.Encode(t)); err != nil {
				p.log.Warn("what was learned of another region is not kept", "of", string(t.Region), "error", err)
				continue
			}
			kept[t.Region] = t.Epoch
		}
	}
}

// replaceFile makes the directory, too.
func replaceFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	return wholefile.Replace(path, data)
}

func (p *Process) regionMapFile() string { return filepath.Join(p.learnedDir(), "map") }

// recallRegions reads the map of regions that earlier runs have kept, nil for none.
func (p *Process) recallRegions() ([]byte, error) {
	b, err := os.ReadFile(p.regionMapFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// recallOthers has a node that is configured with its region alone go by the map that it
// has kept, if that has others: it would serve as if there were none.
func (p *Process) recallOthers() error {
	if p.cfg.abroad() {
		return nil
	}
	b, err := p.recallRegions()
	if err != nil {
		return fmt.Errorf("read the map of regions: %w", err)
	}
	if b == nil {
		return nil
	}
	k, err := regionmap.DecodeKnown(b)
	if err != nil {
		return fmt.Errorf("read the map of regions at %s: %w", p.regionMapFile(), err)
	}
	if k.Map == nil || len(k.Map.Voters()) < 2 {
		return nil
	}
	p.log.Warn("the configuration has one region, and the map of regions has others: it is gone by", "regions", strings.Join(k.Map.Voters(), ", "))
	p.cfg.Geo.Others = true
	var ps Problems
	if err := p.cfg.Validate(); errors.As(err, &ps) {
		return fmt.Errorf("configuration, of a region that has others by the map of regions: %w", err)
	}
	return nil
}

func (p *Process) keepRegions(b []byte) error { return replaceFile(p.regionMapFile(), b) }
