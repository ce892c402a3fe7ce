package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"

	"kiln/internal/vfs"
	"kiln/wal"
)

// Of every kind of file a newer format is refused as that, and nothing is changed.
func TestANewerFormatOfAnyFileIsRefused(t *testing.T) {
	f := func(name string, change func(t *testing.T, fsys *vfs.Mem)) {
		t.Run(name, func(t *testing.T) {
			fsys := newerStore(t)
			change(t, fsys)
			fsys.SetHook(func(op vfs.Op) error {
				if op.Kind.Mutates() && op.Kind != vfs.OpMkdirAll { // of a directory that is there
					t.Errorf("%v %q", op.Kind, op.Name)
				}
				return nil
			})
			_, err := Open(context.Background(), testOptions(fsys, 2))
			if !errors.Is(err, ErrNewerFormat) || !strings.Contains(err.Error(), "written by a newer Kiln") {
				t.Errorf("Open says %v", err)
			}
			told := ""
			if err := Fsck(context.Background(), FsckOptions{FS: fsys, Dir: "/data", Report: func(p Problem) { told += p.What }}); err != nil {
				told += err.Error()
			}
			if !strings.Contains(told, "newer") {
				t.Errorf("Fsck says %q", told)
			}
		})
	}
	f("FORMAT", func(t *testing.T, fsys *vfs.Mem) { overwrite(t, fsys, "/data/FORMAT", "kiln-data 3\nwhatever\n") })
	f("segment", func(t *testing.T, fsys *vfs.Mem) {
		newerBytes(t, fsys, logDir, func(b []byte) { b[8]++ })
	})
	f("checkpoint", func(t *testing.T, fsys *vfs.Mem) {
		newerBytes(t, fsys, checkpointsDir, func(b []byte) {
			b[8] = checkpointVersion + 1
			binary.LittleEndian.PutUint64(b[len(b)-8:], xxhash.Sum64(b[:len(b)-8]))
		})
	})
	f("run's header", func(t *testing.T, fsys *vfs.Mem) {
		newerBytes(t, fsys, runsDir, func(b []byte) {
			b[8]++
			place := binary.LittleEndian.AppendUint64(b[16:24:24], 0)
			binary.LittleEndian.PutUint32(b[28:], crc32.Checksum(append(place, b[:28]...), castagnoli))
		})
	})
	f("run's footer", func(t *testing.T, fsys *vfs.Mem) {
		newerBytes(t, fsys, runsDir, func(b []byte) {
			at := len(b) - 256
			b[at+8]++
			place := binary.LittleEndian.AppendUint64(b[16:24:24], uint64(at))
			binary.LittleEndian.PutUint32(b[len(b)-4:], crc32.Checksum(append(place, b[at:len(b)-4]...), castagnoli))
		})
	})
	f("record", newerRecord(wal.TypeFields+1, []byte("x")))
	v := versionRecord{typ: patient, idBytes: 1, body: []byte("a"), flags: 1 << 7}
	f("version", newerRecord(wal.TypeCommit, v.appendTo(appendCommitHeader(nil, 1))))
	rec := ingestRecord{kind: ingestMerged + 1}
	payload, err := rec.marshal()
	if err != nil {
		t.Fatal(err)
	}
	f("INGEST", newerRecord(wal.TypeIngest, payload))
}

// newerRecord appends a record to the log.
func newerRecord(typ wal.RecordType, payload []byte) func(*testing.T, *vfs.Mem) {
	return func(t *testing.T, fsys *vfs.Mem) {
		s := mustOpen(t, testOptions(fsys, 2))
		if err := s.inSlot(context.Background(), func() error {
			_, err := s.append([]wal.Entry{{Type: typ, Payload: payload}})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		mustClose(t, s)
	}
}

// newerStore has a run, two checkpoints and a head.
func newerStore(t *testing.T) *vfs.Mem {
	t.Helper()
	fsys := vfs.NewMem(rand.Uint64())
	s := mustOpen(t, testOptions(fsys, 1))
	mustCommit(t, s, patientNamed("a", "Chalmers"))
	mustFlush(t, s)
	mustCommit(t, s, patientNamed("b", "Chalmers"))
	mustClose(t, s)
	return fsys
}

// newerBytes changes the last file of a directory.
func newerBytes(t *testing.T, fsys *vfs.Mem, dir string, change func([]byte)) {
	t.Helper()
	names, err := fsys.List("/data/" + dir)
	if err != nil || len(names) == 0 {
		t.Fatalf("no files in %s, %v", dir, err)
	}
	name := "/data/" + dir + "/" + names[len(names)-1]
	b, err := vfs.ReadFile(fsys, name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	change(b)
	overwrite(t, fsys, name, string(b))
}
