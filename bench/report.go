package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// report is what a benchmark prints and writes.
type report struct {
	Benchmark string    `json:"benchmark"`
	Command   string    `json:"command"` // without the places of files
	Time      time.Time `json:"time"`
	Commit    string    `json:"commit"`
	Machine   machine   `json:"machine"`
	// LoadBefore is how many processes ran or wanted to, in the minute before.
	LoadBefore float64    `json:"loadBefore"`
	Data       dataReport `json:"data"`
	Runs       []run      `json:"runs"`
}

type dataReport struct {
	Source    string `json:"source"`
	Files     int    `json:"files"`
	Resources int64  `json:"resources"`
	Bytes     int64  `json:"bytes"` // uncompressed
}

// run is one measurement with its figures.
type run struct {
	Name    string   `json:"name"`
	Figures []figure `json:"figures"`
}

type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

func newReport(benchmark, dir string) *report {
	return &report{Benchmark: benchmark, Command: commandLine(os.Args[1:]), Time: time.Now().UTC(), LoadBefore: loadAverage(), Commit: commit(), Machine: thisMachine(dir)}
}

// placeFlags take the name of a file or a folder, which is this machine's own affair.
var placeFlags = []string{"--data", "--json", "--work", "--kiln", "--store", "--against", "--azure"}

// commandLine is how to run a bench again.
func commandLine(arguments []string) string {
	words := []string{"go", "run", "./bench"}
	for i := 0; i < len(arguments); i++ {
		flag, _, joined := strings.Cut(arguments[i], "=")
		if !slices.Contains(placeFlags, flag) {
			words = append(words, arguments[i])
			continue
		}
		if !joined {
			i++
		}
		if flag == "--data" {
			words = append(words, "--data DIR")
		}
	}
	return strings.Join(words, " ")
}

// add prints and keeps a run.
func (r *report) add(name string, figures ...figure) {
	if len(r.Runs) == 0 {
		r.printHead()
	}
	r.Runs = append(r.Runs, run{name, figures})
	fmt.Printf("\n%s\n", name)
	for _, f := range figures {
		fmt.Printf("  %-42s %14s %s\n", f.Name, shown(f.Value, f.Unit), f.Unit)
	}
}

func (r *report) printHead() {
	fmt.Printf("bench %s of commit %s\n%s\n%s\n", r.Benchmark, r.Commit, r.Machine.text(), r.data())
}

// digits shows a value with three significant digits, and all of those before the point.
func digits(v float64) string {
	decimals := 0
	for size := math.Abs(v); size > 0 && size < 99.95 && decimals < 5; size *= 10 {
		decimals++
	}
	return grouped(strconv.FormatFloat(v, 'f', decimals, 64))
}

// grouped sets thousands apart in the digits of a number of five digits and more.
func grouped(number string) string {
	whole, rest, _ := strings.Cut(number, ".")
	if len(whole) < len("10000") {
		return number
	}
	for at := len(whole) - 3; at > 0; at -= 3 {
		whole = whole[:at] + "," + whole[at:]
	}
	if rest != "" {
		whole += "." + rest
	}
	return whole
}

// things are units of what is counted: their numbers are whole.
var things = []string{"answers", "bytes", "clients", "files", "lines", "pages", "resources", "rounds", "runs"}

// shown is a value as readers of its unit expect it.
func shown(v float64, unit string) string {
	if slices.Contains(things, unit) {
		return grouped(strconv.FormatFloat(v, 'f', 0, 64))
	}
	return digits(v)
}

// figure finds a figure of the runs of one name, one value for each run.
func (r *report) figure(runName, name string) (values []float64) {
	for _, run := range r.Runs {
		if run.Name != runName {
			continue
		}
		for _, f := range run.Figures {
			if f.Name == name {
				values = append(values, f.Value)
			}
		}
	}
	return values
}

// last is the value of the latest run of the name.
func (r *report) last(runName, name string) float64 {
	values := r.figure(runName, name)
	return values[len(values)-1]
}

// compared is something that a run of kiln's is compared with.
type compared struct {
	name string // in the comparison
	run  string
	what string // the figure: a time
}

// compareRound adds how many times as long as the last run of the name ours the last
// runs of others took, as far as there were any. A ratio of one round tells more than
// one of medians, since the machine was the same for both.
func (r *report) compareRound(name, ours string, others []compared) {
	var figures []figure
	for _, other := range others {
		what := other.what
		if what != processorTime {
			what = "time"
		}
		mine, theirs := r.figure(ours, what), r.figure(other.run, other.what)
		if len(mine) > 0 && len(theirs) > 0 {
			figures = append(figures, figure{other.name, theirs[len(theirs)-1] / mine[len(mine)-1], "times"})
		}
	}
	if len(figures) > 0 {
		r.add(name, figures...)
	}
}

// median of at least one value.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// save writes the report as JSON; path "" is none.
func (r *report) save(path string) error {
	if path == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("cannot write the report: %w", err)
	}
	return nil
}

// perSecond is the unit of a rate of things.
func perSecond(things string) string { return things + "/s" }

// counted names so many things.
func counted(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// throughput is how fast so much went through.
func throughput(resources, bytes int64, took time.Duration) []figure {
	seconds := took.Seconds()
	return []figure{
		{"time", seconds, "s"},
		{"resources per second", float64(resources) / seconds, perSecond("resources")},
		{"NDJSON per second", float64(bytes) / 1e6 / seconds, "MB/s"},
	}
}

const processorTime = "processor time of the server"

func (u usage) figures() []figure {
	return []figure{
		{"peak memory of the server", float64(u.peakBytes) / (1 << 20), "MiB"},
		{processorTime, u.cpuSeconds, "s"},
	}
}

// spread is the least and the greatest of at least one value.
func spread(values []float64) (low, high float64) { return slices.Min(values), slices.Max(values) }
