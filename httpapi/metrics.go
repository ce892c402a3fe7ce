package httpapi

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/valyala/fasthttp"

	"kiln/bulk"
	"kiln/engine"
)

const (
	statusMin   = 100
	statusCount = 500
)

// serverMetrics counts requests by interaction and status. Series are made
// when they are first needed; after that counting takes no lock.
type serverMetrics struct {
	set   *metrics.Set
	names []string // of rows, and at the end of rowNone
	rows  []rowMetrics
}

type rowMetrics struct {
	byStatus [statusCount]atomic.Pointer[metrics.Counter]
	took     *durationHistogram // rows of one name share theirs
}

func newServerMetrics(t *table) *serverMetrics {
	m := &serverMetrics{set: metrics.NewSet(), rows: make([]rowMetrics, len(t.rows)+1)}
	for i := range m.rows {
		row := i
		if i == len(t.rows) {
			row = rowNone
		}
		name := t.name(row)
		m.rows[i].took = new(durationHistogram)
		if same := slices.Index(m.names, name); same >= 0 {
			m.rows[i].took = m.rows[same].took
		}
		m.names = append(m.names, name)
	}
	return m
}

// observe counts one answered request.
func (m *serverMetrics) observe(row, status int, took time.Duration) {
	if row == rowNone {
		row = len(m.rows) - 1
	}
	m.rows[row].took.observe(took)
	if status < statusMin || status >= statusMin+statusCount {
		return
	}
	slot := &m.rows[row].byStatus[status-statusMin]
	counter := slot.Load()
	if counter == nil {
		counter = m.set.GetOrCreateCounter(fmt.Sprintf(`kiln_http_requests_total{interaction=%q,status="%d"}`, m.names[row], status))
		slot.Store(counter)
	}
	counter.Inc()
}

// writeDurations writes each name once: a series that comes twice makes
// Prometheus drop the whole answer.
func (m *serverMetrics) writeDurations(w io.Writer) {
	for i, name := range m.names {
		if slices.Index(m.names, name) == i {
			m.rows[i].took.write(w, name)
		}
	}
}

// metrics answers GET /metrics in the Prometheus text format.
func (x *exchange) metrics() error {
	out := bytes.NewBuffer(x.buffer())
	s := x.server
	metrics.WriteGaugeUint64(out, `kiln_info{version=`+strconv.Quote(s.opts.Version)+`}`, 1)
	writeStoreMetrics(out, s.opts.Store.Stats())
	writeHealthMetrics(out, s.opts.Store.Health())
	writeJobMetrics(out, s.opts.Jobs.Metrics())
	writeBackupMetrics(out, s.opts.Backups)
	s.metrics.writeDurations(out)
	s.metrics.set.WritePrometheus(out)
	metrics.WriteGaugeUint64(out, "kiln_http_open_connections", uint64(s.http.GetOpenConnectionsCount()))
	s.writeTLSMetrics(out)
	s.clients.writeMetrics(out)
	s.writeTokenMetrics(out)
	s.overdue.writeMetrics(out)
	s.writeAuditMetrics(out)
	writeQuotaMetrics(out, s.opts.Jobs.QuotaRefusals())
	metrics.WriteProcessMetrics(out)
	metrics.WriteFDMetrics(out)
	x.body(fasthttp.StatusOK, contentTypeText, out.Bytes())
	return nil
}

func (s *Server) writeTLSMetrics(w io.Writer) {
	if s.opts.Certificates == nil {
		return
	}
	s.opts.Certificates.writeMetrics(w)
	metrics.WriteCounterUint64(w, "kiln_tls_handshake_failures_total", s.shakes.failures.Load())
}

func writeQuotaMetrics(w io.Writer, refused bulk.QuotaRefusals) {
	metrics.WriteCounterUint64(w, `kiln_quota_refusals_total{quota="jobs"}`, refused.Jobs)
	metrics.WriteCounterUint64(w, `kiln_quota_refusals_total{quota="export-bytes"}`, refused.ExportBytes)
	metrics.WriteCounterUint64(w, `kiln_quota_refusals_total{quota="client-export-bytes"}`, refused.ClientExportBytes)
}

