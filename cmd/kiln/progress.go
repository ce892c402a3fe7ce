package main

import (
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows how far a job is, on a terminal only: logs and scripts get
// nothing of it. The zero value shows nothing.
type progress struct {
	bar *progressbar.ProgressBar
}

// permille is the bar's resolution when only a share is known.
const permille = 1000

func newProgress(err io.Writer, what string) *progress {
	if !isTerminal(err) {
		return &progress{}
	}
	return &progress{bar: progressbar.NewOptions64(permille,
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
	if p.bar == nil || text == "" {
		return
	}
	number, rest, found := strings.Cut(text, "%")
	percent, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if !found || err != nil {
		p.bar.Describe(text)
		return
	}
	// Description first: the bar is drawn when it moves.
	if rest = strings.Trim(rest, " ,;:()"); rest != "" {
		p.bar.Describe(rest)
	}
	p.share(percent, 100)
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
