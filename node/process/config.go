package process

import (
	"fmt"
	"time"

	"github.com/atolldb/atoll/geo/jetstream"
	"github.com/atolldb/atoll/node/topology"
)

// Config of a node. All nodes of all regions must have the same secret,
// partitions, replicas, regions and buckets; the rest is each node's own.
type Config struct {
	// Node is this node's id: 1..63 of [a-z0-9-], unique over all regions. It
	// is listed as a member of Region, or Join is set. No default.
	Node topology.NodeID `yaml:"node"`
	// Region is the region this node is in: 1..32 of [a-z0-9-]. No default.
	Region topology.Region `yaml:"region"`
	// DataDir holds everything the node keeps: its store, its NATS server's,
	// and a secret it made itself. One node, one directory, ideally one disk.
	// It cannot be shared, copied to another node, or moved back in time
	// (that is noticed). No default.
	DataDir string `yaml:"data_dir"`
	// Ballast is how much room the file "ballast" in DataDir takes up for nothing: up to
	// 64 GiB. Who has a disk that is full to the last byte, so that the node cannot
	// even start, removes it. It is made again at a start when twice as much is
	// free beside it as writes need. Default 0: none.
	Ballast Size `yaml:"ballast"`
	// Listen says where; see there.
	Listen Listen `yaml:"listen"`
	// Insecure allows listeners outside of loopback although they are plain
	// text: whoever reaches them can read and write everything. Default false.
	Insecure bool `yaml:"insecure"`
	// SecretFile holds the secret of the deployment, on a line of its own: at
	// least 32 bytes, spaces around it are not part of it. It authenticates what
	// clients hold of the store. It is replaced while nodes run, by 'atoll secret';
	// see docs/operations.md for what else may stand in the file. Only a
	// deployment of a single node may leave it out: it makes one, in DataDir.
	SecretFile string `yaml:"secret_file"`
	// Partitions of the key space: a power of two, 1..65536, for ever. More
	// spread better over many nodes and cost memory: about 4 KiB each and
	// owner. Default 256, good for up to some thirty nodes a region.
	Partitions int `yaml:"partitions"`
	// Replicas of each key in each region: 1..32, at most as many as members.
	// Default 3: one node may be down at LOCAL_QUORUM. Once a region has
	// started, it is changed by a plan.
	Replicas int `yaml:"replicas"`
	// Regions are all regions, the own one too.
	Regions []Region `yaml:"regions"`
	// Join is how a node that is not listed presents itself to its region.
	Join *Join `yaml:"join,omitempty"`
	// NATS says how the region's NATS is run.
	NATS NATS `yaml:"nats"`
	// Buckets by name: 1..63 of [a-z0-9-_.]. The bucket "default" is there
	// even when it is not listed.
	Buckets map[string]Bucket `yaml:"buckets"`
	// LoneWrites allows writes that one owner alone acknowledges (LOCAL_ONE, or
	// w = 1) in buckets that name no least level for writes: such a write is lost
	// with one disk. Without it they are refused where a key has more than one
	// owner. The same on all nodes. Default false.
	LoneWrites bool `yaml:"lone_writes"`
	// Memory is the budget of the store.
	Memory Memory `yaml:"memory"`
	// Repair bounds what the node spends on comparing itself with others.
	Repair Repair `yaml:"repair"`
	// Collect says when the marks of deletes are taken off the disks.
	Collect Collect `yaml:"collect"`
	// Geo bounds the log that carries writes to other regions.
	Geo Geo `yaml:"geo"`
	// Hints bounds what the node keeps for owners that are away.
	Hints Hints `yaml:"hints"`
	// Log says what is logged and how.
	Log Log `yaml:"log"`

	// Version of the program, for status and metrics; not configured.
	Version string `yaml:"-"`
}

// Listen has the addresses of a node's listeners, as host:port. Port 0 takes
// a free one. They are plain text; see Config.Insecure.
type Listen struct {
	// Client is where clients connect, by gRPC. Default 127.0.0.1:7400.
	Client string `yaml:"client"`
	// Peer is where nodes of all regions connect. Default 127.0.0.1:7401.
	Peer string `yaml:"peer"`
	// Admin serves metrics, health and profiles, by HTTP. It shows no data,
	// but asks nobody who they are: keep it on loopback or inside a pod.
	// Default 127.0.0.1:7402.
	Admin string `yaml:"admin"`
}

