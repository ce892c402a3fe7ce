package engine

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"sync"
	"syscall"
	"time"

	"kiln/internal/vfs"
)

// Damage is a place whose bytes are not what was written, or cannot be read.
type Damage struct {
	File   string
	Offset int64
	What   string
	// By is who came upon it first, At when.
	By string
	At time.Time
}

// damagesMax bounds what is listed: with more, fsck is the better list.
const damagesMax = 100

// damages are the known ones of an open store, each once.
type damages struct {
	mu    sync.Mutex
	found []Damage // guarded by mu
	reads uint64   // guarded by mu
}

func (d *damages) list() ([]Damage, uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.found), d.reads
}

// NoteDamage takes note of an error that kept a client or a job from its data, if
// it is about damage, and tells whether it is.
func (s *Store) NoteDamage(err error) bool {
	if !s.noteDamage(err, "a read") {
		return false
	}
	s.damages.mu.Lock()
	defer s.damages.mu.Unlock()
	s.damages.reads++
	return true
}

// noteDamage tells the log of each place once.
func (s *Store) noteDamage(err error, by string) bool {
	found, ok := damageOf(err)
	if !ok {
		return false
	}
	found.By, found.At = by, s.opts.Now()
	if s.damages.add(found) {
		s.opts.Logger.Error("damage found; stop the server and run kiln fsck, then kiln repair",
			"file", found.File, "offset", found.Offset, "what", found.What, "by", by)
	}
	return true
}

// add tells whether the place was not known.
func (d *damages) add(found Damage) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	known := slices.ContainsFunc(d.found, func(x Damage) bool { return x.File == found.File && x.Offset == found.Offset })
	if known || len(d.found) >= damagesMax {
		return false
	}
	d.found = append(d.found, found)
	return true
}

// ForgetDamage drops what is known of the files in a directory, which was removed.
func (s *Store) ForgetDamage(dir string) {
	s.damages.forget(func(file string) bool { return path.Dir(file) == dir })
}

// forget drops the damages of files that are gone.
func (d *damages) forget(gone func(file string) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.found = slices.DeleteFunc(d.found, func(x Damage) bool { return gone(x.File) })
}

// damageOf reads an error as damage: bytes that have changed, or a disk that
// cannot read them. Its place is then in the words alone.
func damageOf(err error) (Damage, bool) {
	var corrupt *vfs.CorruptError
	if errors.As(err, &corrupt) {
		return Damage{File: corrupt.File, Offset: corrupt.Offset, What: corrupt.What}, true
	}
	var file *fs.PathError
	if errors.Is(err, syscall.EIO) && errors.As(err, &file) && file.Op == "read" {
		return Damage{File: file.Path, What: err.Error()}, true
	}
	return Damage{}, false
}
