package bulk

import (
	"context"
	"errors"
	"io"
	"path"
	"sync/atomic"
)

// The ways in which an import is disturbed.
type disturbance uint8

const (
	calm     disturbance = iota
	cutPower             // at some call of the file system
	stopped              // the server stops in an orderly way
	cancelled
	disturbances
)

// disturbedTimesMax disturbances befall one job; then it is left alone.
const disturbedTimesMax = 4

// run takes a job through its disturbances to its end.
func (s *randomSite) run(job *randomInputs) {
	s.t.Helper()
	s.job = s.next
	s.write(job)
	for times := 0; ; times++ {
		what := calm
		if job.disturbed && times < disturbedTimesMax {
			what = disturbance(s.rng.IntN(int(disturbances)))
		}
		job.status = s.attempt(job.request, what)
		completed := job.status != nil && job.status.State == Completed
		if completed {
			s.next++
		}
		switch what {
		case cutPower:
			s.crash()
		case stopped:
			s.reopen()
		}
		if completed {
			s.readErrors(job)
			return
		}
		if what == calm {
			s.t.Fatalf("job %d ends as %+v: %+v", s.job, job.status, job.status.Error)
		}
	}
}

// attempt starts the job, for the first time or anew, and waits; nil: it could
// not be started, because the power was gone.
func (s *randomSite) attempt(request *ImportRequest, what disturbance) *ImportStatus {
	s.t.Helper()
	var rounds atomic.Int64
	last := int64(1 + s.rng.IntN(4))
	s.jobs.beforePublish = func() {
		switch {
		case rounds.Add(1) != last:
		case what == stopped:
			s.jobs.stop() // as Close does, which waits for this very round
		case what == cancelled:
			if err := s.jobs.CancelImport(s.job); err != nil {
				s.t.Error(err)
			}
		}
	}
	if what == cutPower {
		s.disk.CutPowerAt(s.disk.Ops() + 1 + s.rng.Int64N(80))
	}
	id, err := s.jobs.StartImport(context.Background(), request)
	if err != nil {
		if what != cutPower {
			s.t.Fatal(err)
		}
		return nil
	}
	if id != s.job {
		s.t.Fatalf("the import has number %d, not %d", id, s.job)
	}
	return s.wait(id)
}

// readErrors reads the error files whole: after a crash the catalog that knows
// their lengths is gone, and they must be durable and no longer than that.
func (s *randomSite) readErrors(job *randomInputs) {
	s.t.Helper()
	job.errors = make([][]string, len(job.status.Inputs))
	for i, in := range job.status.Inputs {
		if in.ErrorFile == "" {
			continue
		}
		file, err := s.fs.Open(path.Join(newErrorFiles(s.fs, "data", s.job).dir, in.ErrorFile))
		if err != nil {
			s.t.Fatal(err)
		}
		size, err := file.Bytes()
		if err != nil {
			s.t.Fatal(err)
		}
		raw := make([]byte, size)
		if _, err := file.ReadAt(raw, 0); err != nil && !errors.Is(err, io.EOF) {
			s.t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			s.t.Fatal(err)
		}
		job.errors[i] = parseErrorTexts(s.t, raw)
	}
}
