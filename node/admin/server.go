package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	headerTimeout = 5 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 16 << 10
	// maxScrapes at a time; a scrape of a large store walks its directory.
	maxScrapes = 4
)

// Config of a Server.
type Config struct {
	Node, Region, Version string
	// Figures returns what the node knows of itself; nil while there is no
	// node yet.
	Figures func() *Figures
	// Requests is what measures clients' operations; nil for none.
	Requests *Requests
	// Checks of /readyz, in the order shown.
	Checks []Check
	// Dead returns why only a restart would help, for /livez; nil for never.
	Dead   func() error
	Logger hclog.Logger
}

// Server answers operators.
type Server struct {
	cfg      Config
	registry *prometheus.Registry
	mux      *http.ServeMux
}

// New returns a server; Run makes it work.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, registry: prometheus.NewRegistry(), mux: http.NewServeMux()}
	s.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		buildInfo(cfg),
		figuresCollector{cfg.Figures},
	)
	if cfg.Requests != nil {
		s.registry.MustRegister(cfg.Requests.durations)
	}
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes}))
	s.mux.HandleFunc("GET /livez", s.livez)
	s.mux.HandleFunc("GET /readyz", s.readyz)
	s.mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	s.mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	s.mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	s.mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	s.mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	s.mux.HandleFunc("GET /{$}", index)
	return s
}

func buildInfo(cfg Config) prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "atoll_build_info", Help: "Always 1; the labels say what runs here.",
		ConstLabels: prometheus.Labels{"version": cfg.Version, "node": cfg.Node, "region": cfg.Region},
	})
	g.Set(1)
	return g
}

func index(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprint(w, "/metrics\n/livez\n/readyz?verbose\n/debug/pprof/\n")
}

// Handler serves all paths.
func (s *Server) Handler() http.Handler { return s.mux }

// Run serves on l until ctx ends. It closes l.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler: s.mux, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: s.cfg.Logger.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve operators: %w", err)
	case <-ctx.Done():
	}
	// Nobody loses anything by an answer that breaks off.
	err := srv.Close()
	<-served
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("stop serving operators: %w", err)
	}
	return nil
}
