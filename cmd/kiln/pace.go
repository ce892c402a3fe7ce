package main

import (
	"fmt"
	"time"
)

// pace turns what was read so far into a rate and the time that is left. A job
// that goes on where another process stopped begins in the middle: only what was
// read since the first look counts.
type pace struct {
	began time.Time
	first float64
}

// paceTimeMin: a rate of less time than that is noise.
const paceTimeMin = time.Second

// text is such as "120.5 of 522.1 MB, 87.2 MB/s, 5 s left".
func (p *pace) text(done, total float64, now time.Time) string {
	if p.began.IsZero() {
		p.began, p.first = now, done
	}
	text := fmt.Sprintf("%.1f of %.1f MB", done/1e6, total/1e6)
	took, read := now.Sub(p.began), done-p.first
	if took < paceTimeMin || read <= 0 {
		return text
	}
	perSecond := read / took.Seconds()
	text += fmt.Sprintf(", %.1f MB/s", perSecond/1e6)
	if done < total {
		// Rounded up: "0 s left" would not be true.
		left := time.Duration((total-done)/perSecond*float64(time.Second)) + time.Second
		text += ", " + spoken(left) + " left"
	}
	return text
}

// spoken is a duration as people say it: two units at most.
func spoken(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
}
