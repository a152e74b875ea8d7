package process

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/term"
	"google.golang.org/grpc/grpclog"
)

// Logger returns a logger that writes to out.
func (l Log) Logger(out *os.File) hclog.Logger {
	json := l.Format == LogJSON
	if l.Format == LogAuto || l.Format == "" {
		json = !term.IsTerminal(int(out.Fd()))
	}
	return newLogger(l.Level, json, out)
}

func newLogger(level string, json bool, out io.Writer) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{
		Name: "atoll", Level: hclog.LevelFromString(level), JSONFormat: json, Output: out,
	})
}

// BridgeGRPC sends gRPC's own log lines, which are about the whole operating
// system process, to log. Call it before anything else uses gRPC.
func BridgeGRPC(log hclog.Logger) { grpclog.SetLoggerV2(grpcBridge{log.Named("grpc")}) }

// grpcBridge lowers levels: what gRPC calls an error is a connection that
// failed and is tried again, and an error in our log means that a person must
// act.
type grpcBridge struct{ log hclog.Logger }

const grpcSays = "grpc says"

func (b grpcBridge) Info(args ...any)    { b.trace(fmt.Sprint(args...)) }
func (b grpcBridge) Infoln(args ...any)  { b.trace(fmt.Sprintln(args...)) }
func (b grpcBridge) Warning(args ...any) { b.debug(fmt.Sprint(args...)) }

func (b grpcBridge) Infof(format string, args ...any) {
	if b.log.IsTrace() {
		b.trace(fmt.Sprintf(format, args...))
	}
}

func (b grpcBridge) Warningln(args ...any)               { b.debug(fmt.Sprintln(args...)) }
func (b grpcBridge) Warningf(format string, args ...any) { b.debug(fmt.Sprintf(format, args...)) }
func (b grpcBridge) Error(args ...any)                   { b.warn(fmt.Sprint(args...)) }
func (b grpcBridge) Errorln(args ...any)                 { b.warn(fmt.Sprintln(args...)) }
func (b grpcBridge) Errorf(format string, args ...any)   { b.warn(fmt.Sprintf(format, args...)) }

// Fatal is gRPC's word that it cannot go on.
func (b grpcBridge) Fatal(args ...any)                 { b.fatal(fmt.Sprint(args...)) }
func (b grpcBridge) Fatalln(args ...any)               { b.fatal(fmt.Sprintln(args...)) }
func (b grpcBridge) Fatalf(format string, args ...any) { b.fatal(fmt.Sprintf(format, args...)) }

// V says whether lines of a verbosity are wanted.
func (b grpcBridge) V(int) bool { return b.log.IsTrace() }

func (b grpcBridge) trace(text string) { b.log.Trace(grpcSays, "text", strings.TrimSpace(text)) }
func (b grpcBridge) debug(text string) { b.log.Debug(grpcSays, "text", strings.TrimSpace(text)) }
func (b grpcBridge) warn(text string)  { b.log.Warn(grpcSays, "text", strings.TrimSpace(text)) }

func (b grpcBridge) fatal(text string) {
	b.log.Error(grpcSays, "text", strings.TrimSpace(text))
	os.Exit(1)
}
