package process

import (
	"cmp"
	"fmt"
	"maps"
	"math/bits"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/bucket"
	"github.com/atolldb/atoll/node/collect"
	"github.com/atolldb/atoll/node/hint"
	"github.com/atolldb/atoll/node/topology"
)

var (
	nodeName   = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)
	regionName = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
)

const (
	wantNode    = "must be 1..63 of a-z, 0-9 and -"
	wantRegion  = "must be 1..32 of a-z, 0-9 and -"
	wantAddr    = "must be host:port"
	wantPort    = "must be host:port with a port of 1..65535"
	wantOpen    = "listens outside of loopback in plain text: use a loopback address, or set insecure: true"
	minMaxStore = 256 * MiB
	maxValue    = 8 * MiB
	maxWeight   = 1000
)

// Validate returns all that is wrong, as Problems, or nil.
func (c Config) Validate() error {
	v := validator{c: &c}
	v.node()
	v.listeners()
	v.ring()
	v.regions()
	v.nats()
	v.buckets()
	v.upkeep()
	v.rest()
	return v.ps.err()
}

type validator struct {
	c  *Config
	ps Problems
}

func (v *validator) node() {
	c := v.c
	if !nodeName.MatchString(string(c.Node)) {
		v.ps.add("node", wantNode, string(c.Node))
	}
	if !regionName.MatchString(string(c.Region)) {
		v.ps.add("region", wantRegion, string(c.Region))
	}
	if c.DataDir == "" {
		v.ps.add("data_dir", "must be a directory", c.DataDir)
	}
	if c.SecretFile == "" && !c.alone() {
		v.ps.add("secret_file", "must be a file, the same secret on all nodes of all regions", c.SecretFile)
	}
}

func (v *validator) listeners() {
	c := v.c
	v.listen("listen.client", c.Listen.Client)
	v.listen("listen.peer", c.Listen.Peer)
	v.listen("listen.admin", c.Listen.Admin)
	taken := map[string]string{}
	for _, l := range []struct{ field, addr string }{
		{"listen.client", c.Listen.Client}, {"listen.peer", c.Listen.Peer},
		{"listen.admin", c.Listen.Admin}, {"nats.listen", c.NATS.Listen},
	} {
		if _, port, err := net.SplitHostPort(l.addr); err != nil || port == "0" {
			continue
		}
		if other := taken[l.addr]; other != "" {
			v.ps.add(l.field, "must differ from "+other, l.addr)
		}
		taken[l.addr] = l.field
	}
}

func (v *validator) listen(field, addr string) {
	host, ok := splitAddr(addr, 0)
	switch {
	case !ok:
		v.ps.add(field, wantAddr, addr)
	case !v.c.Insecure && !isLoopback(host):
		v.ps.add(field, wantOpen, addr)
	}
}

// splitAddr returns the host; ok says that the port is least..65535.
func splitAddr(addr string, least int) (host string, ok bool) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", false
	}
	port, err := strconv.Atoi(text)
	return host, err == nil && port >= least && port <= 65535
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (v *validator) ring() {
	if n := v.c.Partitions; n < 1 || n > hashring.MaxPartitions || bits.OnesCount(uint(n)) != 1 {
		v.ps.add("partitions", fmt.Sprintf("must be a power of two in 1..%d", hashring.MaxPartitions), n)
	}
	if n := v.c.Replicas; n < 1 || n > hashring.MaxReplicas {
		v.ps.add("replicas", fmt.Sprintf("must be in 1..%d", hashring.MaxReplicas), n)
	}
}

