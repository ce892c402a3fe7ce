package bulk

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"kiln/engine"
)

// Resources that an import is about to publish are written by the API, and by
// another import, at that very moment. Which comes first is open; but no acknowledged write is lost, each
// loaded line is one version and each refused one is none, and versions rise
// with their dates. Every line and every write has a content of its own here.
func TestImportSimulationLosesNoRacingWrite(t *testing.T) {
	forSeeds(t, replaySeedsDefault, func(t *testing.T, seed uint64) {
		s := &racingSite{randomSite: newRandomSite(t, seed), wrote: map[string]string{}}
		for range 1 + s.rng.IntN(3) {
			s.later()
			s.write(3)
			s.raceJobs()
			s.checkAll()
		}
		s.finish()
	})
}

// racingSite keeps what was acknowledged.
type racingSite struct {
	*randomSite
	mu    sync.Mutex        // guards wrote, count and rng while imports run
	wrote map[string]string // by "Patient/a v1": how that version is described, without "*"
	lines []*modelLine
	count int // contents given out
}

func (s *racingSite) fresh() string {
	s.count++
	return fmt.Sprintf("c%d", s.count)
}

// write is some writes of the API, at most so many.
func (s *racingSite) write(times int) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for range s.rng.IntN(times + 1) {
		key := s.maker.key()
		typ, id := contractType(s.t, key)
		content, change := "", engine.Change{Type: typ, ID: id, Delete: true}
		if s.rng.IntN(4) > 0 {
			content = s.fresh()
			change = apiChange(s.t, fmt.Sprintf(`{"resourceType":%q,"id":%q,"birthDate":%q}`, typ.String(), id, content))
		}
		done, err := s.store.Commit(context.Background(), []engine.Change{change})
		if err != nil {
			s.t.Error(err)
			return
		}
		if !done[0].Unchanged {
			v := modelVersion{version: done[0].VersionID, date: done[0].LastUpdated.String(), deleted: change.Delete, content: content}
			s.wrote[fmt.Sprintf("%s v%d", key, v.version)] = v.describe(false)
		}
	}
}

// raceJobs runs one import or two at a time.
func (s *racingSite) raceJobs() {
	s.t.Helper()
	jobs := map[int64]*randomInputs{}
	for range 1 + s.rng.IntN(2) {
		s.job = s.next
		s.next++
		jobs[s.job] = s.raceJob()
	}
	s.jobs.beforePublish = func() { s.write(2) }
	for number := s.next - int64(len(jobs)); number < s.next; number++ {
		id, err := s.jobs.StartImport(context.Background(), jobs[number].request)
		if err != nil || id != number {
			s.t.Fatalf("import %d has number %d, %v", number, id, err)
		}
	}
	for number, job := range jobs {
		job.status = s.wait(number)
		s.job = number
		s.checkJob(job)
	}
	s.jobs.beforePublish = nil
}

// raceJob makes the files of an import.
func (s *racingSite) raceJob() *randomInputs {
	s.t.Helper()
	var lines []*modelLine
	for range 1 + s.rng.IntN(30) {
		l := s.maker.line(s.clock.Load(), true)
		if l.broken+l.brokenIncremental+l.brokenInitial != "" {
			continue
		}
		l.content = s.fresh()
		l.text = s.maker.text(l)
		lines = append(lines, l)
	}
	job := s.newJob(lines, false)
	if s.rng.IntN(6) == 0 {
		job.mode = InitialLoad
	}
	s.randomSite.write(job)
	s.lines = append(s.lines, lines...)
	return job
}

// checkJob takes down what became of an import's lines.
func (s *racingSite) checkJob(job *randomInputs) {
	s.t.Helper()
	if job.status.State != Completed {
		s.t.Fatalf("the import ends as %+v: %+v", job.status, job.status.Error)
	}
	s.readErrors(job)
	for i, lines := range job.inputs {
		for _, l := range lines {
			s.note(job, i, l)
		}
		if in := job.status.Inputs[i]; int(in.Loaded+in.Refused) != len(lines) || int(in.Refused) != len(job.errors[i]) {
			s.t.Errorf("input %d of %d lines: %+v, %q", i, len(lines), in, job.errors[i])
		}
	}
}

// note takes down whether a line was loaded.
func (s *racingSite) note(job *randomInputs, input int, l *modelLine) {
	l.verdict = loaded
	for _, text := range job.errors[input] {
		if strings.HasSuffix(text, fmt.Sprintf(" at line: %d with stream start offset: %d", l.number, l.offset)) {
			l.verdict = "refused"
		}
	}
	if job.mode == InitialLoad {
		l.kept, l.numbers = false, false
	}
}

// checkAll looks for every write and every line in the histories.
func (s *racingSite) checkAll() {
	s.t.Helper()
	all := s.readHistory(s.t)
	versions, byContent := 0, map[string]string{}
	for key, history := range all {
		above := int64(1 << 62)
		for _, text := range history {
			versions++
			text = strings.Replace(text, "*", "", 1)
			parts := describedDate.FindStringSubmatch(text)
			version, _ := parseVersion([]byte(parts[1]))
			if version > 0 && version >= above {
				s.t.Errorf("the versions of %s do not rise with their dates: %q", key, history)
			}
			if version > 0 {
				above = version
			}
			if want, ok := s.wrote[fmt.Sprintf("%s v%d", key, version)]; ok && want != text {
				s.t.Errorf("%s was acknowledged as %s, and is %s", key, want, text)
			}
			if _, content, ok := strings.Cut(text, " bd="); ok {
				byContent[content] = key + " " + text
			}
		}
	}
	want := len(s.wrote)
	for _, l := range s.lines {
		if l.verdict == loaded {
			want++
		}
		s.checkLine(l, byContent[l.content])
	}
	if versions != want {
		s.t.Errorf("there are %d versions of %d writes and loaded lines: %q", versions, want, all)
	}
	if s.t.Failed() {
		s.t.FailNow()
	}
}

func (s *racingSite) checkLine(l *modelLine, got string) {
	s.t.Helper()
	want := l.key + " v"
	if l.verdict != loaded {
		if got != "" {
			s.t.Errorf("a refused line became %s", got)
		}
		return
	}
	if l.numbers {
		want += fmt.Sprint(l.version)
	}
	if !strings.HasPrefix(got, want) || l.kept && !strings.Contains(got, "@"+l.date) || strings.Contains(got, " del") != l.deleted {
		s.t.Errorf("the loaded line %s became %q", l.text, got)
	}
}
