package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

// startTimeout is how long a server may take to answer, recovery included.
const startTimeout = 2 * time.Minute

// build makes the binary of this source tree.
func build(ctx context.Context, target string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", target, "kiln/cmd/kiln")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build the server: %w\n%s", err, out)
	}
	return nil
}

// server is a running kiln serve.
type server struct {
	cmd     *exec.Cmd
	dataDir string
	base    string // FHIR base address
	logPath string
	drained chan error // the log is copied to its end
}

// usage is what a stopped server took.
type usage struct {
	peakBytes  int64 // resident memory at its highest; 0: unknown
	cpuSeconds float64
}

// start runs the server on dataDir. Inputs of imports may lie below importRoot.
func (b *bench) start(ctx context.Context, dataDir, importRoot string, flags ...string) (*server, error) {
	cmd := exec.CommandContext(ctx, b.binary, append([]string{"serve", "--data-dir", dataDir, "--listen", "127.0.0.1:0", "--import-root", importRoot}, flags...)...)
	if b.keys != "" {
		cmd.Args = append(cmd.Args, "--encryption-key-file", b.keys)
	}
	return b.run(ctx, cmd, dataDir)
}

// run starts a program that says msg=listening, and waits until it does. Its log
// goes beside dataDir.
func (b *bench) run(ctx context.Context, cmd *exec.Cmd, dataDir string) (*server, error) {
	s := &server{cmd: cmd, dataDir: dataDir, logPath: dataDir + ".log", drained: make(chan error, 1)}
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.WaitDelay = time.Minute
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start the server: %w", err)
	}
	b.servers = append(b.servers, s)
	addr := make(chan string, 1)
	go func() { s.drained <- copyLog(s.logPath, stderr, addr) }()
	select {
	case a := <-addr:
		if a == "" {
			return nil, fmt.Errorf("cannot start the server: it ended at once\n%s", s.logTail())
		}
		s.base = "http://" + a + "/fhir"
		return s, nil
	case <-time.After(startTimeout):
		return nil, fmt.Errorf("cannot start the server: no answer in %s\n%s", startTimeout, s.logTail())
	}
}

// copyLog keeps the log in a file and sends the address of the line that has
// msg=listening, or "" when the log ends before it.
func copyLog(path string, log io.Reader, addr chan<- string) error {
	defer close(addr)
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "msg=listening") {
			for _, field := range strings.Fields(lines.Text()) {
				if a, ok := strings.CutPrefix(field, "addr="); ok {
					addr <- a
				}
			}
		}
		fmt.Fprintln(file, lines.Text())
	}
	return errors.Join(lines.Err(), file.Close())
}

// logTail is the end of the server's log, for error messages.
func (s *server) logTail() string {
	const tailBytes = 4 << 10
	log, _ := os.ReadFile(s.logPath)
	return string(log[max(0, len(log)-tailBytes):])
}

// kill ends the server at once, if it still runs.
func (s *server) kill() {
	if s.cmd.ProcessState == nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
	}
}

// stop ends the server in good order.
func (s *server) stop() (usage, error) {
	u := usage{peakBytes: peakMemory(s.cmd.Process.Pid)}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return u, fmt.Errorf("cannot stop the server: %w\n%s", err, s.logTail())
	}
	err := errors.Join(<-s.drained, s.cmd.Wait())
	if err != nil {
		return u, fmt.Errorf("cannot stop the server: %w\n%s", err, s.logTail())
	}
	u.cpuSeconds = (s.cmd.ProcessState.UserTime() + s.cmd.ProcessState.SystemTime()).Seconds()
	return u, nil
}

// allocated is what the server has taken from memory since it started: how often,
// and how many bytes.
func (s *server) allocated() (times, bytes float64, err error) {
	status, text, err := fasthttp.Get(nil, strings.TrimSuffix(s.base, "/fhir")+"/metrics")
	if err != nil || status != fasthttp.StatusOK {
		return 0, 0, fmt.Errorf("cannot read the server's metrics: status %d: %w", status, errors.Join(err))
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch name {
		case "go_memstats_mallocs_total":
			times, err = strconv.ParseFloat(value, 64)
		case "go_memstats_alloc_bytes_total":
			bytes, err = strconv.ParseFloat(value, 64)
		}
		if err != nil {
			return 0, 0, fmt.Errorf("cannot read the server's metrics: %w", err)
		}
	}
	return times, bytes, nil
}

// peakMemory reads VmHWM of a live process. The rusage of a child is no
// substitute: it starts at the size of the parent.
func peakMemory(pid int) int64 {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(status), "\n") {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// ballastFile holds space for getting out of a full disk.
const ballastFile = "BALLAST"

// diskFigures tell what a store takes, everything included, and without what does not
// grow with it: the ballast, and the log, which reserves blocks ahead.
func diskFigures(sizes map[string]int64, count float64, each string) []figure {
	all, log, ballast := sizes[""], sizes["log"], sizes[ballastFile]
	return []figure{
		{"runs on disk", float64(sizes["runs"]) / count, each},
		{"all on disk", float64(all) / count, each},
		{"all but the ballast on disk", float64(all-ballast) / count, each},
		{"all but the ballast and the log on disk", float64(all-ballast-log) / count, each},
		{"log on disk", float64(log) / 1e6, "MB"},
		{"ballast on disk", float64(ballast) / 1e6, "MB"},
	}
}

// diskBytes sums the blocks that the files below each folder of dir take on
// disk, preallocated ones included, and those of each file in dir itself; "" is the whole.
func diskBytes(dir string) (map[string]int64, error) {
	sizes := map[string]int64{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		size := blockBytes(info)
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		name, _, _ := strings.Cut(rel, string(filepath.Separator))
		sizes[name] += size
		sizes[""] += size
		return nil
	})
	return sizes, err
}
