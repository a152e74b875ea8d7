package storage

import "math"

// Watermark says when a disk is too full to write to. A full disk is not an
// error that an engine on memory-mapped files returns: it kills the process,
// and again at the next start. So writes stop early.
type Watermark struct {
	// Warn and Refuse are fractions of the file system in use (0.85, 0.92).
	Warn, Refuse float64
	// MinFree refuses writes below so many free bytes, whatever the fraction:
	// four memtables, what the engine may still write for what it has
	// accepted. 512 MiB for memtables of 128 MiB.
	MinFree int64
}

// DefaultWatermark is used when the config has none.
var DefaultWatermark = Watermark{Warn: 0.85, Refuse: 0.92, MinFree: 512 << 20}

// DiskState is a Watermark's judgement.
type DiskState int32

const (
	DiskOK   DiskState = iota
	DiskWarn           // an operator should look
	DiskFull           // writes are refused
)

func (s DiskState) String() string {
	return [...]string{"ok", "warn", "full"}[s]
}

// Needs is how many bytes have to be free on a file system for writes to be taken, give
// or take one.
func (w Watermark) Needs(u Usage) int64 {
	return max(w.MinFree, int64(math.Ceil(float64(u.Total)*(1-w.Refuse))))
}

// Judge is pure. A file system of unknown size (Total 0) is judged by MinFree
// alone.
func (w Watermark) Judge(u Usage) DiskState {
	used := 0.0
	if u.Total > 0 {
		used = 1 - float64(u.Free)/float64(u.Total)
	}
	switch {
	case u.Free < w.MinFree || used >= w.Refuse:
		return DiskFull
	case used >= w.Warn:
		return DiskWarn
	default:
		return DiskOK
	}
}
