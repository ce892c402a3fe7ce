package main

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"kiln/bulk/backup"
)

const (
	backupKillsDefault  = 2       // rounds of `make test`; each kills five processes
	backupKillFiles     = 4       // that become a run each
	backupKillPatients  = 3000    // of each
	backupKillRate      = "100KB" // so that kills find a target that has some of them
	backupKillRateBytes = 100000  // the same
)

// backupKills is a store with writers at work, its backups, and who is killed.
type backupKills struct {
	*killLoop
	target string
	made   map[string]bool // ids of backups that somebody was told of
	job    string          // path of a backup's status
	told   *answer         // how it ended, if that was told
}

// TestKillLoopOfBackups kills servers that are backed up, the backup command and the
// restore command at random moments. Older backups stay whole, the next backup and
// the next restore end well, and what is restored is the store at that instant.
func TestKillLoopOfBackups(t *testing.T) {
	t.Parallel()
	rounds := envInt(t, "KILN_KILLS", backupKillsDefault)
	seed := uint64(envInt(t, "KILN_SEED", int(time.Now().UnixNano()&0x7fffffff)))
	t.Logf("KILN_SEED=%d KILN_KILLS=%d", seed, rounds)
	b := &backupKills{killLoop: newKillLoop(t, seed), target: filepath.Join(t.TempDir(), "backups"), made: map[string]bool{}}
	b.keepAll = true
	for n := range backupKillFiles {
		mustKiln(t, 0, "load", "--data-dir", b.dataDir, write(t, b.input, fmt.Sprintf("p%d.ndjson", n), strings.ReplaceAll(patients(backupKillPatients, "x"), `"p`, fmt.Sprintf(`"p%d-`, n))))
	}
	for range rounds {
		b.killServer()
		b.killClient()
		b.killOffline()
		b.checkTarget()
		b.compare(b.killRestore(b.offline()))
	}
	t.Logf("%d backups, %d acknowledged writes", len(b.made), b.acknowledged())
}

// start begins a life of the server, of which everything acknowledged is checked.
func (b *backupKills) start() *server {
	b.t.Helper()
	b.killing.Store(false)
	s := serve(b.t, b.dataDir, "--backup-root", filepath.Dir(b.target))
	found := s.history("/Basic")
	for _, w := range b.writers {
		w.check(found)
	}
	for id := range found {
		b.t.Errorf("Basic/%s: %v was never written", id, tail(found[id]))
	}
	if b.t.Failed() {
		b.t.Fatalf("wrong after a restart; the server's log:\n%s", s.log)
	}
	return s
}

// work writes to the server while fn runs, and kills it then.
func (b *backupKills) work(s *server, fn func()) {
	b.t.Helper()
	var working sync.WaitGroup
	for _, w := range b.writers {
		working.Go(func() { w.run(s) })
	}
	fn()
	b.killing.Store(true)
	s.kill()
	working.Wait()
	if b.t.Failed() {
		b.t.Fatalf("the server's log:\n%s", s.log)
	}
}

func (b *backupKills) pause() {
	time.Sleep(time.Duration(b.random.IntN(700)) * time.Millisecond)
}

// killServer kills a server in a backup. The status address tells afterwards what
// became of it.
func (b *backupKills) killServer() {
	b.t.Helper()
	s := b.start()
	b.work(s, func() {
		got := s.must(http.StatusAccepted, http.MethodPost, "/$backup", fmt.Sprintf(`{"resourceType":"Parameters","parameter":[`+
			`{"name":"target","valueString":%q},{"name":"rate","valueInteger":%d}]}`, b.target, backupKillRateBytes), "Prefer", "respond-async")
		location := got.header.Get("Content-Location")
		b.job, b.told = location[strings.Index(location, "/_operations/"):], nil
		b.pause()
		if got, err := ask(http.MethodGet, s.base+b.job, ""); err == nil && got.status != http.StatusAccepted {
			b.told = got
		}
	})
	b.checkTarget()
	s = b.start()
	got, err := ask(http.MethodGet, s.base+b.job, "")
	switch {
	case err != nil:
		b.t.Fatalf("no status after a restart: %v", err)
	case got.status == http.StatusOK:
		b.made[decode[backup.Result](b.t, got.body).ID] = true
	case got.status != http.StatusInternalServerError || !strings.Contains(string(got.body), "start it again") || b.told != nil:
		b.t.Errorf("after a restart the backup is %d %s", got.status, got.body)
	}
	if b.told != nil && string(b.told.body) != string(got.body) {
		b.t.Errorf("the backup was told as %s, and after a restart as %s", b.told.body, got.body)
	}
	s.must(http.StatusConflict, http.MethodDelete, b.job, "")
	s.kill()
}

// killClient kills the command that a server's backup was asked for with; the server
// goes on with it, and makes another one after it, while clients write.
func (b *backupKills) killClient() {
	b.t.Helper()
	s := b.start()
	b.work(s, func() {
		b.cutOff("backup", "--server", s.base, "--rate", backupKillRate, b.target)
		for {
			got := kiln(b.t, "backup", "--server", s.base, "--json", b.target)
			if got.code == 0 {
				b.made[decode[backup.Result](b.t, []byte(got.out)).ID] = true
				return
			}
			if !strings.Contains(got.err, "there is one at a time") {
				b.t.Errorf("the next backup: exit %d, %s", got.code, got.err)
				return
			}
		}
	})
}

