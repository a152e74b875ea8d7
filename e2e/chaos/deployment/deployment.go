//go:build linux

package deployment

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/e2e/chaos/machine"
	"github.com/atolldb/atoll/e2e/program"
)

// Config of a deployment.
type Config struct {
	// Binary is the program.
	Binary string
	// Dir gets configurations and logs.
	Dir string
	// Regions by name; region i has the id i+1. Nodes of each; with three or
	// more the first three run a NATS server.
	Regions []string
	Nodes   int
	// Partitions of the key space.
	Partitions int
	Network    machine.Network
	// Lines are put into every node's configuration.
	Lines []string
	// NewDisk makes a node's disk.
	NewDisk func(name string) (*machine.Disk, error)
}

// Deployment is regions of nodes.
type Deployment struct {
	cfg   Config
	Nodes []*Node // all, region by region
}

const (
	secretText  = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	metaServers = 3
	memtable    = "8MiB" // the smallest: files of all kinds come early
	maxStore    = "256MiB"
)

// New adds hosts and disks and writes the configurations; nothing runs yet.
func New(cfg Config) (*Deployment, error) {
	d := &Deployment{cfg: cfg}
	if err := os.WriteFile(d.Secret(), []byte(secretText), 0o600); err != nil {
		return nil, fmt.Errorf("write secret: %w", err)
	}
	for _, region := range cfg.Regions {
		for j := range cfg.Nodes {
			if _, err := d.add(region, j); err != nil {
				return nil, err
			}
		}
	}
	for _, n := range d.Nodes {
		if err := d.configure(n); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// Join adds a node that was not there when the region was made: its
// configuration lists it nowhere, and says how others reach it. It does not
// run yet, and owns nothing until an operator lets it join.
func (d *Deployment) Join(region string) (*Node, error) {
	j := 0 // names are never used again
	for _, n := range d.Nodes {
		if n.Region == region {
			j++
		}
	}
	n, err := d.add(region, j)
	if err != nil {
		return nil, err
	}
	n.late = true
	return n, d.configure(n)
}

// Found makes a region that there was none of, with as many nodes as the others: its
// nodes' configuration lists all regions, theirs does not list it. Nothing of it runs
// yet.
func (d *Deployment) Found(region string) ([]*Node, error) {
	if len(d.Region(region)) > 0 {
		return nil, fmt.Errorf("there is a region %s already", region)
	}
	d.cfg.Regions = append(slices.Clone(d.cfg.Regions), region)
	var made []*Node
	for j := range d.cfg.Nodes {
		n, err := d.add(region, j)
		if err != nil {
			return nil, err
		}
		made = append(made, n)
	}
	for _, n := range made {
		if err := d.configure(n); err != nil {
			return nil, err
		}
	}
	return made, nil
}

// NATS are the URLs of a region's servers, as nodes of others reach them.
func (d *Deployment) NATS(region string) string {
	var out []string
	for _, n := range d.founders(region) {
		if n.meta {
			out = append(out, "nats://"+n.listen("nats"))
		}
	}
	return strings.Join(out, ",")
}

// Forget takes a node that has left out of what clients and checks ask.
func (d *Deployment) Forget(n *Node) { n.gone = true }

func (d *Deployment) configure(n *Node) error {
	if err := os.WriteFile(n.config, []byte(d.yaml(n)), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

// Secret is the file that all nodes have.
func (d *Deployment) Secret() string { return filepath.Join(d.cfg.Dir, "secret") }

// Keys with which the deployment signs contexts and tokens.
func (d *Deployment) Keys() crdt.Keys { return crdt.Keys{crdt.Secret(secretText)} }

func (d *Deployment) add(region string, j int) (*Node, error) {
	id := fmt.Sprintf("%s-%d", region, j+1)
	if err := d.cfg.Network.Add(id); err != nil {
		return nil, fmt.Errorf("add host %s: %w", id, err)
	}
	disk, err := d.cfg.NewDisk(id)
	if err != nil {
		return nil, fmt.Errorf("make disk of %s: %w", id, err)
	}
	n := &Node{
		Process: program.New(id, filepath.Join(d.cfg.Dir, id+".log")),
		ID:      id, Region: region, Disk: disk, network: d.cfg.Network, binary: d.cfg.Binary, rack: fmt.Sprintf("r%d", j+1),
		meta:   j < metaServers && (d.cfg.Nodes >= metaServers || j == 0),
		config: filepath.Join(d.cfg.Dir, id+".yaml"),
	}
	d.Nodes = append(d.Nodes, n)
	return n, nil
}

// Region returns its nodes, without those that have left for good.
func (d *Deployment) Region(name string) []*Node {
	var out []*Node
	for _, n := range d.Nodes {
		if n.Region == name && !n.gone {
			out = append(out, n)
		}
	}
	return out
}

// founders are the nodes that a region was made with.
func (d *Deployment) founders(region string) []*Node {
	var out []*Node
	for _, n := range d.Nodes {
		if n.Region == region && !n.late {
			out = append(out, n)
		}
	}
	return out
}

// Regions returns their names.
func (d *Deployment) Regions() []string { return d.cfg.Regions }

// Target is what clients of a region connect to.
func (d *Deployment) Target(region string) string {
	var out []string
	for _, n := range d.Region(region) {
		out = append(out, n.Addr("client"))
	}
	return strings.Join(out, ",")
}

// DialOptions make gRPC connect through the deployment's network.
func (d *Deployment) DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return d.cfg.Network.Dial(ctx, addr)
		}),
	}
}

