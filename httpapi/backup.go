package httpapi

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/VictoriaMetrics/metrics"
	"github.com/valyala/fasthttp"

	"kiln/bulk/backup"
)

// An operator's endpoints: POST $backup has the server copy its store to a target
// that it was started for, and the status address follows. Nothing of the store
// leaves over HTTP.

// errNoBackups is the answer of a server that was made without them.
var errNoBackups = &problem{fasthttp.StatusForbidden, codeForbidden, "This server writes no backups."}

// backupStart answers POST $backup.
func (x *exchange) backupStart() error {
	jobs := x.server.opts.Backups
	if jobs == nil {
		return errNoBackups
	}
	header := &x.ctx.Request.Header
	if !x.prefer.respondAsync {
		return badRequest("Missing required header value; header=Prefer,value=respond-async.")
	}
	// Pages of other sites cannot send this without asking first.
	if given := header.ContentType(); !parseMediaType(given).isJSON() {
		return badHeader("Content-Type", given)
	}
	id, err := jobs.Start(x.ctx.PostBody())
	if err != nil {
		return err
	}
	x.accepted(x.jobURL("backup", id))
	return nil
}

// backupStatus answers GET _operations/backup/{id}.
func (x *exchange) backupStatus() error {
	jobs := x.server.opts.Backups
	if jobs == nil {
		return errNoBackups
	}
	status, err := jobs.Status(x.jobID())
	if err != nil {
		return err
	}
	switch {
	case status.Running:
		x.running(backupProgress(status))
	case status.Err != nil:
		return status.Err
	default:
		text, err := json.Marshal(status.Result)
		if err != nil {
			return fmt.Errorf("cannot write the result of a backup: %w", err)
		}
		x.body(fasthttp.StatusOK, contentTypeJSON, append(x.buffer(), text...))
	}
	return nil
}

func backupProgress(status *backup.Status) string {
	if status.Expect == 0 {
		return "starting"
	}
	percent := float64(status.BytesDone) / float64(status.Expect) * 100
	return fmt.Sprintf("%.1f%% (%d of %d bytes)", percent, status.BytesDone, status.Expect)
}

// backupCancel answers DELETE _operations/backup/{id}.
func (x *exchange) backupCancel() error {
	jobs := x.server.opts.Backups
	if jobs == nil {
		return errNoBackups
	}
	if err := jobs.Cancel(x.jobID()); err != nil {
		return err
	}
	x.empty(fasthttp.StatusAccepted)
	return nil
}

func writeBackupMetrics(w io.Writer, jobs *backup.Jobs) {
	if jobs == nil {
		return
	}
	m := jobs.Metrics()
	running := uint64(0)
	if m.Running {
		running = 1
	}
	metrics.WriteGaugeUint64(w, `kiln_jobs{kind="backup",state="running"}`, running)
	metrics.WriteGaugeUint64(w, "kiln_backup_read_bytes", uint64(m.BytesDone))
	metrics.WriteGaugeUint64(w, "kiln_backup_last_success_timestamp_seconds", uint64(m.LastSuccess))
	metrics.WriteGaugeUint64(w, "kiln_backup_last_copied_bytes", uint64(m.LastBytes))
	metrics.WriteCounterUint64(w, "kiln_backup_failures_total", uint64(m.Failures))
}
