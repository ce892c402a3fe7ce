package httpapi

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// durationBounds are the upper bounds of the buckets of request durations: a
// cached read takes 20 µs, a commit a few milliseconds, readTimeout ends
// at one minute.
var durationBounds = [...]time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, time.Minute,
}

// durationHistogram counts durations in cumulative buckets named le, as
// Prometheus's quantile functions need them. The library's histograms have
// buckets that only VictoriaMetrics understands.
type durationHistogram struct {
	buckets [len(durationBounds) + 1]atomic.Uint64 // the last: above all bounds
	nanos   atomic.Int64
}

func (h *durationHistogram) observe(d time.Duration) {
	i := 0
	for i < len(durationBounds) && d > durationBounds[i] {
		i++
	}
	h.nanos.Add(int64(d))
	h.buckets[i].Add(1)
}

// write writes the series of one interaction; none before its first request.
func (h *durationHistogram) write(w io.Writer, interaction string) {
	var counts [len(h.buckets)]uint64
	total := uint64(0)
	for i := range h.buckets {
		total += h.buckets[i].Load()
		counts[i] = total
	}
	if total == 0 {
		return
	}
	const name = "kiln_http_request_duration_seconds"
	for i, bound := range durationBounds {
		fmt.Fprintf(w, "%s_bucket{interaction=%q,le=\"%g\"} %d\n", name, interaction, bound.Seconds(), counts[i])
	}
	fmt.Fprintf(w, "%s_bucket{interaction=%q,le=\"+Inf\"} %d\n", name, interaction, total)
	fmt.Fprintf(w, "%s_sum{interaction=%q} %g\n", name, interaction, time.Duration(h.nanos.Load()).Seconds())
	fmt.Fprintf(w, "%s_count{interaction=%q} %d\n", name, interaction, total)
}
