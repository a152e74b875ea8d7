package process

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"time"

	"google.golang.org/grpc"

	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/peer/grpcpeer"
)

// drainGrace bounds how long what clients have under way may take when the
// node stops. It is above the deadline that operations have by default.
const drainGrace = 5 * time.Second

func (p *Process) storeDir() string { return filepath.Join(p.cfg.DataDir, "store") }

type listeners struct{ client, peer, admin net.Listener }

// openListeners opens all at once: a port that is in use is told before the
// store is opened, which may take a while.
func (p *Process) openListeners(s *stack) (l listeners, err error) {
	for _, one := range []struct {
		field, purpose, addr string
		to                   *net.Listener
		told                 func(*Addrs) *string
	}{
		{"client", "clients", p.cfg.Listen.Client, &l.client, func(a *Addrs) *string { return &a.Client }},
		{"peer", "peers", p.cfg.Listen.Peer, &l.peer, func(a *Addrs) *string { return &a.Peer }},
		{"admin", "operators", p.cfg.Listen.Admin, &l.admin, func(a *Addrs) *string { return &a.Admin }},
	} {
		open, err := p.hooks.listen(one.field, one.purpose, one.addr)
		if err != nil {
			return l, err
		}
		*one.to = open
		p.addrs.set(func(a *Addrs) { *one.told(a) = open.Addr().String() })
		s.onStop(one.field+" address", func() error {
			// The server on it has closed it, if there was one.
			if err := open.Close(); !errors.Is(err, net.ErrClosed) {
				return err
			}
			return nil
		})
	}
	return l, nil
}

// servePeers starts what other nodes ask.
func (p *Process) servePeers(s *stack, l net.Listener) {
	p.peers = grpcpeer.NewServer(p.handle, grpcpeer.ServerConfig{
		Self: p.cfg.Node, Region: p.cfg.Region, RegionOf: p.world.regionOf,
		Partitions: uint32(p.cfg.Partitions), Logger: p.log.Named("peers"),
	})
	srv := grpc.NewServer(grpcpeer.ServerOptions()...)
	p.peers.Register(srv)
	s.run("peer listener", func(ctx context.Context) error {
		// Links are for ever: there is nothing to wait for.
		return serve(ctx, srv, l, srv.Stop)
	})
}

// serveClients starts what clients ask.
func (p *Process) serveClients(s *stack, l net.Listener) {
	log := p.log.Named("api")
	n := p.node.Load()
	kv := api.NewKVService(p.requests.Coordinator(n.Coordinator()), p.cfg.Region, p.world.name, log)
	kv.SetRegionMap(n.RegionMapNumber)
	srv := grpc.NewServer(api.ServerOptions(log)...)
	n.CountHot(kv.HotKeys)
	p.kv.Store(kv)
	health := api.Register(srv, kv, api.NewClusterService(n, n.Operations()), api.NewBucketsService(n.Buckets()))
	s.run("client listener", func(ctx context.Context) error {
		return serve(ctx, srv, l, func() {
			health.Shutdown()
			grace, cancel := context.WithTimeout(context.Background(), drainGrace)
			defer cancel()
			drained := make(chan struct{})
			go func() {
				defer close(drained)
				_ = kv.Drain(grace) // at worst the grace is over
				srv.GracefulStop()
			}()
			select {
			case <-drained:
			case <-grace.Done():
				p.log.Warn("clients' calls were cut off", "after", drainGrace)
				srv.Stop()
				<-drained
			}
		})
	})
}

// serve runs srv until ctx ends, and then stop.
func serve(ctx context.Context, srv *grpc.Server, l net.Listener, stop func()) error {
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	stop()
	// What ended before it had begun to serve says so, and it is no failure.
	if err := <-served; !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}