func (v *validator) regions() {
	c := v.c
	if len(c.Regions) == 0 {
		v.ps.add("regions", "must list all regions, the own one too", bare("none"))
		return
	}
	names, ids, members := map[topology.Region]bool{}, map[topology.RegionID]bool{}, map[topology.NodeID]bool{}
	here, self := false, false
	for i, r := range c.Regions {
		field := fmt.Sprintf("regions[%d]", i)
		if !regionName.MatchString(string(r.Name)) {
			v.ps.add(field+".name", wantRegion, string(r.Name))
		} else if names[r.Name] {
			v.ps.add(field+".name", "must be listed once", string(r.Name))
		}
		if r.ID < 1 || r.ID > 63 {
			v.ps.add(field+".id", "must be in 1..63", int(r.ID))
		} else if ids[r.ID] {
			v.ps.add(field+".id", "must be of one region only", int(r.ID))
		}
		names[r.Name], ids[r.ID] = true, true
		here = here || r.Name == c.Region
		if len(r.Members) == 0 {
			v.ps.add(field+".members", "must list the region's nodes", bare("none"))
		}
		for j, m := range r.Members {
			v.member(fmt.Sprintf("%s.members[%d]", field, j), m, members)
			self = self || r.Name == c.Region && m.ID == c.Node
		}
		for j, u := range r.NATS {
			v.url(fmt.Sprintf("%s.nats[%d]", field, j), u)
		}
		if a := r.NATSAccess; a != nil && (a.Cert == "") != (a.Key == "") {
			v.ps.add(field+".nats_access", "must have both cert and key, or neither", bare(cmp.Or(a.Cert, a.Key)))
		}
		if len(r.NATS) == 0 && (c.abroad() || !c.runsAlone()) {
			v.ps.add(field+".nats", "must list the region's NATS servers", bare("none"))
		}
	}
	switch {
	case !here && c.Region != "":
		v.ps.add("regions", fmt.Sprintf("must contain the own region %q", c.Region), listed(names))
	case here && !self && c.Node != "" && c.Join == nil:
		v.ps.add("regions", fmt.Sprintf("must have this node %q among the members of %q, or join must be set", c.Node, c.Region), listed(members))
	}
	if j := c.Join; j != nil {
		if members[c.Node] && !self {
			v.ps.add("join", fmt.Sprintf("must be of a node that is in no other region, unlike %q", c.Node), bare("a member of another region"))
		}
		v.presented("join", j.Weight, j.Client, j.Peer)
	}
}

// runsAlone says that the own region's NATS is one server, in this process.
func (c *Config) runsAlone() bool {
	return c.NATS.Mode == NATSEmbedded && c.NATS.Listen != "" && c.NATS.Cluster == nil
}

func (v *validator) member(field string, m Member, seen map[topology.NodeID]bool) {
	if !nodeName.MatchString(string(m.ID)) {
		v.ps.add(field+".id", wantNode, string(m.ID))
	} else if seen[m.ID] {
		v.ps.add(field+".id", "must be unique over all regions", string(m.ID))
	}
	seen[m.ID] = true
	v.presented(field, m.Weight, m.Client, m.Peer)
}

// presented checks how a node presents itself.
func (v *validator) presented(field string, weight int, client, peer string) {
	if weight < 0 || weight > maxWeight {
		v.ps.add(field+".weight", fmt.Sprintf("must be in 1..%d", maxWeight), weight)
	}
	least, want := 1, wantPort
	if v.c.alone() { // nobody reads them
		least, want = 0, wantAddr
	}
	if _, ok := splitAddr(client, least); !ok {
		v.ps.add(field+".client", want, client)
	}
	if _, ok := splitAddr(peer, least); !ok {
		v.ps.add(field+".peer", want, peer)
	}
}

func (v *validator) url(field, text string) {
	u, err := url.Parse(text)
	if err == nil && (u.Scheme == "nats" || u.Scheme == "tls") {
		if _, ok := splitAddr(u.Host, 1); ok {
			return
		}
	}
	v.ps.add(field, "must be nats://host:port or tls://host:port", redactURL(text))
}

func (v *validator) nats() {
	n := v.c.NATS
	switch n.Mode {
	case NATSEmbedded:
		if n.Listen != "" {
			v.listen("nats.listen", n.Listen)
		}
	case NATSExternal:
		if n.Listen != "" {
			v.ps.add("nats.listen", "must be empty with mode external", n.Listen)
		}
	default:
		v.ps.add("nats.mode", "must be embedded or external", n.Mode)
	}
	if n.Name != "" {
		if !nodeName.MatchString(n.Name) {
			v.ps.add("nats.name", wantNode, n.Name)
		}
		if n.Cluster == nil {
			v.ps.add("nats.name", "is for a server of a cluster: needs nats.cluster", n.Name)
		}
	}
	if n.MaxStore < minMaxStore {
		v.ps.add("nats.max_store", "must be "+minMaxStore.String()+" or more", bare(n.MaxStore.String()))
	}
	if n.Cluster == nil {
		return
	}
	if n.Listen == "" {
		v.ps.add("nats.cluster", "needs nats.listen", n.Listen)
	}
	if host, ok := splitAddr(n.Cluster.Listen, 1); !ok {
		v.ps.add("nats.cluster.listen", wantPort, n.Cluster.Listen)
	} else if !v.c.Insecure && !isLoopback(host) {
		v.ps.add("nats.cluster.listen", wantOpen, n.Cluster.Listen)
	}
	servers := map[string]bool{n.Cluster.Listen: true}
	for i, r := range n.Cluster.Routes {
		if _, ok := splitAddr(r, 1); !ok {
			v.ps.add(fmt.Sprintf("nats.cluster.routes[%d]", i), wantPort, r)
		}
		servers[r] = true
	}
	if len(servers) < 3 {
		v.ps.add("nats.cluster.routes", "must name at least three servers with the own one: fewer have no majority to spare", len(servers))
	}
}

