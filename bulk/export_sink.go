package bulk

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sync/errgroup"

	"kiln/engine"
	"kiln/fhir"
)

// exportSink is one worker's files of a section: one open file for each type it
// has met.
type exportSink struct {
	out     exportOutput
	space   *exportSpace // of the worker
	format  exportFormat
	name    func(t fhir.TypeCode) string // of the next file of a type
	maximum exportFileMax
	open    [fhir.TypeMax + 1]*exportFile
	// stalled counts the time until the result is called; nil: nobody counts.
	stalled func(exportStall) (end func())
	// rest lets others compute while something is waited for.
	rest func(wait func() error) error
	// closing makes written files durable, several together and while others are
	// written: one after the other that would be a third of an export's time.
	closing errgroup.Group
	mu      sync.Mutex   // guards done
	done    []ExportFile // durable, all of them when close has returned
}

// exportFileMax ends a file.
type exportFileMax struct {
	lines int64
	bytes int64 // the file gets one line more than fits
}

// exportFile is a file being written.
type exportFile struct {
	writer  exportWriter
	encoder exportEncoder
	ExportFile
}

// write appends one version to its type's file.
func (s *exportSink) write(ctx context.Context, v *engine.Version) error {
	f := s.open[v.Type]
	if f != nil && (f.Count >= s.maximum.lines || f.encoder.size() >= s.maximum.bytes) {
		s.open[v.Type] = nil
		if err := s.end(ctx, f); err != nil {
			return err
		}
		f = nil
	}
	if f == nil {
		var err error
		if f, err = s.next(ctx, v.Type); err != nil {
			return err
		}
	}
	f.Count++
	if err := f.encoder.add(v); err != nil {
		return err
	}
	if s.out.full() {
		return s.rest(func() error {
			defer s.stall(stallAccount)()
			return s.out.wait(ctx)
		})
	}
	return nil
}

func (s *exportSink) stall(on exportStall) (end func()) {
	if s.stalled == nil {
		return func() {}
	}
	return s.stalled(on)
}

// next begins another file of a type.
func (s *exportSink) next(ctx context.Context, t fhir.TypeCode) (*exportFile, error) {
	f := &exportFile{ExportFile: ExportFile{Type: t.String(), Name: s.name(t)}}
	var err error
	if f.writer, err = s.out.create(ctx, f.Name); err != nil {
		return nil, err
	}
	f.encoder = s.format.begin(t, f.writer, s.space)
	s.open[t] = f
	return f, nil
}

// end writes the rest of a file and lets it become durable.
func (s *exportSink) end(ctx context.Context, f *exportFile) error {
	if err := f.encoder.end(); err != nil {
		f.writer.abort()
		return err
	}
	f.Bytes, f.Sums = f.encoder.size(), f.writer.sums()
	f.encoder = nil // its memory is free
	durable := func() error {
		if err := f.writer.close(ctx); err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.done = append(s.done, f.ExportFile)
		return nil
	}
	if s.closing.TryGo(durable) {
		return nil
	}
	return s.rest(func() error {
		defer s.stall(stallDurable)()
		s.closing.Go(durable)
		return nil
	})
}

// close ends all files and waits until they are durable. After an error those
// that are open are given up.
func (s *exportSink) close(ctx context.Context) error {
	var err error
	for t, f := range s.open {
		if f != nil && err == nil {
			s.open[t] = nil
			err = s.end(ctx, f)
		}
	}
	s.giveUp()
	defer s.stall(stallDurable)()
	return errors.Join(err, s.closing.Wait())
}

// abort gives all open files up.
func (s *exportSink) abort() {
	s.giveUp()
	_ = s.closing.Wait() // the export ends with another error
}

func (s *exportSink) giveUp() {
	for t, f := range s.open {
		if f != nil {
			f.writer.abort()
			s.open[t] = nil
		}
	}
}
