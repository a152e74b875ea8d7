package process

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoggerOffTerminal(t *testing.T) {
	for format, isJSON := range map[string]bool{LogAuto: true, "": true, LogJSON: true, LogText: false} {
		out, err := os.Create(filepath.Join(t.TempDir(), "log"))
		if err != nil {
			t.Fatal(err)
		}
		log := Log{Level: "warn", Format: format}.Logger(out)
		log.Info("not wanted")
		log.Warn("a line", "key", 1)
		b, err := os.ReadFile(out.Name())
		if err != nil {
			t.Fatal(err)
		}
		out.Close()
		var line map[string]any
		if got := json.Unmarshal(b, &line) == nil && line["@message"] == "a line" && line["key"] == 1.0; got != isJSON {
			t.Errorf("format %q: %s", format, b)
		}
		if n := strings.Count(string(b), "\n"); n != 1 {
			t.Errorf("format %q: %d lines", format, n)
		}
	}
}

// What gRPC calls an error is none here, and formats are rendered.
func TestGRPCBridge(t *testing.T) {
	var out bytes.Buffer
	b := grpcBridge{newLogger("trace", false, &out)}
	b.Infof("connecting to %s", "h1")
	b.Warning("slow ", "h2")
	b.Errorln("lost", "h3")
	text := out.String()
	for _, want := range []string{
		`[TRACE] atoll: grpc says: text="connecting to h1"`,
		`[DEBUG] atoll: grpc says: text="slow h2"`,
		`[WARN]  atoll: grpc says: text="lost h3"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if !b.V(2) || (grpcBridge{newLogger("info", false, &out)}).V(0) {
		t.Error("verbosity")
	}
}