// Client of a region, which follows no map to another one.
func (d *Deployment) Client(ctx context.Context, region string) (*client.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return client.Open(ctx, d.Target(region), client.Pin(), client.DialOptions(d.DialOptions()...))
}

// Close kills what still runs, and takes the disks away.
func (d *Deployment) Close() error {
	var errs []error
	for _, n := range d.Nodes {
		errs = append(errs, n.Kill())
	}
	for _, n := range d.Nodes {
		errs = append(errs, n.Disk.Remove())
	}
	return errors.Join(errs...)
}

// yaml is a node's configuration.
func (d *Deployment) yaml(n *Node) string {
	var b, joins strings.Builder
	fmt.Fprintf(&b, `node: %s
region: %s
data_dir: %s
secret_file: %s
partitions: %d
insecure: %v
lone_writes: true
listen: {client: %q, peer: %q, admin: %q}
memory: {memtable: %s, block_cache: 16MiB}
log: {level: info, format: text}
nats:
  max_store: %s
`, n.ID, n.Region, n.DataDir(), d.Secret(), d.cfg.Partitions, !d.cfg.Network.Loopback(),
		n.listen("client"), n.listen("peer"), n.listen("admin"), memtable, maxStore)
	for _, l := range d.cfg.Lines {
		fmt.Fprintln(&joins, l)
	}
	if n.late {
		fmt.Fprintf(&joins, "join: {rack: %s, client: %q, peer: %q}\n", n.rack, n.Addr("client"), n.Addr("peer"))
	}
	if n.meta {
		fmt.Fprintf(&b, "  listen: %q\n", n.listen("nats"))
		if d.cfg.Nodes >= metaServers {
			fmt.Fprintf(&b, "  cluster:\n    listen: %q\n    routes: [", n.listen("routes"))
			for _, o := range d.founders(n.Region) {
				if o.meta {
					fmt.Fprintf(&b, "%q, ", o.listen("routes"))
				}
			}
			b.WriteString("]\n")
		}
	}
	b.WriteString(joins.String())
	b.WriteString("regions:\n")
	for i, region := range d.cfg.Regions {
		fmt.Fprintf(&b, "  - name: %s\n    id: %d\n    nats: [", region, i+1)
		for _, o := range d.founders(region) {
			if o.meta {
				fmt.Fprintf(&b, "%q, ", "nats://"+o.listen("nats"))
			}
		}
		b.WriteString("]\n    members:\n")
		for _, o := range d.founders(region) {
			fmt.Fprintf(&b, "      - {id: %s, rack: %s, client: %q, peer: %q}\n", o.ID, o.rack, o.Addr("client"), o.Addr("peer"))
		}
	}
	return b.String()
}
