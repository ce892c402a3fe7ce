package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// processorTicks are what the kernel counts in /proc: 100 a second (USER_HZ)
// on every architecture that Go runs on.
const processorTicks = 100

// cpuClock tells how much processor time passed and whose it was. Where there is
// no /proc it counts nothing.
type cpuClock struct {
	machine, own time.Duration // own: this process and the server
	server       time.Duration
}

// readCPU reads the clock for this process and the server.
func (s *server) readCPU() cpuClock {
	ticks := func(n int64) time.Duration { return time.Duration(n) * time.Second / processorTicks }
	c := cpuClock{}
	if stat, err := os.ReadFile("/proc/stat"); err == nil {
		line, _, _ := strings.Cut(string(stat), "\n")
		// user, nice, system, then idle and waiting, then interrupts.
		for i, field := range strings.Fields(line) {
			if n, err := strconv.ParseInt(field, 10, 64); err == nil && i >= 1 && i <= 7 && i != 4 && i != 5 {
				c.machine += ticks(n)
			}
		}
	}
	for i, pid := range []int{os.Getpid(), s.cmd.Process.Pid} {
		stat, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		_, rest, _ := strings.Cut(string(stat), ") ") // behind the name, which may hold anything
		fields := strings.Fields(rest)
		for _, field := range fields[min(11, len(fields)):min(13, len(fields))] { // utime, stime
			if n, err := strconv.ParseInt(field, 10, 64); err == nil {
				c.own += ticks(n)
				c.server += ticks(n * int64(i))
			}
		}
	}
	return c
}

const (
	idleLook = time.Second
	idleMax  = 50 * time.Millisecond // of processor time in a look
	// Runs of many imports are merged for minutes.
	idleWait = 10 * time.Minute
)

// waitIdle returns when the server does nothing any more: after an import it merges
// runs, which takes time and memory that are not those of what is measured next.
func (s *server) waitIdle(ctx context.Context) error {
	for end := time.Now().Add(idleWait); time.Now().Before(end); {
		before := s.readCPU().server
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(idleLook):
		}
		if s.readCPU().server-before < idleMax {
			return nil
		}
	}
	return fmt.Errorf("cannot measure a server that is still busy after %s", idleWait)
}

// others is the share of the time since an earlier reading that other programs
// took, in cores: figures beside much of it tell little.
func (c cpuClock) others(earlier cpuClock, took time.Duration) figure {
	busy := (c.machine - earlier.machine) - (c.own - earlier.own)
	return figure{"taken by other programs", max(0, busy.Seconds()/took.Seconds()), "cores"}
}

// taskNanoseconds is how long the threads of a process have run, as the kernel
// counts it; 0: unknown. Threads that ended are not in it.
func taskNanoseconds(pid int) (total int64) {
	paths, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "schedstat"))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		ran, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(ran, 10, 64)
		if err == nil {
			total += n
		}
	}
	return total
}
