package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atolldb/atoll/geo/natsd"
	"github.com/atolldb/atoll/node/process"
)

func grow(args ...string) (string, error) {
	cmd := root()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetArgs(append([]string{"grow"}, args...))
	err := cmd.Execute()
	return out.String(), err
}

func TestGrow(t *testing.T) {
	c := process.Dev(t.TempDir())
	c.Listen.Client, c.Listen.Admin = "127.0.0.1:0", "127.0.0.1:0"
	p, err := process.New(c, process.Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	select {
	case <-p.Ready():
	case err := <-done:
		t.Fatal(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}

	c.NATS.Cluster = &process.Cluster{Listen: "127.0.0.1:1", Routes: []string{"127.0.0.1:2", "127.0.0.1:3"}}
	c.Regions[0].NATS = []string{"nats://127.0.0.1:4", "nats://127.0.0.1:5", "nats://127.0.0.1:6"}
	text, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "three.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := grow("--config", file)
	if err != nil || !strings.Contains(out, "is ready for a cluster") {
		t.Fatalf("%q, %v", out, err)
	}
	carried, err := os.ReadFile(filepath.Join(c.DataDir, "nats", "carried.json"))
	if err != nil || !bytes.Contains(carried, []byte(`"topology"`)) || !bytes.Contains(carried, []byte(`"nodes.dev"`)) {
		t.Errorf("carried: %s, %v", carried, err)
	}
	if _, err := grow("--config", file); !errors.Is(err, natsd.ErrNothingToRetire) {
		t.Errorf("once more: %v", err)
	}
	if _, err := grow(); exitCode(err) != exitUsage {
		t.Errorf("without a file: %v", err)
	}
}