func writeStoreMetrics(w io.Writer, st engine.Stats) {
	gauge, counter := metrics.WriteGaugeUint64, metrics.WriteCounterUint64
	gauge(w, "kiln_store_versions", st.Versions)
	gauge(w, "kiln_store_runs", st.Runs)
	gauge(w, "kiln_store_head_versions", st.HeadVersions)
	gauge(w, "kiln_store_log_bytes", uint64(st.LogBytes))
	gauge(w, "kiln_store_run_bytes", uint64(st.RunBytes))
	gauge(w, "kiln_store_head_bytes", uint64(st.HeadBytes))
	gauge(w, "kiln_store_head_terms_bytes", uint64(st.HeadTermsBytes))
	gauge(w, "kiln_store_visible_lsn", st.VisibleLSN)
	gauge(w, "kiln_store_block_cache_bytes", uint64(st.BlockCache.Bytes))
	gauge(w, "kiln_store_block_cache_max_bytes", uint64(st.BlockCache.BytesMax))
	counter(w, "kiln_store_block_cache_hits_total", st.BlockCache.Hits)
	counter(w, "kiln_store_block_cache_misses_total", st.BlockCache.Misses)
	counter(w, "kiln_store_commits_total", st.Commits)
	counter(w, "kiln_store_commit_groups_total", st.CommitGroups)
	metrics.WriteCounterFloat64(w, "kiln_store_fsync_seconds_total", float64(st.FsyncNanosTotal)/1e9)
	counter(w, "kiln_store_stalls_total", st.Stalls)
	counter(w, "kiln_store_merges_total", st.Merges)
	counter(w, "kiln_store_purges_total", st.Purges)
	counter(w, "kiln_store_purged_versions_total", st.PurgedVersions)
	counter(w, "kiln_store_merge_read_bytes_total", st.MergeReadBytes)
	counter(w, "kiln_store_merge_written_bytes_total", st.MergeWrittenBytes)
	counter(w, "kiln_store_merge_failures_total", st.MergeFailures)
	counter(w, "kiln_store_merge_stalls_total", st.MergeStalls)
	counter(w, "kiln_store_import_stalls_total", st.ImportStalls)
	gauge(w, "kiln_store_reindex_runs", st.Reindexing.Runs)
	gauge(w, "kiln_store_reindex_versions", st.Reindexing.Versions)
	gauge(w, "kiln_store_reindex_failures_in_a_row", uint64(st.Reindexing.Failures))
	counter(w, "kiln_store_reindexed_runs_total", st.Reindexes)
	counter(w, "kiln_store_reindexed_versions_total", st.ReindexedVersions)
	counter(w, "kiln_store_reindex_failures_total", st.ReindexFailures)
}

func writeJobMetrics(w io.Writer, jobs bulk.Metrics) {
	gauge, counter := metrics.WriteGaugeUint64, metrics.WriteCounterUint64
	gauge(w, `kiln_jobs{kind="import",state="running"}`, uint64(jobs.ImportsRunning))
	gauge(w, `kiln_jobs{kind="import",state="waiting"}`, uint64(jobs.ImportsWaiting))
	gauge(w, `kiln_jobs{kind="export",state="running"}`, uint64(jobs.ExportsRunning))
	gauge(w, `kiln_jobs{kind="export",state="waiting"}`, uint64(jobs.ExportsWaiting))
	counter(w, "kiln_import_stored_bytes_total", jobs.StoredBytes)
	counter(w, "kiln_import_scanned_bytes_total", jobs.ScannedBytes)
	counter(w, "kiln_import_scanned_lines_total", jobs.Lines)
	counter(w, "kiln_import_loaded_lines_total", jobs.Loaded)
	for _, refused := range jobs.Refused {
		counter(w, fmt.Sprintf("kiln_import_refused_lines_total{reason=%q}", refused.Reason), refused.Lines)
	}
	counter(w, "kiln_import_rounds_total", jobs.Rounds)
	counter(w, "kiln_import_runs_total", jobs.Runs)
	counter(w, "kiln_import_error_files_stored_total", jobs.ErrorFilesStored)
	counter(w, "kiln_import_error_files_kept_total", jobs.ErrorFilesKept)
	counter(w, "kiln_export_lines_total", jobs.ExportedLines)
	counter(w, "kiln_export_bytes_total", jobs.ExportedBytes)
	counter(w, `kiln_exports_total{end="completed"}`, jobs.ExportsCompleted)
	counter(w, `kiln_exports_total{end="failed"}`, jobs.ExportsFailed)
	counter(w, "kiln_exports_expired_total", jobs.ExportsExpired)
	counter(w, `kiln_export_blocks_total{state="staged"}`, jobs.BlocksStaged)
	counter(w, `kiln_export_blocks_total{state="committed"}`, jobs.BlocksCommitted)
	gauge(w, "kiln_export_blocks_waiting", jobs.BlocksWaiting)
	counter(w, "kiln_export_block_bytes_total", jobs.BlockBytesStaged)
	gauge(w, "kiln_export_block_bytes_waiting", jobs.BlockBytesWaiting)
	counter(w, "kiln_export_account_stalls_total", jobs.ExportAccountStalls)
	stage := func(name string, took time.Duration) {
		metrics.WriteCounterFloat64(w, fmt.Sprintf("kiln_import_stage_seconds_total{stage=%q}", name), took.Seconds())
	}
	stage("scan", jobs.Scan)
	stage("resolve", jobs.Resolve)
	stage("seal", jobs.Seal)
	stage("publish", jobs.Publish)
	stall := func(reason string, took time.Duration) {
		metrics.WriteCounterFloat64(w, fmt.Sprintf("kiln_import_stall_seconds_total{reason=%q}", reason), took.Seconds())
	}
	stall("source", jobs.WaitSource)
	stall("turn", jobs.WaitTurn)
	stall("store", jobs.WaitStore)
	stall = func(reason string, took time.Duration) {
		metrics.WriteCounterFloat64(w, fmt.Sprintf("kiln_export_stall_seconds_total{reason=%q}", reason), took.Seconds())
	}
	stall("turn", jobs.ExportWaitTurn)
	stall("account", jobs.ExportWaitAccount)
	stall("durable", jobs.ExportWaitDurable)
}
