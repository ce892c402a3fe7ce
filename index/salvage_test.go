package index

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/internal/vfs"
)

// salvageCheck salvages a damaged run of a model and holds the result against it:
// every version is as it was, or was told to be lost or doubtful.
type salvageCheck struct {
	t            *testing.T
	m            *model
	meta         *RunMeta
	memory       int64
	lost, doubts map[string]bool
	unknown      int
	runs         []SalvagedRun
}

func rowName(key []byte, version int64) string { return fmt.Sprintf("%x/%d", key, version) }

func (c *salvageCheck) salvage(fs vfs.FS, what string) {
	c.t.Helper()
	c.lost, c.doubts, c.unknown = map[string]bool{}, map[string]bool{}, 0
	next := RunID(100)
	superseded := roaring.BitmapOf(0, 7, 12)
	var err error
	c.runs, err = Salvage(context.Background(), SalvageOptions{
		FS: fs, Dir: testDir, ID: 5, Meta: c.meta, Out: testDir, MemoryBytes: c.memory, Superseded: superseded,
		NewID: func() RunID { next++; return next },
		Lost: func(v LostVersion) {
			if !v.Known {
				c.unknown++
				return
			}
			c.lost[rowName(AppendKey(nil, v.Type, v.ID), v.VersionID)] = true
		},
		Doubt: func(d Doubtful) { c.doubts[rowName(AppendKey(nil, d.Type, d.ID), d.VersionID)] = true },
	})
	if err != nil {
		c.t.Fatalf("%s: %v", what, err)
	}
	c.check(fs, what, superseded)
}

func (c *salvageCheck) check(fs vfs.FS, what string, superseded *roaring.Bitmap) {
	c.t.Helper()
	want := map[string]int{}
	for i, r := range c.m.rows {
		if !r.dropped {
			want[rowName([]byte(c.m.key(i)), r.row.VersionID)] = i
		}
	}
	seen := 0
	for _, run := range c.runs {
		r, err := OpenRun(fs, testDir, run.Meta, 0, nil)
		if err != nil {
			c.t.Fatalf("%s: %v", what, err)
		}
		err = r.Scan(context.Background(), r.Live(), func(o Ordinal, row Row, s Stored) error {
			name := rowName(AppendKey(nil, row.Type, s.ID), row.VersionID)
			i, ok := want[name]
			if !ok {
				c.t.Fatalf("%s: %s was never there, or comes twice", what, name)
			}
			delete(want, name)
			seen++
			if run.Superseded.Contains(uint32(o)) != superseded.Contains(uint32(i)) {
				c.t.Fatalf("%s: row %d is superseded, or not any more", what, i)
			}
			if row.Flags&FlagLost != 0 != c.lost[name] {
				c.t.Fatalf("%s: row %d of %s: lost %t", what, i, name, c.lost[name])
			}
			m := c.m.rows[i]
			if !c.lost[name] && string(s.Body) != m.body || !c.lost[name] && !c.doubts[name] && row != m.row {
				c.t.Fatalf("%s: row %d is %+v %q, want %+v %q", what, i, row, s.Body, m.row, m.body)
			}
			return nil
		})
		if err != nil || r.Close() != nil || problems(c.t, fs, run.Meta.ID) != 0 {
			c.t.Fatalf("%s: the new run is not sound: %v", what, err)
		}
	}
	if len(want) > c.unknown {
		c.t.Fatalf("%s: %d versions are gone, %d were told of", what, len(want), c.unknown)
	}
}

// Whatever byte of a run changes: only bodies are lost that lie in a damaged block.
func TestSalvageOfEveryFlippedByte(t *testing.T) {
	fs := newTestFS(t)
	m := smallModel()
	meta := m.build(t, fs, 5)
	name := runPath(testDir, 5)
	whole := readAll(t, fs, name)
	r, err := OpenRun(fs, testDir, meta, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	bodies := r.bodies.offsets[0] + int64(r.bodies.lengths[0])
	for at := 0; at < len(whole); at += 5 {
		damaged := bytes.Clone(whole)
		damaged[at] ^= byte(1 << (at * 3 % 8))
		overwrite(t, fs, name, damaged)
		c := &salvageCheck{t: t, m: m, meta: &meta}
		if at%2 == 0 {
			c.meta = nil
		}
		what := fmt.Sprintf("byte %d of %d", at, len(whole))
		c.salvage(fs, what)
		if inBodies := int64(at) >= headerBytes && int64(at) < bodies; inBodies != (len(c.lost) == 23) || !inBodies && len(c.lost) > 0 || c.unknown > 0 {
			t.Fatalf("%s: %d versions are lost, %d unknown ones; of bodies: %t", what, len(c.lost), c.unknown, inBodies)
		}
		removeSalvaged(t, fs, c.runs)
	}
}

func removeSalvaged(t *testing.T, fs vfs.FS, runs []SalvagedRun) {
	t.Helper()
	for _, run := range runs {
		if err := fs.Remove(runPath(testDir, run.Meta.ID)); err != nil {
			t.Fatal(err)
		}
	}
}

// However short the file is: all that is not there was told of.
func TestSalvageOfACutFile(t *testing.T) {
	fs := newTestFS(t)
	m := smallModel()
	meta := m.build(t, fs, 5)
	whole := readAll(t, fs, runPath(testDir, 5))
	for n := 0; n < len(whole); n += 23 {
		overwrite(t, fs, runPath(testDir, 5), whole[:n])
		c := &salvageCheck{t: t, m: m, meta: &meta}
		c.salvage(fs, fmt.Sprintf("cut to %d", n))
		removeSalvaged(t, fs, c.runs)
	}
}

// Some sectors are zeros, or the file is cut short: what comes out is right, and
// what does not was told of. Little memory makes several runs.
func TestSalvageOfLostSectors(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for try := range 10 {
		fs := newTestFS(t)
		m := randomModel(rng, 1+rng.IntN(3000))
		for i := range m.rows {
			m.rows[i].row.Flags &= FlagDeleted
		}
		meta := m.build(t, fs, 5)
		damaged := readAll(t, fs, runPath(testDir, 5))
		for range 1 + rng.IntN(4) {
			from := rng.IntN(len(damaged)) / 512 * 512
			clear(damaged[from:min(len(damaged), from+512*(1+rng.IntN(8)))])
		}
		if try%7 == 0 {
			damaged = damaged[:rng.IntN(len(damaged))]
		}
		overwrite(t, fs, runPath(testDir, 5), damaged)
		c := &salvageCheck{t: t, m: m, meta: &meta}
		if try%7 != 0 && try%3 == 0 { // of a file without an end nobody knows how long it was
			c.meta = nil
		}
		if try%5 == 0 {
			c.memory = 5 << 20
		}
		c.salvage(fs, fmt.Sprintf("try %d", try))
	}
}

// A run of several pieces keeps the order of its rows.
func TestSalvageInPieces(t *testing.T) {
	fs := newTestFS(t)
	m := randomModel(rand.New(rand.NewPCG(7, 7)), 5000)
	meta := m.build(t, fs, 5)
	c := &salvageCheck{t: t, m: m, meta: &meta, memory: 5 << 20}
	c.salvage(fs, "a whole run")
	if len(c.runs) < 2 || len(c.lost)+c.unknown+len(c.doubts) > 0 ||
		!slices.IsSortedFunc(c.runs, func(a, b SalvagedRun) int { return int(a.Meta.ID) - int(b.Meta.ID) }) {
		t.Errorf("%d runs, %d lost", len(c.runs), len(c.lost))
	}
}