// Region is one region as all others know it.
type Region struct {
	Name topology.Region `yaml:"name"`
	// ID is a number that the region keeps for ever: 1..63, part of all
	// versions written there. No default.
	ID topology.RegionID `yaml:"id"`
	// NATS are the URLs of the region's servers, as they are reached from
	// here: "nats://host:port", or "tls://host:port" where TLS is required, with
	// "user:password@" before the host if the servers ask for it. With three or more, what they keep is kept
	// three times. Where the region runs a single server inside its only
	// member with NATS.Listen, that one need not list itself.
	NATS []string `yaml:"nats"`
	// NATSAccess is how this node shows the region's servers who it is, where they
	// ask. Servers that members run in their processes do not.
	NATSAccess *NATSAccess `yaml:"nats_access,omitempty"`
	// Members are the nodes that the region's first start begins with; it
	// begins when all of them have started. After that the region itself knows
	// who is in it: they are where others begin to ask, and need not change
	// when nodes come and go.
	Members []Member `yaml:"members"`
}

// NATSAccess names files, which are read at every connect: they can be replaced
// while the node runs.
type NATSAccess struct {
	// Credentials is a file with a user's JWT and seed (nsc generate creds).
	Credentials string `yaml:"credentials"`
	// CA is a PEM file with the authorities of the servers' certificates; "" are
	// those that the machine trusts.
	CA string `yaml:"ca"`
	// Cert and Key are PEM files with this node's certificate, where the servers
	// verify their clients.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

func (r Region) access() jetstream.Access {
	if r.NATSAccess == nil {
		return jetstream.Access{}
	}
	a := *r.NATSAccess
	return jetstream.Access{Credentials: a.Credentials, CA: a.CA, Cert: a.Cert, Key: a.Key}
}

// checkAccess reads what is needed to reach the regions' NATS.
func (c *Config) checkAccess() error {
	for i, r := range c.Regions {
		if err := r.access().Check(); err != nil {
			return fmt.Errorf("regions[%d].nats_access: %w", i, err)
		}
	}
	return nil
}

// Join is what a new node tells of itself. It becomes a member that owns
// nothing until a plan gives it its share.
type Join struct {
	// Rack and Weight are as a member's. After the node has joined they are
	// changed by a plan.
	Rack   string `yaml:"rack"`
	Weight int    `yaml:"weight"`
	// Client and Peer are host:port where clients and nodes reach it. The
	// region is told when they have changed.
	Client string `yaml:"client"`
	Peer   string `yaml:"peer"`
}

// Member is a node as all others know it.
type Member struct {
	ID topology.NodeID `yaml:"id"`
	// Rack is what fails together: a zone, a rack, a host. The replicas of a
	// key are put into different ones where there are enough. Default "".
	Rack string `yaml:"rack"`
	// Weight is the member's share of the partitions, relative to others:
	// 1..1000. Default 1.
	Weight int `yaml:"weight"`
	// Client and Peer are host:port where clients and nodes reach it.
	Client string `yaml:"client"`
	Peer   string `yaml:"peer"`
}

// The modes of NATS.
const (
	NATSEmbedded = "embedded"
	NATSExternal = "external"
)

// NATS of the own region. It carries writes to other regions and hands out
// actors; a node that restarts while it is down serves reads, and writes
// through other nodes.
type NATS struct {
	// Mode is "embedded" (default): one or three members of the region run a
	// server in their process; or "external": somebody else runs them, with
	// JetStream, at the region's URLs.
	Mode string `yaml:"mode"`
	// Listen is host:port of this member's server, for the other members and
	// for other regions; "" (default) runs none here.
	Listen string `yaml:"listen"`
	// Name of this member's server among the region's; "" (default) is the node's id.
	// The servers know each other by name: one that takes the place of a server that is
	// gone for good takes its name, and is given what that had. Under another name it
	// would be one more, and the one that is gone would still count.
	Name string `yaml:"name,omitempty"`
	// Cluster is set where three or more members run servers. A store made
	// without it cannot be opened with it, nor the other way round.
	Cluster *Cluster `yaml:"cluster,omitempty"`
	// MaxStore bounds what JetStream keeps on a server's disk: 256 MiB or
	// more, the same on all members. Half of it is for the log unless Geo says
	// otherwise. Default 8 GiB.
	MaxStore Size `yaml:"max_store"`
}

// Cluster joins the NATS servers of one region.
type Cluster struct {
	// Listen is host:port for the region's other servers. No default.
	Listen string `yaml:"listen"`
	// Routes are host:port of all of them; the own one may be among them.
	Routes []string `yaml:"routes"`
}

// The kinds of buckets.
const (
	KindMV  = "mv"
	KindLWW = "lww"
)

// Bucket is a set of keys that behave alike.
type Bucket struct {
	// Kind is "mv" (default): concurrent writes are kept, side by side, until
	// a client resolves them; or "lww": the one with the latest time wins, and
	// the other is lost without a word.
	Kind string `yaml:"kind"`
	// MaxValue bounds a value: 1 B .. 8 MiB. Default 1 MiB. Large ones delay
	// what is behind them.
	MaxValue Size `yaml:"max_value"`
	// Sloppy has other nodes stand in for owners that are away, in all writes
	// of the bucket: they succeed while one owner is up, and reads may miss
	// them until the others are back. Default false: a write needs as many
	// owners as its level says.
	Sloppy bool `yaml:"sloppy"`
}

// Memory of the store; the process uses more beside it: up to four memtables,
// and some 100 MiB for links and requests. GOMEMLIMIT bounds the whole.
type Memory struct {
	// BlockCache keeps hot blocks of the disk: 1 MiB or more. A quarter of
	// the memory meant for the process is a good value. Default 64 MiB.
	BlockCache Size `yaml:"block_cache"`
	// Memtable is written to disk when full: 8 MiB .. 1 GiB. Larger ones are
	// flushed less often; writes stop when less than four of them are free on
	// the disk. Default 128 MiB.
	Memtable Size `yaml:"memtable"`
}

// Repair says how fast a node makes up for what it missed, and how often it
// reads back what it has.
type Repair struct {
	// BytesPerSecond that the node fetches from other owners when it has nothing
	// else to do: 1 MiB or more. Clients come first: they leave it a 32nd of that
	// at least. More makes a node whole sooner, and takes more of the others'
	// disks and links. Default 64 MiB.
	BytesPerSecond Size `yaml:"bytes_per_second"`
	// LargeBytesPerSecond that the node fetches of records above 64 KiB from each
	// other region: 1 MiB or more. They have a lane of their own, so that small
	// ones do not wait for them. More brings large ones sooner and takes the links'
	// room. Default 32 MiB.
	LargeBytesPerSecond Size `yaml:"large_bytes_per_second"`
	// ScrubPass is how long it takes to read every record back from the disk
	// once, evenly, again and again: 1h..2160h. A shorter one finds bit rot
	// sooner, while other owners can still heal it, and reads more. Default
	// 168h, a week.
	ScrubPass Duration `yaml:"scrub_pass"`
	// IndexBytes is how large the index of writes may become that another region
	// lacks: 1 MiB or more. When it is larger, a region that is away is not waited
	// for any more: when it returns, all of its partitions are compared record by
	// record, and the metric atoll_region_needs_full_sync says so before. More
	// lets a region be away for longer and takes disk. Default 1 GiB.
	IndexBytes Size `yaml:"index_bytes"`
	// IndexEvery is the time between two looks at that index: which writes all
	// regions have by now, whose entries go, and whether the rest is above its
	// budget: 1s..1h. It may pass its budget by what is written in between. More
	// often reads more: all of the index each time. Default 10m.
	IndexEvery Duration `yaml:"index_every"`
}

// Collect says when the marks of deletes (tombstones) are taken off the disks:
// once it is proved that no owner in any region can need them. A node takes part
// in the rounds that others begin, whatever it says here.
type Collect struct {
	// Every is the time between two rounds of a partition: 1h..720h, or 0s to
	// begin none. They are spread over a tenth of it. More often gives the room
	// back sooner; each reads the partition twice on all its owners. Default 24h.
	Every Duration `yaml:"every"`
	// Grace is how old a delete is, at least, when its mark is collected:
	// 1m..8760h. A longer one leaves less to be asked about messages that were
	// under way for long; a shorter one gives the room back sooner. Default 24h.
	Grace Duration `yaml:"grace"`
}

// Geo bounds the region's log: what other regions have not pulled yet, and what
// they have and might ask for again. When a bound is met the oldest batches go; a
// region that had not pulled them finds out, and is caught up by comparing clocks,
// which is slower. While no other region pulls, hardly anything is put there. The
// same on all nodes of a region; a node that starts changes the log.
type Geo struct {
	// MaxBytes of the log on each server that keeps it: 16 MiB or more, at most
	// seven eighths of NATS.MaxStore. Default 0, half of that.
	MaxBytes Size `yaml:"max_bytes"`
	// MaxAge of a batch: 10m..720h. Default 72h.
	MaxAge Duration `yaml:"max_age"`
	// Others prepares a region that is alone for others to come in by 'atoll region
	// add': its nodes keep a map of regions and a log. It needs the URLs of the region's
	// NATS, as others reach them. With several regions in the configuration, or in
	// the map that the node has kept, it is so anyway. Default false: a region that
	// stays alone is spared the log.
	Others bool `yaml:"others"`
}

// abroad says that there are other regions, or may come to be.
func (c *Config) abroad() bool { return len(c.Regions) > 1 || c.Geo.Others }

// logBytes is the bound of the log.
func (c *Config) logBytes() int64 {
	if c.Geo.MaxBytes > 0 {
		return int64(c.Geo.MaxBytes)
	}
	return int64(c.NATS.MaxStore) / 2
}

// Hints are records of sloppy writes (Bucket.Sloppy, or a client's wish) that
// wait here for the owner they are for.
type Hints struct {
	// MaxBytes that are kept, for all owners together: 1 MiB or more. A node
	// that has so much refuses, and writes fail. More bridges longer outages,
	// and takes longer to hand over. Default 1 GiB.
	MaxBytes Size `yaml:"max_bytes"`
	// MaxAge of the oldest one for an owner: 1m..720h. After that no more are
	// taken for it; those there are stay. An owner that is away for longer is to
	// be replaced; until it is, a longer age has more writes rest on stand-ins.
	// Default 3h.
	MaxAge Duration `yaml:"max_age"`
	// BytesPerSecond that are handed over to owners that are back: 64 KiB or
	// more. More lets reads meet the writes sooner, and takes more from clients.
	// Default 8 MiB.
	BytesPerSecond Size `yaml:"bytes_per_second"`
}

// The formats of Log.
const (
	LogAuto = "auto"
	LogJSON = "json"
	LogText = "text"
)

// Log goes to standard error.
type Log struct {
	// Level is trace, debug, info (default), warn or error. Error means that
	// a person must act; debug costs a line per anomaly, trace more.
	Level string `yaml:"level"`
	// Format is json, text, or auto (default): text on a terminal.
	Format string `yaml:"format"`
}

// Default is what holds where a configuration says nothing.
func Default() Config {
	return Config{
		Listen:     Listen{Client: "127.0.0.1:7400", Peer: "127.0.0.1:7401", Admin: "127.0.0.1:7402"},
		Partitions: 256,
		Replicas:   3,
		NATS:       NATS{Mode: NATSEmbedded, MaxStore: 8 * GiB},
		Memory:     Memory{BlockCache: 64 * MiB, Memtable: 128 * MiB},
		Repair:     Repair{BytesPerSecond: 64 * MiB, LargeBytesPerSecond: 32 * MiB, ScrubPass: Duration(7 * 24 * time.Hour), IndexBytes: 1 * GiB, IndexEvery: Duration(10 * time.Minute)},
		Collect:    Collect{Every: Duration(24 * time.Hour), Grace: Duration(24 * time.Hour)},
		Geo:        Geo{MaxAge: Duration(72 * time.Hour)},
		Hints:      Hints{MaxBytes: 1 * GiB, MaxAge: Duration(3 * time.Hour), BytesPerSecond: 8 * MiB},
		Log:        Log{Level: "info", Format: LogAuto},
	}
}

// complete fills in what defaults inside lists and maps are.
func (c *Config) complete() {
	for i := range c.Regions {
		for j := range c.Regions[i].Members {
			if m := &c.Regions[i].Members[j]; m.Weight == 0 {
				m.Weight = 1
			}
		}
	}
	if j := c.Join; j != nil && j.Weight == 0 {
		joined := *j
		joined.Weight = 1
		c.Join = &joined
	}
	for name, b := range c.Buckets {
		if b.Kind == "" {
			b.Kind = KindMV
		}
		if b.MaxValue == 0 {
			b.MaxValue = 1 * MiB
		}
		c.Buckets[name] = b
	}
}

// Dev is a region of one node on loopback, with free ports for all but
// clients and the admin listener, that keeps everything in dir.
func Dev(dir string) Config {
	c := Default()
	c.Node, c.Region, c.DataDir = "dev", "local", dir
	c.Listen.Peer = "127.0.0.1:0"
	c.Partitions = 64
	c.NATS.Listen = "127.0.0.1:0"
	c.NATS.MaxStore = 1 * GiB
	c.Regions = []Region{{Name: c.Region, ID: 1, Members: []Member{{
		ID: c.Node, Weight: 1, Client: c.Listen.Client, Peer: c.Listen.Peer,
	}}}}
	return c
}

// own returns the entry of the own region; the config is valid.
func (c *Config) own() Region {
	for _, r := range c.Regions {
		if r.Name == c.Region {
			return r
		}
	}
	return Region{}
}

// alone says that this is the only node anywhere.
func (c *Config) alone() bool {
	return c.Join == nil && !c.abroad() && len(c.Regions) == 1 && len(c.Regions[0].Members) == 1
}
