package httpapi

import (
	"encoding/json"
	"io"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/valyala/fasthttp"

	"kiln/engine"
)

// healthReport is the body of /healthz: what an operator should look at.
type healthReport struct {
	// Status is "ok", or "degraded" when one of the parts says why.
	Status string `json:"status"`
	// Writes is "on", or why none are taken: "disk full", "read-only" (asked for),
	// "failed" (a write to the log failed).
	Writes string      `json:"writes"`
	Log    logReport   `json:"log"`
	Disk   diskReport  `json:"disk"`
	Scrub  scrubReport `json:"scrub"`
	// Damages are places that are damaged on disk, the first hundred.
	Damages []damageReport `json:"damages"`
}

// diskReport is how full the data disk is: "ok", "low" (imports and merges wait) or
// "full" (writes are refused).
type diskReport struct {
	Level   string `json:"level"`
	Free    int64  `json:"freeBytes"`
	Ballast int64  `json:"ballastBytes"`
}

// scrubReport is how far the check of everything on disk is.
type scrubReport struct {
	Running bool       `json:"running"`
	Passes  uint64     `json:"passes"` // since the start
	LastEnd *time.Time `json:"lastEnd"`
}

type damageReport struct {
	File   string    `json:"file"`
	Offset int64     `json:"offset"`
	What   string    `json:"what"`
	By     string    `json:"foundBy"`
	At     time.Time `json:"found"`
}

type logReport struct {
	// Waiting is how long the write under way has been at it, in seconds; Stalled
	// that this is too long.
	Waiting float64 `json:"waitingSeconds"`
	Stalled bool    `json:"stalled"`
	Failure string  `json:"failure,omitempty"`
	// Checkpoint is why no checkpoint is written: the log grows, and is refused at last.
	Checkpoint string `json:"checkpointFailure,omitempty"`
}

func (x *exchange) report() healthReport {
	h := x.server.opts.Store.Health()
	r := healthReport{Status: "ok", Writes: "on", Log: logReport{Waiting: h.LogWait.Seconds(), Stalled: h.Stalled()}}
	r.Disk = diskReport{h.Space.Level.String(), h.Space.FreeBytes, h.Space.BallastBytes}
	switch {
	case h.OpenedReadOnly:
		r.Writes = "read-only"
	case h.Space.Level == engine.SpaceFull:
		r.Writes = "disk full"
	}
	if h.Failed != nil {
		r.Writes, r.Log.Failure = "failed", h.Failed.Error()
	}
	if h.Checkpoint != nil {
		r.Log.Checkpoint = h.Checkpoint.Error()
	}
	r.Scrub = scrubReport{Running: h.Scrub.Running, Passes: h.Scrub.Passes}
	if end := h.Scrub.LastEnd.UTC(); !h.Scrub.LastEnd.IsZero() {
		r.Scrub.LastEnd = &end
	}
	r.Damages = []damageReport{}
	for _, d := range h.Damages {
		r.Damages = append(r.Damages, damageReport{d.File, d.Offset, d.What, d.By, d.At.UTC()})
	}
	if r.Log.Stalled || h.Failed != nil || h.Checkpoint != nil || len(r.Damages) > 0 || h.Space.Level != engine.SpaceOK {
		r.Status = "degraded"
	}
	return r
}

// health answers GET /healthz: the process is alive, and how the store is.
func (x *exchange) health() error {
	text, err := json.Marshal(x.report())
	if err != nil {
		panic("BUG: " + err.Error())
	}
	x.body(fasthttp.StatusOK, contentTypeJSON, append(append(x.buffer(), text...), '\n'))
	return nil
}

// ready answers GET /readyz: FHIR requests are answered here. A store that takes no
// writes still answers reads, and /healthz tells; but one whose disk hangs would
// only keep clients waiting, and one whose log failed is about to end.
func (x *exchange) ready() error {
	status, text := fasthttp.StatusOK, "ok"
	h := x.server.opts.Store.Health()
	switch {
	case x.server.stopping.Load():
		status, text = fasthttp.StatusServiceUnavailable, "stopping"
	case h.Failed != nil:
		status, text = fasthttp.StatusServiceUnavailable, "a write to the log failed: "+h.Failed.Error()
	case x.server.opts.Audit != nil && x.server.opts.Audit.Stats().Failing != nil:
		status, text = fasthttp.StatusServiceUnavailable, "accesses cannot be recorded"
	case h.LogWait >= x.server.opts.Timeouts.Stall:
		status, text = fasthttp.StatusServiceUnavailable, "the data disk stalls: a write to the log has been waiting for "+h.LogWait.Round(time.Millisecond).String()
	}
	x.body(status, contentTypeText, append(append(x.buffer(), text...), '\n'))
	return nil
}

func writeHealthMetrics(w io.Writer, h engine.Health) {
	metrics.WriteGaugeUint64(w, "kiln_store_read_only", oneIf(h.OpenedReadOnly || h.Failed != nil))
	metrics.WriteGaugeUint64(w, "kiln_checkpoint_failing", oneIf(h.Checkpoint != nil))
	metrics.WriteGaugeFloat64(w, "kiln_log_sync_stalled_seconds", stalledSeconds(h))
	metrics.WriteCounterUint64(w, "kiln_log_stalls_total", h.Stalls)
	metrics.WriteGaugeUint64(w, "kiln_disk_level", uint64(h.Space.Level))
	metrics.WriteGaugeUint64(w, "kiln_disk_free_bytes", uint64(h.Space.FreeBytes))
	metrics.WriteGaugeUint64(w, "kiln_disk_ballast_bytes", uint64(h.Space.BallastBytes))
	metrics.WriteCounterUint64(w, "kiln_scrub_read_bytes_total", h.Scrub.Bytes)
	metrics.WriteCounterUint64(w, "kiln_scrub_passes_total", h.Scrub.Passes)
	lastEnd := 0.0
	if !h.Scrub.LastEnd.IsZero() {
		lastEnd = float64(h.Scrub.LastEnd.UnixMilli()) / 1000
	}
	metrics.WriteGaugeFloat64(w, "kiln_scrub_last_pass_end_seconds", lastEnd)
	metrics.WriteGaugeUint64(w, "kiln_damages", uint64(len(h.Damages)))
	metrics.WriteCounterUint64(w, "kiln_damaged_reads_total", h.DamagedReads)
}

// stalledSeconds leaves out syncs that take as long as syncs do.
func stalledSeconds(h engine.Health) float64 {
	if !h.Stalled() {
		return 0
	}
	return h.LogWait.Seconds()
}

func oneIf(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}
