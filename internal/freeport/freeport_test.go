package freeport

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

func TestSpan(t *testing.T) {
	for kernel, want := range map[string][2]int{
		"32768\t60999\n": {10_000, 32_768},
		"49152\t65535\n": {10_000, 49_152},
		"12000 65535":    {10_000, 12_000},
		"11999 60000":    {60_001, 65_536},
		"1024 4999":      {10_000, 65_536},
		"1024 65535":     {10_000, 65_536},
		"":               {10_000, 32_768},
		"many":           {10_000, 32_768},
		"1024":           {10_000, 32_768},
	} {
		if from, to := span(kernel); from != want[0] || to != want[1] {
			t.Errorf("%q: from %d to %d, not %v", kernel, from, to, want)
		}
	}
}

// The kernel gives none of them to an outgoing connection.
func TestOutsideOfTheKernels(t *testing.T) {
	kernel, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		t.Skip("the kernel does not say which ports it takes: ", err)
	}
	from, to := span(string(kernel))
	seen := map[string]bool{}
	for range 4 {
		for _, addr := range For(t, 25) {
			if p := port(t, addr); p < from || p >= to {
				t.Errorf("%s, from %d to %d", addr, from, to)
			}
			if seen[addr] {
				t.Errorf("%s twice", addr)
			}
			seen[addr] = true
		}
	}
}

func TestListenedOn(t *testing.T) {
	was, err := Take(1) // so that no other test begins to listen there
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", was.Addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	was.Release()
	p := port(t, was.Addrs[0])
	if c, err := take(1, p, p+1); err == nil {
		t.Errorf("%v has a listener", c.Addrs)
	}
	l.Close()
	c, err := take(1, p, p+1)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	for range 2 { // who has it can listen, and again
		l, err := net.Listen("tcp", c.Addrs[0])
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
}

func TestRelease(t *testing.T) {
	c, err := Take(1)
	if err != nil {
		t.Fatal(err)
	}
	p := port(t, c.Addrs[0])
	if two, err := take(1, p, p+1); err == nil {
		t.Fatalf("%v twice", two.Addrs)
	}
	if all, err := take(3, p, p+2); err == nil || !strings.Contains(err.Error(), "claim 3 ports") {
		t.Errorf("%v, %v", all, err) // and what it found is free again:
	}
	c.Release()
	c.Release()
	again, err := take(1, p, p+1)
	if err != nil {
		t.Fatal(err)
	}
	again.Release()
}

// Processes that look at the same time among few ports find different ones, and
// what one had is free when it was killed.
func TestProcesses(t *testing.T) {
	const n, each = 4, 90
	first, to := span("")
	first += rand.IntN(to - first - 400) // each sees most of what the others have
	var children []*exec.Cmd
	var out []*bufio.Reader
	for range n {
		c := exec.Command(os.Args[0], strconv.Itoa(each), strconv.Itoa(first), strconv.Itoa(first+400))
		c.Env = append(os.Environ(), child+"=1")
		c.Stderr = os.Stderr
		in, err := c.StdinPipe() // it ends with this process
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		pipe, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		defer c.Wait()
		defer c.Process.Kill()
		children, out = append(children, c), append(out, bufio.NewReader(pipe))
	}
	var all, last []string
	for _, r := range out {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("%q, %v", line, err)
		}
		last = strings.Fields(line)
		all = append(all, last...)
	}
	slices.Sort(all)
	if got := len(slices.Compact(all)); got != n*each {
		t.Errorf("%d processes have %d ports in all", n, got)
	}
	p := port(t, last[0])
	if c, err := take(1, p, p+1); err == nil {
		t.Errorf("%v is another process's", c.Addrs)
	}
	children[n-1].Process.Kill()
	children[n-1].Wait()
	c, err := take(1, p, p+1)
	if err != nil {
		t.Fatal("of a process that was killed: ", err)
	}
	c.Release()
}

// forking starts children all the time, until the test ends.
func forking(t *testing.T) {
	// The first child of a process is preceded by one that is forked without the lock,
	// which looks what the kernel can do.
	if err := exec.Command(os.Args[0], "-test.run=^$").Run(); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					exec.Command(os.Args[0], "-test.run=^$").Run()
				}
			}
		})
	}
	t.Cleanup(func() {
		close(stop)
		all.Wait()
	})
}

// Who has closed a listener can listen there again.
func TestAgainBesideChildren(t *testing.T) {
	c, err := Take(1)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	forking(t)
	for range 10_000 {
		AwaitChildren(t.Context(), c.Addrs[0])
		l, err := net.Listen("tcp", c.Addrs[0])
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
}

// Who has a port can listen on it at once, also while this process starts others:
// a child that was forked during the look at the port has the look's listener until
// it becomes another program.
func TestBesideChildren(t *testing.T) {
	forking(t)
	for range 3_000 {
		c, err := Take(1)
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", c.Addrs[0])
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		c.Release()
	}
}

// child in the environment makes this binary a process that takes ports, says
// which, and keeps them until it is told to end.
const child = "FREEPORT_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(child) == "" {
		os.Exit(m.Run())
	}
	var of [3]int
	for i := range of {
		of[i], _ = strconv.Atoi(os.Args[i+1])
	}
	c, err := take(of[0], of[1], of[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(strings.Join(c.Addrs, " "))
	io.Copy(io.Discard, os.Stdin)
}

func port(t *testing.T, addr string) int {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return a.Port
}