// killOffline kills the command that backs up a directory by itself.
func (b *backupKills) killOffline() {
	b.t.Helper()
	b.cutOff("backup", "--data-dir", b.dataDir, "--rate", backupKillRate, b.target)
	b.checkTarget()
}

func (b *backupKills) offline() string {
	b.t.Helper()
	result := decode[backup.Result](b.t, []byte(mustKiln(b.t, 0, "backup", "--data-dir", b.dataDir, "--json", b.target).out))
	b.made[result.ID] = true
	return result.ID
}

// cutOff starts a command and kills it.
func (b *backupKills) cutOff(args ...string) {
	b.t.Helper()
	cmd := exec.Command(binary, args...)
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.pause()
	_ = cmd.Process.Kill() // it may have ended
	_ = cmd.Wait()
}

// checkTarget reads all backups; those that somebody was told of are there.
func (b *backupKills) checkTarget() {
	b.t.Helper()
	if _, err := os.Stat(b.target); err != nil && len(b.made) == 0 {
		return
	}
	mustKiln(b.t, 0, "backup", "--verify", b.target)
	missing := maps.Clone(b.made)
	for _, line := range b.list() {
		delete(missing, line.ID)
	}
	if len(missing) > 0 {
		b.t.Fatalf("backups are gone: %v", missing)
	}
}

func (b *backupKills) list() []backupLine {
	b.t.Helper()
	return decode[[]backupLine](b.t, []byte(mustKiln(b.t, 0, "backup", "--list", "--json", b.target).out))
}

// killRestore kills the restore of a backup, and of some other one, and restores
// them again: directories by the ids of backups.
func (b *backupKills) killRestore(newest string) map[string]string {
	b.t.Helper()
	lines, dirs := b.list(), map[string]string{}
	for _, id := range []string{newest, lines[b.random.IntN(len(lines))].ID} {
		dir := filepath.Join(b.t.TempDir(), "restored")
		args := []string{"restore", b.target, "--data-dir", dir, "--backup", id}
		b.cutOff(append(args, "--rate", backupKillRate)...)
		if _, err := os.Stat(filepath.Join(dir, "FORMAT")); err != nil {
			if got := kiln(b.t, "fsck", "--data-dir", dir); got.code == 0 {
				b.t.Errorf("half a restore passes as a store: %s", got.out)
			}
			if _, err := os.Stat(filepath.Join(dir, "RESTORING")); err == nil {
				if got := kiln(b.t, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0"); got.code != exitFailed || !strings.Contains(got.err, "restore") {
					b.t.Errorf("half a restore is served: exit %d, %s", got.code, got.err)
				}
			}
			mustKiln(b.t, 0, args...)
		}
		mustKiln(b.t, 0, "fsck", "--data-dir", dir)
		dirs[id] = dir
	}
	return dirs
}

// compare holds restored stores against what the store has up to their instants.
func (b *backupKills) compare(dirs map[string]string) {
	b.t.Helper()
	s := b.start()
	all := s.timedHistory()
	s.stop()
	for _, line := range b.list() {
		dir := dirs[line.ID]
		if dir == "" {
			continue
		}
		want := maps.Clone(all)
		maps.DeleteFunc(want, func(_ string, v timed) bool { return v.at.After(line.Instant) })
		r := serve(b.t, dir)
		if got := r.timedHistory(); !reflect.DeepEqual(got, want) {
			b.t.Errorf("backup %s has %d versions of Basic, the store had %d then", line.ID, len(got), len(want))
		}
		if n := r.historyTotal("/Patient"); n != backupKillFiles*backupKillPatients {
			b.t.Errorf("backup %s has %d patients, want %d", line.ID, n, backupKillFiles*backupKillPatients)
		}
		r.stop()
		if err := os.RemoveAll(dir); err != nil {
			b.t.Error(err)
		}
	}
}

// timed is a version with its instant.
type timed struct {
	at   time.Time
	text string // "": a deletion
}

// timedHistory reads all versions of Basic, by id and version.
func (s *server) timedHistory() map[string]timed {
	s.t.Helper()
	found := map[string]timed{}
	for next := "/Basic/_history?_count=1000"; next != ""; {
		page := decode[struct {
			Link  []struct{ Relation, URL string }
			Entry []struct {
				Resource rawText
				Request  struct{ URL string }
				Response struct {
					ETag         string
					LastModified time.Time
				}
			}
		}](s.t, s.must(http.StatusOK, http.MethodGet, next, "").body)
		for _, e := range page.Entry {
			found[e.Request.URL+" "+e.Response.ETag+" "+e.Response.LastModified.String()] = timed{at: e.Response.LastModified, text: string(e.Resource)}
		}
		next = ""
		for _, link := range page.Link {
			if link.Relation == "next" {
				next = link.URL[strings.Index(link.URL, "/fhir/")+len("/fhir"):]
			}
		}
	}
	return found
}
