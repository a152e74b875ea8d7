package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/node/process"
)

type startFlags struct {
	config, data, level string
	dev                 bool
}

func startCommand() *cobra.Command {
	var f startFlags
	cmd := &cobra.Command{
		Use:   "start --config FILE | --dev",
		Short: "Run a node",
		Long: `Run a node, from a configuration file or, with --dev, as a region of its own on
loopback that needs no configuration and keeps its data in a directory of its
own, which is removed at the end unless --data or ` + process.EnvPrefix + `DATA_DIR names one.

Variables ` + process.EnvPrefix + `* override single values of the file: ` + process.EnvPrefix + `LISTEN_CLIENT is
listen.client. SIGINT or SIGTERM stops the node in order; a second one ends it
at once, which the next start takes for a crash. The log goes to standard
error. Where there is one processor Go runs on four threads, unless GOMAXPROCS
is set.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return start(cmd, f) },
	}
	cmd.Flags().StringVar(&f.config, "config", "", "configuration `FILE`; see 'atoll config'")
	cmd.Flags().BoolVar(&f.dev, "dev", false, "run one node for development")
	cmd.Flags().StringVar(&f.data, "data", "", "with --dev, keep data in `DIR`")
	cmd.Flags().StringVar(&f.level, "log-level", "", "trace, debug, info, warn or error, whatever the configuration says")
	return cmd
}

func start(cmd *cobra.Command, f startFlags) error {
	switch {
	case f.dev == (f.config != ""):
		return usage(cmd, errors.New("either --config or --dev is needed"))
	case f.data != "" && !f.dev:
		return usage(cmd, errors.New("--data goes with --dev; a configuration has data_dir"))
	case f.level != "" && hclog.LevelFromString(f.level) == hclog.NoLevel:
		return usage(cmd, fmt.Errorf("--log-level must be trace, debug, info, warn or error, not %q", f.level))
	}
	// That nobody reads its log any more is no reason for a node to die.
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGPIPE)
	useThreads()
	ctx, stop := untilSignal(cmd.Context())
	defer stop()
	if f.dev {
		return startDev(ctx, cmd.OutOrStdout(), f)
	}
	cfg, err := loadConfig(f.config)
	if err != nil {
		return err
	}
	return runNode(ctx, cfg, f.level, process.Hooks{}, func(*process.Process) {})
}

// runNode runs a node; started is called when it is ready.
func runNode(
	ctx context.Context, cfg process.Config, level string, hooks process.Hooks, started func(*process.Process),
) error {
	if level != "" {
		cfg.Log.Level = level
	}
	cfg.Version = version
	hooks.Logger = cfg.Log.Logger(os.Stderr)
	process.BridgeGRPC(hooks.Logger)
	p, err := process.New(cfg, hooks)
	if err != nil {
		return refusedConfig(err)
	}
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-p.Ready():
			started(p)
			tellSystemd("READY=1", hooks.Logger)
			<-watching.Done()
			tellSystemd("STOPPING=1", hooks.Logger)
		case <-watching.Done():
		}
	})
	err = p.Run(ctx)
	stop()
	watch.Wait()
	if bad := (process.Problems)(nil); errors.As(err, &bad) { // a restart does not help
		err = withCode(exitUsage, err)
	}
	return err
}

// untilSignal returns a context that ends with the first SIGINT or SIGTERM. A
// second one ends the process. The function gives the signals back.
func untilSignal(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	ended := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for range 2 {
			select {
			case <-signals:
			case <-ended:
				return
			}
			if ctx.Err() != nil {
				fmt.Fprintln(os.Stderr, "atoll: stopped at once")
				os.Exit(exitError)
			}
			cancel()
		}
	})
	return ctx, func() {
		signal.Stop(signals)
		close(ended)
		done.Wait()
		cancel()
	}
}

// startDev runs a node that needs no configuration. It takes the usual ports,
// or free ones.
func startDev(ctx context.Context, out io.Writer, f startFlags) error {
	temp, err := os.MkdirTemp("", "atoll-dev-")
	if err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	defer os.RemoveAll(temp)
	cfg := process.Dev(temp)
	cfg.Log.Level = "warn"
	if cfg, err = cfg.Override(os.Environ()); err != nil {
		return err
	}
	if f.data != "" {
		cfg.DataDir = f.data
	}
	kept := "kept"
	if cfg.DataDir == temp {
		kept = "removed at the end"
	}
	open := map[string]net.Listener{}
	defer func() {
		for _, l := range open {
			_ = l.Close()
		}
	}()
	for _, addr := range []*string{&cfg.Listen.Client, &cfg.Listen.Admin} {
		l, err := listenNear(*addr)
		if err != nil {
			return err
		}
		*addr = l.Addr().String()
		open[*addr] = l
	}
	cfg.Regions[0].Members[0].Client = cfg.Listen.Client
	hooks := process.Hooks{Listen: func(network, addr string) (net.Listener, error) {
		if l := open[addr]; l != nil {
			delete(open, addr)
			return l, nil
		}
		return net.Listen(network, addr)
	}}
	return runNode(ctx, cfg, f.level, hooks, func(p *process.Process) {
		a := p.Addrs()
		fmt.Fprintf(out, `a node for development is ready
  clients  %s
  admin    http://%s
  data     %s (%s)
try: atoll put --endpoints %s hello world
`, a.Client, a.Admin, cfg.DataDir, kept, a.Client)
	})
}

// listenNear listens on addr or, if the port is in use, on a free one.
func listenNear(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return net.Listen("tcp", "127.0.0.1:0")
	}
	return l, err
}

// tellSystemd tells the service manager, if there is one, how far things are
// (see sd_notify(3)).
func tellSystemd(state string, log hclog.Logger) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	conn, err := net.Dial("unixgram", path)
	if err == nil {
		_, err = conn.Write([]byte(state))
		err = errors.Join(err, conn.Close())
	}
	if err != nil {
		log.Warn("cannot tell the service manager", "state", state, "error", err)
	}
}
