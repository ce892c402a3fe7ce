package bulk

import (
	"context"
	"os"
	"path"
	"strings"
	"testing"

	"kiln/internal/vfs"
)

// hookedFS tells of each file that is opened, before it is.
type hookedFS struct {
	vfs.FS
	opening func(name string)
}

func (f *hookedFS) Open(name string) (vfs.File, error) {
	f.opening(name)
	return f.FS.Open(name)
}

// scrub has the files of jobs read in a store that is in use.
func (s *goldenSite) scrub(opening func(name string)) (damage []string) {
	s.t.Helper()
	err := s.jobs.scrubFiles(context.Background(), &hookedFS{s.fs, opening}, func(err error) { damage = append(damage, err.Error()) })
	if err != nil {
		s.t.Fatal(err)
	}
	return damage
}

// TestScrubReadsTheFilesOfJobs: each is opened, and what was changed in it is found.
func TestScrubReadsTheFilesOfJobs(t *testing.T) {
	s, exported, refused := newFilesSite(t)
	var opened []string
	open := func(name string) { opened = append(opened, strings.TrimPrefix(name, s.data+"/")) }
	if damage := s.scrub(open); len(damage) > 0 || strings.Join(opened, " ") != exported+" "+refused {
		t.Errorf("opened %v, found %v", opened, damage)
	}
	for _, name := range []string{exported, refused} {
		text := s.get(name)
		changed := append([]byte(nil), text...)
		changed[len(changed)-1] ^= 1
		s.put(name, changed)
		if damage := s.scrub(open); len(damage) != 1 || !strings.Contains(damage[0], name) || !strings.Contains(damage[0], "not those that were written") {
			t.Errorf("%s: found %v", name, damage)
		}
		if err := os.Remove(path.Join(s.data, name)); err != nil {
			t.Fatal(err)
		}
		if damage := s.scrub(open); len(damage) != 1 || !strings.Contains(damage[0], "gone") {
			t.Errorf("%s: found %v", name, damage)
		}
		s.put(name, text)
	}
}

// TestScrubOfAnExportThatIsDeleted just before its file is opened.
func TestScrubOfAnExportThatIsDeleted(t *testing.T) {
	s, exported, _ := newFilesSite(t)
	damage := s.scrub(func(name string) {
		if strings.HasSuffix(name, exported) {
			if err := s.jobs.DeleteExport(context.Background(), 2); err != nil {
				t.Error(err)
			}
		}
	})
	if _, err := s.fs.Stat(path.Join(s.data, exported)); err == nil || len(damage) > 0 {
		t.Errorf("found %v; the file: %v", damage, err)
	}
}
