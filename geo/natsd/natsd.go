// Package natsd runs a NATS server with JetStream inside the process: alone,
// or as one of a region's few servers. It knows nothing of what is kept there.
//
// Invariants:
//
//	N1  A region's servers form one cluster and one JetStream domain; nothing
//	    (gateway, leaf node, route) joins servers of two regions.
//	N2  A standalone server and a clustered one never open the same directory:
//	    a clustered server deletes, within seconds, the streams it finds that
//	    its cluster does not know. Growing from one to three is an explicit
//	    export and import.
//	N3  Two processes never open the same directory (the server itself would
//	    not notice).
//	N4  Every acknowledged message was synced to disk.
//	N5  An error that would make a NATS server exit its process ends Run with
//	    that error.
//	N6  A server that keeps nothing any more, since its disk had no room, says so, and
//	    is not whole.
//
// The server's goroutines belong to Run. Stop in this order: accepting writes,
// pumps, drains, client connections, then this, then the storage engine.
package natsd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/atolldb/atoll/geo"
)

const (
	soloDir    = "js-solo"
	clusterDir = "js-cluster"

	defaultMaxStore = 8 << 30
	// maxMemory is for JetStream's memory streams, of which there are none.
	maxMemory = 64 << 20
	// readyWithin bounds the start; it covers the recovery of a full store.
	readyWithin = 2 * time.Minute
	readyBeat   = 50 * time.Millisecond

	pingInterval = 10 * time.Second

	// wholeBeats looks in a row, one each wholeBeat, find a server in order that is.
	wholeBeat  = 500 * time.Millisecond
	wholeBeats = 4
)

// Config of one server.
type Config struct {
	// Name is the node's id, unique over all regions.
	Name string
	// Region is the JetStream domain and names the cluster.
	Region string
	// DataDir holds the store: js-solo or js-cluster below it.
	DataDir string
	// Listen is host:port for clients, those of other regions included. Port
	// 0 takes a free one; ClientURL tells which.
	Listen string
	// MaxStore bounds the store in bytes; 0 means 8 GiB. The log's own bound
	// must be below it.
	MaxStore int64
	// Cluster is nil for a standalone server.
	Cluster *Cluster
}

// Cluster is the region's servers.
type Cluster struct {
	// Listen is host:port for the routes of the other servers.
	Listen string
	// Routes are the host:port of all servers of the region; the own one may
	// be among them. A cluster has at least three.
	Routes []string
}

// Validate reports all problems at once.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Name == "" || c.Region == "" || c.DataDir == "" {
		bad("name, region and data directory must be set")
	}
	if _, _, err := splitAddr(c.Listen); err != nil {
		bad("listen address %q: %w", c.Listen, err)
	}
	if c.MaxStore < 0 {
		bad("store bound %d is negative", c.MaxStore)
	}
	if c.Cluster != nil {
		if _, port, err := splitAddr(c.Cluster.Listen); err != nil || port <= 0 {
			bad("cluster address %q must be host:port with a port", c.Cluster.Listen)
		}
		servers := map[string]bool{c.Cluster.Listen: true}
		for _, r := range c.Cluster.Routes {
			if _, port, err := splitAddr(r); err != nil || port <= 0 {
				bad("route %q must be host:port with a port", r)
			}
			servers[r] = true
		}
		if len(servers) < 3 {
			bad("a cluster of %d servers has no majority to spare: use three, or a standalone server", len(servers))
		}
	}
	return errors.Join(errs...)
}

// Server is one NATS server.
type Server struct {
	cfg    Config
	logger hclog.Logger
	ready  chan struct{}
	inner  *server.Server // set before ready is closed
	whole  atomic.Bool    // see Whole
	full   atomic.Bool    // a write had no room since the start
}

// New returns a server; Run makes it work.
func New(cfg Config, logger hclog.Logger) *Server {
	return &Server{cfg: cfg, logger: logger, ready: make(chan struct{})}
}

// Ready is closed when clients can connect. In a cluster JetStream answers
// only once a majority of the servers has met, seconds later: retry.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Name is the server's name.
func (s *Server) Name() string { return s.cfg.Name }

// Servers is how many servers the region's cluster counts, those that are away included:
// more than half of them have to be there. 1 for a standalone server, 0 while it is not
// known, as while this one keeps nothing.
func (s *Server) Servers() int {
	select {
	case <-s.ready:
	default:
		return 0
	}
	if !s.keeps() {
		return 0
	}
	if s.cfg.Cluster == nil {
		return 1
	}
	js, err := s.inner.Jsz(nil)
	if err != nil || js.Meta == nil {
		return 0
	}
	return js.Meta.Size
}

// Whole says that the server has had all that the region's servers keep since it was
// started, and that its disk did not fail it for want of room since. Otherwise it makes up
// for none that is away: one that comes with nothing votes for nobody.
func (s *Server) Whole() bool { return s.whole.Load() }

// watchWhole notes it. A server that has just come finds itself in order before it
// has been told what it is to keep, and while it is told of one stream after the other:
// so there have to be some, and it has to go on for a while. Once whole it stays so for
// as long as it keeps anything.
func (s *Server) watchWhole(ctx context.Context) {
	beat := time.NewTicker(wholeBeat)
	defer beat.Stop()
	for inOrder := 0; ; {
		select {
		case <-beat.C:
		case <-ctx.Done():
			return
		}
		switch {
		case !s.keeps():
			s.whole.Store(false)
			inOrder = 0
		case s.Whole():
		case s.inOrder():
			if inOrder++; inOrder >= wholeBeats {
				s.whole.Store(true)
			}
		default:
			inOrder = 0
		}
	}
}

