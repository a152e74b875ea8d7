package machine

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A process reads the time by a function that the kernel maps into it (the vDSO),
// without a system call, and nothing outside can make that answer another time. So
// the function is replaced in the memory of the one process: its entry jumps to
// what is put behind the end of the image, which asks the kernel by a system call
// and adds some seconds to the wall clock. Other clocks are as they were, as they
// are when somebody sets a machine's clock.

// clockCode is what the entry jumps to. Its last 8 bytes are the seconds.
//
//	b8 e4 00 00 00        mov   $228, %eax       clock_gettime(%edi, (%rsi))
//	0f 05                 syscall                leaves %rdi and %rsi alone
//	85 ff                 test  %edi, %edi       CLOCK_REALTIME is 0
//	75 0e                 jne   to ret
//	85 c0                 test  %eax, %eax
//	75 0a                 jne   to ret
//	48 8b 0d 0a 00 00 00  mov   10(%rip), %rcx   the seconds
//	48 01 0e              add   %rcx, (%rsi)
//	c3                    ret
//	...                   nothing, up to 32
var clockCode = [40]byte{
	0xb8, 0xe4, 0, 0, 0, 0x0f, 0x05, 0x85, 0xff, 0x75, 0x0e, 0x85, 0xc0, 0x75, 0x0a,
	0x48, 0x8b, 0x0d, 0x0a, 0, 0, 0, 0x48, 0x01, 0x0e, 0xc3,
}

const (
	clockSeconds = 32 // where in clockCode
	jumpSize     = 5
)

// SkewClock makes a process's wall clock wrong by whole seconds (0: right again),
// at once and for all its threads. Those it starts later have the right time. The
// process stands still for some milliseconds meanwhile.
func SkewClock(pid int, by time.Duration) (err error) {
	if by%time.Second != 0 {
		return fmt.Errorf("skew a clock by %v: not whole seconds", by)
	}
	base, image, err := vdso(pid)
	if err != nil {
		return err
	}
	entry, err := clockEntry(image)
	if err != nil {
		return err
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open memory: %w", err)
	}
	defer mem.Close()
	jump := make([]byte, jumpSize)
	code := int64(len(image) - len(clockCode))
	jump[0] = 0xe9 // relative to what follows
	binary.LittleEndian.PutUint32(jump[1:], uint32(code-entry-jumpSize))
	patched := bytes.Equal(image[entry:entry+jumpSize], jump)
	if !patched && !isZero(image[code:]) {
		return errors.New("no room behind the vDSO's image")
	}
	resume, err := standStill(pid, base+entry, base+entry+jumpSize)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resume()) }()
	stub := clockCode
	binary.LittleEndian.PutUint64(stub[clockSeconds:], uint64(int64(by/time.Second)))
	if _, err := mem.WriteAt(stub[:], base+code); err != nil {
		return fmt.Errorf("write code: %w", err)
	}
	if _, err := mem.WriteAt(jump, base+entry); err != nil {
		return fmt.Errorf("write jump: %w", err)
	}
	return nil
}

// vdso waits for a process that has just been started.
func vdso(pid int) (base int64, image []byte, err error) {
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(time.Millisecond) {
		if base, image, err = findVDSO(pid); err == nil || time.Now().After(deadline) {
			return base, image, err
		}
	}
}

// findVDSO returns where the image is in a process, and what is there.
func findVDSO(pid int) (base int64, image []byte, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, nil, fmt.Errorf("find the vDSO: %w", err)
	}
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		if !strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			continue
		}
		if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err != nil {
			return 0, nil, fmt.Errorf("find the vDSO in %q: %w", line, err)
		}
		mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
		if err != nil {
			return 0, nil, fmt.Errorf("open memory: %w", err)
		}
		defer mem.Close()
		image = make([]byte, to-from)
		if _, err := mem.ReadAt(image, from); err != nil {
			return 0, nil, fmt.Errorf("read the vDSO: %w", err)
		}
		return from, image, nil
	}
	return 0, nil, fmt.Errorf("process %d has no vDSO", pid)
}

// clockEntry is where in the image the function is that Go and C libraries call.
func clockEntry(image []byte) (int64, error) {
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, fmt.Errorf("read the vDSO: %w", err)
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return 0, fmt.Errorf("read the vDSO's symbols: %w", err)
	}
	for _, s := range symbols {
		if s.Name == "__vdso_clock_gettime" && s.Size > jumpSize && s.Value < uint64(len(image)) {
			return int64(s.Value), nil
		}
	}
	return 0, errors.New("the vDSO has no clock_gettime")
}

func isZero(b []byte) bool { return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) }

const standStillTries = 20

// standStill stops all threads where none of them is between from and to, which is
// about to be replaced, and returns what lets them go on.
func standStill(pid int, from, to int64) (resume func() error, err error) {
	resume = func() error { return unix.Kill(pid, unix.SIGCONT) }
	for range standStillTries {
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			return nil, fmt.Errorf("stop process %d: %w", pid, err)
		}
		clear, err := threadsClear(pid, from, to)
		if err == nil && clear {
			return resume, nil
		}
		if err := errors.Join(err, resume()); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("threads of process %d were always in the way", pid)
}

// threadsClear waits until every thread has stopped, and says whether all are
// somewhere else.
func threadsClear(pid int, from, to int64) (bool, error) {
	for deadline := time.Now().Add(2 * time.Second); ; {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return false, fmt.Errorf("list threads: %w", err)
		}
		stopped, clear := true, true
		for _, t := range tasks {
			at, ok := stoppedAt(fmt.Sprintf("/proc/%d/task/%s", pid, t.Name()))
			stopped = stopped && ok
			clear = clear && (at < from || at >= to)
		}
		switch {
		case stopped:
			return clear, nil
		case time.Now().After(deadline):
			return false, fmt.Errorf("process %d does not stop", pid)
		}
		time.Sleep(time.Millisecond)
	}
}

// stoppedAt returns where a thread is to go on; ok is false while it runs.
func stoppedAt(task string) (at int64, ok bool) {
	stat, err := os.ReadFile(task + "/stat")
	if err != nil {
		return 0, false // it has just ended
	}
	if !stands(stat) {
		return 0, false
	}
	// "NUMBER ARGUMENTS SP PC" or "-1 SP PC"; "running" when it does.
	where, err := os.ReadFile(task + "/syscall")
	if err != nil {
		return 0, false
	}
	words := strings.Fields(string(where))
	at, err = strconv.ParseInt(words[len(words)-1], 0, 64)
	return at, err == nil
}
