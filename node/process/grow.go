package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/geo/jetstream"
	"github.com/atolldb/atoll/geo/natsd"
	"github.com/atolldb/atoll/node/topology/jskv"
)

// A region that began with one NATS server inside its only node grows to three
// servers by a step of its own, since a clustered server deletes what a
// standalone one left. The metadata is carried over: Grow exports it from the
// old store to a file, and the node puts it into the new servers' when they are
// up, before anything else happens there. The region's log stays behind: what
// other regions had not pulled from it they find by comparing clocks.
//
// The file is <data_dir>/nats/carried.json, and carried.json.done afterwards.

const carriedFile = "carried.json"

func (c *Config) natsDir() string { return filepath.Join(c.DataDir, "nats") }

// Grown says what Grow did.
type Grown struct {
	// Carried is the file with the metadata, Retired the directory of the old
	// server.
	Carried, Retired string
}

const growTimeout = time.Minute

// Grow prepares the data directory of a node that is stopped for the
// configuration c, in which its NATS server is one of three or more. After it
// failed it can be run again.
func Grow(ctx context.Context, c Config, log hclog.Logger) (Grown, error) {
	c.complete()
	if err := c.Validate(); err != nil {
		return Grown{}, fmt.Errorf("configuration: %w", err)
	}
	if c.NATS.Mode != NATSEmbedded || c.NATS.Cluster == nil {
		return Grown{}, Problems{{"nats.cluster", "must be set: it is the configuration that the region is to grow to", "none"}}
	}
	has, err := natsd.HasSolo(c.natsDir())
	if err != nil {
		return Grown{}, fmt.Errorf("grow %s: %w", c.DataDir, err)
	}
	if !has {
		return Grown{}, fmt.Errorf("grow %s: %w", c.DataDir, natsd.ErrNothingToRetire)
	}
	ctx, cancel := context.WithTimeout(ctx, growTimeout)
	defer cancel()
	g := Grown{Carried: filepath.Join(c.natsDir(), carriedFile)}
	if err := exportSolo(ctx, &c, log, g.Carried); err != nil {
		return Grown{}, fmt.Errorf("grow %s: %w", c.DataDir, err)
	}
	if g.Retired, err = natsd.Retire(c.natsDir()); err != nil {
		return Grown{}, fmt.Errorf("grow %s: %w", c.DataDir, err)
	}
	return g, nil
}

// exportSolo runs the old server once more, for nobody else to see, and writes
// what its bucket holds.
func exportSolo(ctx context.Context, c *Config, log hclog.Logger, to string) (err error) {
	server := natsd.New(natsd.Config{
		Name: string(c.Node), Region: string(c.Region), DataDir: c.natsDir(),
		Listen: "127.0.0.1:0", MaxStore: int64(c.NATS.MaxStore),
	}, log.Named("natsd"))
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- server.Run(running) }()
	defer func() {
		stop()
		err = errors.Join(err, <-ended)
	}()
	select {
	case <-server.Ready():
	case err := <-ended:
		ended <- nil // told here
		return err
	}
	nc, err := jetstream.Dial("atoll grow", []string{server.ClientURL()}, jetstream.Access{}, nil, log)
	if err != nil {
		return err
	}
	defer nc.Close()
	own := c.own()
	data, err := jskv.Export(ctx, jskv.Config{Region: own.Name, RegionID: own.ID, Replicas: 1}, nc)
	if err != nil {
		return err
	}
	if err := replaceFile(to, data); err != nil {
		return fmt.Errorf("write metadata: %w", err)
	}
	return nil
}

// takeCarried puts metadata that Grow left into the servers, once. Until that
// has worked the node does without them.
func (p *Process) takeCarried(put func([]byte) error) error {
	file := filepath.Join(p.cfg.natsDir(), carriedFile)
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read metadata to carry over: %w", err)
	}
	p.log.Info("carrying the region's metadata over", "file", file)
	if err := put(data); err != nil {
		return err
	}
	if err := os.Rename(file, file+".done"); err != nil {
		return fmt.Errorf("note that metadata was carried over: %w", err)
	}
	p.log.Info("the region's metadata was carried over")
	return nil
}
