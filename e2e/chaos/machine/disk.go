//go:build linux

package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Pool holds the images of disks. On XFS an image can be cloned in an instant,
// whatever is being written to it: that is a power cut.
type Pool struct {
	run   *Run
	dir   string
	clone bool
}

// NewPool makes an XFS of so many bytes at most inside the run's directory, or,
// where that is not possible, uses the directory itself, and disks cannot be
// cloned.
func (r *Run) NewPool(bytes int64, xfs bool) (*Pool, error) {
	p := &Pool{run: r, dir: filepath.Join(r.Dir, "pool"), clone: xfs}
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make pool: %w", err)
	}
	if !xfs {
		return p, nil
	}
	image := filepath.Join(r.Dir, "pool.img")
	if err := sparse(image, bytes); err != nil {
		return nil, err
	}
	if err := command("mkfs.xfs", "-q", "-m", "reflink=1", image); err != nil {
		return nil, err
	}
	return p, r.mount(image, p.dir)
}

func (r *Run) mount(image, dir string) error {
	if err := command("mount", "-o", "loop,noatime", image, dir); err != nil {
		return err
	}
	r.mounted(dir)
	return nil
}

func sparse(path string, bytes int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make image: %w", err)
	}
	return errors.Join(f.Truncate(bytes), f.Close())
}

// Disk is an ext4 file system in an image, mounted; or, from Run.Directory, a
// plain directory that can only be wiped.
type Disk struct {
	pool  *Pool
	image string
	clone string // taken and not mounted yet
	// Dir is where it is mounted.
	Dir string
}

// NewDisk makes and mounts a disk.
func (p *Pool) NewDisk(name string, bytes int64) (*Disk, error) {
	d := &Disk{pool: p, image: filepath.Join(p.dir, name+".img"), Dir: filepath.Join(p.run.Dir, name)}
	if err := sparse(d.image, bytes); err != nil {
		return nil, err
	}
	if err := command("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1", d.image); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(d.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make mount point: %w", err)
	}
	return d, p.run.mount(d.image, d.Dir)
}

// Directory is a disk for machines that cannot mount any.
func (r *Run) Directory(name string) (*Disk, error) {
	d := &Disk{Dir: filepath.Join(r.Dir, name)}
	return d, os.MkdirAll(d.Dir, 0o755)
}

// Remove unmounts the disk and deletes it. No process uses it.
func (d *Disk) Remove() error {
	if d.pool == nil {
		return os.RemoveAll(d.Dir)
	}
	return errors.Join(d.pool.run.unmount(d.Dir), os.Remove(d.image))
}

// Freeze takes a clone of what is on the disk at this instant: what was synced,
// and some of what was not. The disk goes on.
func (d *Disk) Freeze() error {
	if d.pool == nil || !d.pool.clone {
		return errors.New("this disk cannot be cloned")
	}
	src, err := os.Open(d.image)
	if err != nil {
		return fmt.Errorf("open image: %w", err)
	}
	defer src.Close()
	d.clone = d.image + ".clone"
	dst, err := os.OpenFile(d.clone, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("make clone: %w", err)
	}
	defer dst.Close()
	if err := unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())); err != nil {
		return fmt.Errorf("clone image: %w", err)
	}
	return nil
}

// Thaw puts the clone in the place of the disk, as the power coming back does.
// No process uses the disk.
func (d *Disk) Thaw() error {
	if err := d.pool.run.unmount(d.Dir); err != nil {
		return err
	}
	if err := os.Rename(d.clone, d.image); err != nil {
		return fmt.Errorf("replace image: %w", err)
	}
	return d.pool.run.mount(d.image, d.Dir)
}

const filler = "filler"

// Fill takes so much of the disk that about leave bytes are free.
func (d *Disk) Fill(leave int64) error {
	if d.pool == nil {
		return errors.New("this disk is the host's: it is not filled")
	}
	f, err := os.OpenFile(filepath.Join(d.Dir, filler), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("make filler: %w", err)
	}
	defer f.Close()
	free, err := d.Free()
	if err != nil {
		return err
	}
	if free <= leave {
		return nil
	}
	at, err := f.Seek(0, 2)
	if err != nil {
		return err
	}
	if err := unix.Fallocate(int(f.Fd()), 0, at, free-leave); err != nil {
		return fmt.Errorf("grow filler: %w", err)
	}
	return nil
}

// Drain removes what Fill wrote.
func (d *Disk) Drain() error { return os.Remove(filepath.Join(d.Dir, filler)) }

// Free bytes.
func (d *Disk) Free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(d.Dir, &st); err != nil {
		return 0, fmt.Errorf("statfs %s: %w", d.Dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}
