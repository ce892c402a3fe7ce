package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows how far a job is: a bar on a terminal, and elsewhere a line now
// and then, so that the log of a long job shows life and that of a short one
// nothing. The zero value shows nothing.
type progress struct {
	bar   *progressbar.ProgressBar
	lines io.Writer // without a terminal
	what  string
	pace  pace
	told  time.Time // of the last line
}

// lineInterval is between two lines where there is no terminal.
const lineInterval = 15 * time.Second

// permille is the bar's resolution when only a share is known.
const permille = 1000

func newProgress(err io.Writer, what string) *progress {
	if !isTerminal(err) {
		return &progress{lines: err, what: what, told: time.Now()}
	}
	return &progress{what: what, bar: progressbar.NewOptions64(permille,
		progressbar.OptionSetWriter(err),
		progressbar.OptionSetDescription(what),
		progressbar.OptionSetWidth(30),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionSetElapsedTime(true),
		progressbar.OptionClearOnFinish(),
	)}
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// tell takes an X-Progress text; one that starts with a percentage moves the bar.
func (p *progress) tell(text string) {
	if done, total, ok := readBytes(text); ok {
		p.bytes(done, total)
		return
	}
	if p.bar == nil || text == "" {
		p.line(text)
		return
	}
	number, rest, found := strings.Cut(text, "%")
	percent, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if !found || err != nil {
		p.bar.Describe(p.what + ": " + text)
		return
	}
	// Description first: the bar is drawn when it moves.
	if rest = strings.Trim(rest, " ,;:()"); rest != "" {
		p.bar.Describe(p.what + ": " + rest)
	}
	p.share(percent, 100)
}

// readBytes reads an X-Progress text such as "43.1% (220 of 512 bytes)".
func readBytes(text string) (done, total float64, ok bool) {
	var percent float64
	var unit string
	n, err := fmt.Sscanf(text, "%f%% (%f of %f %s", &percent, &done, &total, &unit)
	if err != nil || n != 4 || unit != "bytes)" {
		return 0, 0, false
	}
	return done, total, true
}

// bytes tells how much of a job's input is read; an unknown total shows nothing.
func (p *progress) bytes(done, total float64) {
	if total <= 0 {
		return
	}
	text := p.pace.text(done, total, time.Now())
	if p.bar == nil {
		p.line(text)
		return
	}
	p.bar.Describe(p.what + ": " + text)
	p.share(done, total)
}

// line prints a line where there is no terminal, if the last one is old enough.
func (p *progress) line(text string) {
	if now := time.Now(); p.lines != nil && text != "" && now.Sub(p.told) >= lineInterval {
		p.told = now
		// What cannot be shown is no reason to stop the work.
		_, _ = fmt.Fprintf(p.lines, "%s: %s\n", p.what, text)
	}
}

// share moves the bar to done of total; an unknown total leaves it.
func (p *progress) share(done, total float64) {
	if p.bar != nil && total > 0 {
		// What the bar cannot show is no reason to stop the work.
		_ = p.bar.Set(int(permille * min(done/total, 1)))
	}
}

// done removes the bar.
func (p *progress) done() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}
