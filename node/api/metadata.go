package api

import (
	"fmt"
	"slices"
	"strings"

	"github.com/atolldb/atoll/node/topology"
)

// MetadataServers are the servers that keep a region's metadata, as its nodes tell of
// them.
type MetadataServers struct {
	// On are the nodes that run one and answer, Silent those that do not answer: they may
	// run one.
	On, Silent []topology.NodeID
	// Total is how many there are, those that are away included; 0 for not known, as where
	// somebody else runs them.
	Total int
}

// Metadata sums up what the nodes of a status say.
func (s *Status) Metadata() (m MetadataServers) {
	for i := range s.Nodes {
		switch n := &s.Nodes[i]; {
		case n.Error != "":
			m.Silent = append(m.Silent, n.ID)
		case n.MetadataServer:
			m.On = append(m.On, n.ID)
			m.Total = max(m.Total, n.MetadataServers)
		}
	}
	return m
}

// withoutNodes says what becomes of the servers when some nodes leave for good, one line
// for each of the nodes that run one, or seem to have run one; none where that is nobody.
func (m MetadataServers) withoutNodes(leaving []topology.NodeID) (warnings []string) {
	if m.Total == 0 {
		return nil
	}
	var run, may []string
	left := len(m.On)
	for _, id := range leaving {
		switch {
		case slices.Contains(m.On, id):
			run, left = append(run, string(id)), left-1
		case slices.Contains(m.Silent, id) && len(m.On) < m.Total:
			may = append(may, string(id))
		}
	}
	rest := fmt.Sprintf("%d of %d are left", left, m.Total)
	if 2*left <= m.Total {
		rest += ", which is no majority: no node can join, leave, be replaced, or start after it was away"
	}
	const next = `; see "A metadata server moves" in docs/operations.md`
	if len(run) > 0 {
		warnings = append(warnings, fmt.Sprintf(
			"%s: runs one of the region's metadata servers, and does not start again once it has left and was stopped; then %s; let another node take its part over first%s",
			strings.Join(run, ", "), rest, next))
	}
	if len(may) > 0 {
		warnings = append(warnings, fmt.Sprintf(
			"%s: does not answer, and seems to have run one of the region's metadata servers; %s; let another node take its part over%s",
			strings.Join(may, ", "), rest, next))
	}
	return warnings
}