func (s *Server) inOrder() bool {
	js, err := s.inner.Jsz(nil)
	return err == nil && js.Streams > 0 && s.inner.Healthz(nil).Error == ""
}

// ClientURL is where clients connect. Call it after Ready.
func (s *Server) ClientURL() string { return s.inner.ClientURL() }

// Connect opens a connection inside the process, without sockets. It dies for
// good with the server. Call it after Ready.
func (s *Server) Connect(opts ...nats.Option) (*nats.Conn, error) {
	nc, err := nats.Connect("", append(opts, nats.InProcessServer(s.inner))...)
	if err != nil {
		return nil, fmt.Errorf("connect to own nats server: %w", err)
	}
	return nc, nil
}

// Run serves until ctx ends or the server gives up, and returns when it has
// stopped and its directory is free. Call it once.
func (s *Server) Run(ctx context.Context) error {
	if err := s.cfg.Validate(); err != nil {
		return fmt.Errorf("configure nats server: %w", err)
	}
	unlock, err := lockDir(s.cfg.DataDir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.refuseOther(); err != nil {
		return err
	}
	opts, err := s.options()
	if err != nil {
		return fmt.Errorf("configure nats server: %w", err)
	}
	inner, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("make nats server: %w", err)
	}
	fatal := make(chan error, 1)
	inner.SetLoggerV2(&bridge{s.logger, fatal, &s.full}, s.logger.IsTrace(), false, false)
	started := make(chan struct{})
	go func() {
		defer close(started)
		inner.Start()
	}()
	defer func() {
		<-started
		inner.Shutdown()
		inner.WaitForShutdown()
	}()
	if err := waitReady(ctx, inner, fatal); err != nil {
		return err
	}
	s.inner = inner
	close(s.ready)
	s.logger.Info("nats server is up", "url", inner.ClientURL(), "clustered", s.cfg.Cluster != nil)
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { s.watchWhole(watching) })
	watch.Go(func() { s.watchRoom(watching) })
	defer watch.Wait()
	defer stop()
	select {
	case <-ctx.Done():
		return nil
	case err := <-fatal:
		return err
	}
}

func waitReady(ctx context.Context, inner *server.Server, fatal <-chan error) error {
	deadline := time.Now().Add(readyWithin)
	for {
		// A server that could not bind its port still says that it runs.
		if inner.ReadyForConnections(readyBeat) {
			return nil
		}
		select {
		case err := <-fatal:
			return err
		case <-ctx.Done():
			return fmt.Errorf("start nats server: %w", ctx.Err())
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("start nats server: not ready within %v", readyWithin)
		}
	}
}

func (s *Server) options() (*server.Options, error) {
	host, port, err := splitAddr(s.cfg.Listen)
	if err != nil {
		return nil, err
	}
	maxStore := s.cfg.MaxStore
	if maxStore == 0 {
		maxStore = defaultMaxStore
	}
	opts := &server.Options{
		ServerName: s.cfg.Name,
		Host:       host,
		Port:       port,
		NoSigs:     true,
		NoLog:      true,
		MaxPayload: geo.MaxMessage,
		// What is sent to a client that is gone comes again only after a
		// while; two minutes, the default, is long to be sending.
		PingInterval: pingInterval,
		MaxPingsOut:  2,

		JetStream:              true,
		JetStreamDomain:        s.cfg.Region,
		JetStreamMaxMemory:     maxMemory,
		JetStreamMaxStore:      maxStore,
		DisableJetStreamBanner: true,
		SyncAlways:             true,
		StoreDir:               filepath.Join(s.cfg.DataDir, soloDir),
	}
	if c := s.cfg.Cluster; c != nil {
		opts.StoreDir = filepath.Join(s.cfg.DataDir, clusterDir)
		opts.Cluster.Name = "atoll-" + s.cfg.Region
		if opts.Cluster.Host, opts.Cluster.Port, err = splitAddr(c.Listen); err != nil {
			return nil, err
		}
		// Clients are given their list of servers; addresses that are good
		// inside a region need not be good outside.
		opts.Cluster.NoAdvertise = true
		for _, r := range c.Routes {
			if r != c.Listen {
				opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats", Host: r})
			}
		}
	}
	return opts, nil
}

// refuseOther guards N2.
func (s *Server) refuseOther() error {
	other, is, wanted := clusterDir, "clustered", "standalone"
	if s.cfg.Cluster != nil {
		other, is, wanted = soloDir, "standalone", "clustered"
	}
	dir := filepath.Join(s.cfg.DataDir, other)
	found, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look for another nats store: %w", err)
	case len(found) > 0:
		return fmt.Errorf("%w: %s has the store of a %s server, and this one is to be %s (from one to three is a step of its own: atoll grow)", ErrOtherStore, dir, is, wanted)
	}
	return nil
}

// ErrOtherStore says that the data directory belongs to the other kind of
// server.
var ErrOtherStore = errors.New("refusing to mix standalone and clustered nats data")

// splitAddr returns host and port, port -1 for "any".
func splitAddr(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("port %q is not 0..65535", text)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}
