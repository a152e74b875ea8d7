//go:build chaos && linux

package chaos

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os/exec"
)

// compareExports runs 'atoll export' against every region: equal data give
// equal bytes.
func (r *rig) compareExports(ctx context.Context) {
	if len(r.Regions()) < 2 {
		return // digests have said it
	}
	first := ""
	for i, region := range r.Regions() {
		sum, size, err := r.export(ctx, region)
		if err != nil {
			r.unmet("export", "%v", err)
			return
		}
		if i == 0 {
			first = sum
			r.note("exports of %d bytes are compared", size)
		} else if sum != first {
			r.history.Differ(fmt.Sprintf("the export of %s is not that of %s", region, r.Regions()[0]))
		}
	}
}

func (r *rig) export(ctx context.Context, region string) (sum string, size int64, err error) {
	digest := sha256.New()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, shared.binary, "export", "--endpoints", r.Target(region))
	counted := &counter{to: digest}
	cmd.Stdout, cmd.Stderr = counted, &stderr
	if err := r.net.Start("clients", cmd); err != nil {
		return "", 0, err
	}
	if err := cmd.Wait(); err != nil {
		return "", 0, fmt.Errorf("export %s: %w: %s", region, err, stderr.String())
	}
	return fmt.Sprintf("%x", digest.Sum(nil)), counted.n, nil
}

// counter counts what it hands on.
type counter struct {
	to interface{ Write([]byte) (int, error) }
	n  int64
}

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return c.to.Write(p)
}