func (v *validator) buckets() {
	for _, name := range slices.Sorted(maps.Keys(v.c.Buckets)) {
		b, field := v.c.Buckets[name], "buckets."+name
		if !bucket.ValidName(name) {
			v.ps.add(field, "name must be 1..63 of a-z, 0-9, -, _ and ., the first no dot", name)
		}
		if b.Kind != KindMV && b.Kind != KindLWW && b.Kind != "" {
			v.ps.add(field+".kind", "must be mv or lww", b.Kind)
		}
		if b.MaxValue < 0 || b.MaxValue > maxValue {
			v.ps.add(field+".max_value", "must be in 1B.."+maxValue.String(), bare(b.MaxValue.String()))
		}
	}
}

// upkeep checks what a node does for its own sake and for others'.
func (v *validator) upkeep() {
	size := func(field string, s, least Size) {
		if s < least {
			v.ps.add(field, "must be "+least.String()+" or more", bare(s.String()))
		}
	}
	span := func(field string, d Duration, least, most time.Duration, want string) {
		if d < Duration(least) || d > Duration(most) {
			v.ps.add(field, "must be in "+want, bare(d.String()))
		}
	}
	r, h := v.c.Repair, v.c.Hints
	size("repair.bytes_per_second", r.BytesPerSecond, 1*MiB)
	size("repair.large_bytes_per_second", r.LargeBytesPerSecond, 1*MiB)
	size("repair.index_bytes", r.IndexBytes, 1*MiB)
	span("repair.index_every", r.IndexEvery, time.Second, time.Hour, "1s..1h")
	span("repair.scrub_pass", r.ScrubPass, time.Hour, 2160*time.Hour, "1h..2160h")
	if c := v.c.Collect; c.Every != 0 {
		span("collect.every", c.Every, time.Hour, 720*time.Hour, "1h..720h, or 0s for none")
	}
	span("collect.grace", v.c.Collect.Grace, time.Minute, 8760*time.Hour, "1m..8760h")
	if g, most := v.c.Geo, v.c.NATS.MaxStore/8*7; g.MaxBytes != 0 && (g.MaxBytes < 16*MiB || g.MaxBytes > most) {
		v.ps.add("geo.max_bytes", "must be in 16MiB.."+most.String()+" (seven eighths of nats.max_store), or 0 for half of nats.max_store", bare(g.MaxBytes.String()))
	}
	span("geo.max_age", v.c.Geo.MaxAge, 10*time.Minute, 720*time.Hour, "10m..720h")
	size("hints.max_bytes", h.MaxBytes, 1*MiB)
	span("hints.max_age", h.MaxAge, time.Minute, 720*time.Hour, "1m..720h")
	size("hints.bytes_per_second", h.BytesPerSecond, 64*KiB)
}

func (v *validator) rest() {
	m := v.c.Memory
	if m.BlockCache < 1*MiB {
		v.ps.add("memory.block_cache", "must be 1MiB or more", bare(m.BlockCache.String()))
	}
	if m.Memtable < 8*MiB || m.Memtable > 1*GiB {
		v.ps.add("memory.memtable", "must be in 8MiB..1GiB", bare(m.Memtable.String()))
	}
	if b := v.c.Ballast; b < 0 || b > 64*GiB {
		v.ps.add("ballast", "must be in 0..64GiB", bare(b.String()))
	}
	if l := v.c.Log.Level; hclog.LevelFromString(l) == hclog.NoLevel {
		v.ps.add("log.level", "must be trace, debug, info, warn or error", l)
	}
	if f := v.c.Log.Format; f != LogAuto && f != LogJSON && f != LogText {
		v.ps.add("log.format", "must be auto, json or text", f)
	}
}

// floor are the buckets of the configuration, ascending by name.
func (c *Config) floor() bucket.Table {
	var out bucket.Table
	for _, name := range slices.Sorted(maps.Keys(c.Buckets)) {
		b := c.Buckets[name]
		d := bucket.Definition{Name: name, MaxValue: uint32(b.MaxValue), Sloppy: b.Sloppy}
		if b.Kind == KindLWW {
			d.Kind = crdt.LWW
		}
		out = append(out, d)
	}
	return out
}

// collectConfig is Collect as the collector wants it.
func (c *Config) collectConfig() collect.Config {
	return collect.Config{
		Rounds: c.Collect.Every != 0, Every: time.Duration(c.Collect.Every), Grace: time.Duration(c.Collect.Grace),
	}
}

// hintConfig is Hints as they want it.
func (c *Config) hintConfig() hint.Config {
	return hint.Config{
		MaxBytes: int64(c.Hints.MaxBytes), MaxAge: time.Duration(c.Hints.MaxAge),
		BytesPerSecond: int(c.Hints.BytesPerSecond),
	}
}
