//go:build linux

package machine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Ability is something that a fault needs.
type Ability string

// The abilities.
const (
	Cutting    Ability = "network namespaces with nftables" // all traffic cut; loss
	Disks      Ability = "loop file systems"                // full disk
	Cloning    Ability = "xfs with reflinks"                // power cut
	Injecting  Ability = "strace injection"                 // sync errors
	Throttling Ability = "blkio throttle"                   // slow disk
	Skewing    Ability = "clocks of processes"              // a clock that is off; needs no root
)

// Probe tries everything out and returns, for what this machine cannot do, why.
func (r *Run) Probe() map[Ability]error {
	missing := map[Ability]error{}
	for _, p := range []struct {
		ability Ability
		tools   []string
		try     func() error
	}{
		{Cutting, []string{"ip", "nft"}, r.tryNetwork},
		{Disks, []string{"mount", "umount", "mkfs.ext4"}, r.tryDisk},
		{Cloning, []string{"mount", "umount", "mkfs.ext4", "mkfs.xfs"}, r.tryPool},
		{Injecting, []string{"strace"}, func() error { return nil }},
		{Throttling, []string{"mount"}, func() error { return writable(blkio) }},
	} {
		if err := root(); err != nil {
			missing[p.ability] = err
		} else if err := have(p.tools); err != nil {
			missing[p.ability] = err
		} else if err := p.try(); err != nil {
			missing[p.ability] = err
		}
	}
	if err := trySkew(); err != nil {
		missing[Skewing] = err
	}
	return missing
}

func trySkew() error {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		return err
	}
	err := SkewClock(cmd.Process.Pid, time.Second)
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // it tells the signal
	return err
}

func root() error {
	if os.Geteuid() != 0 {
		return errors.New("not root")
	}
	return nil
}

func have(tools []string) error {
	for _, t := range tools {
		if _, err := exec.LookPath(t); err != nil {
			return fmt.Errorf("%s is not installed: make deps", t)
		}
	}
	return nil
}

func (r *Run) tryNetwork() error {
	n, err := r.NewNamespaces()
	if err != nil {
		return err
	}
	defer n.Close()
	if err := n.Add("a"); err != nil {
		return err
	}
	return n.Lose(clients, "a", 30)
}

func (r *Run) tryDisk() error {
	p, err := r.NewPool(0, false)
	if err != nil {
		return err
	}
	d, err := p.NewDisk("try", 16<<20)
	if err != nil {
		return err
	}
	return d.Remove()
}

// tryPool leaves nothing: the pool is unmounted.
func (r *Run) tryPool() error {
	p, err := r.NewPool(320<<20, true) // the least that mkfs.xfs takes is 300 MiB
	if err != nil {
		return err
	}
	d, err := p.NewDisk("try", 16<<20)
	if err == nil {
		err = errors.Join(d.Freeze(), d.Thaw(), d.Remove())
	}
	return errors.Join(err, r.unmount(p.dir), os.Remove(filepath.Join(r.Dir, "pool.img")))
}

func writable(dir string) error {
	probe := filepath.Join(dir, namePrefix+"-probe")
	if err := os.Mkdir(probe, 0o755); err != nil {
		return fmt.Errorf("make cgroup: %w", err)
	}
	defer os.Remove(probe)
	_, err := os.Stat(filepath.Join(probe, "blkio.throttle.write_iops_device"))
	return err
}
