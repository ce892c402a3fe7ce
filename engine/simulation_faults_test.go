package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"kiln/internal/vfs"
)

// note tells the log, and goes into the digest of the run.
func (m *sim) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	_, _ = m.digest.WriteString(text)
	m.log("%s", text)
}

// arm installs a fault; nil: none. Every call that changes the disk goes into the
// digest.
func (m *sim) arm(fault vfs.Hook) {
	m.fs.SetHook(func(op vfs.Op) error {
		if op.Kind.Mutates() {
			_, _ = m.digest.WriteString(op.Name)
			_, _ = m.digest.Write(binary.LittleEndian.AppendUint64([]byte{byte(op.Kind)}, uint64(op.Offset)^uint64(op.Bytes)<<32))
			if op.Kind == vfs.OpRemove && strings.HasPrefix(op.Name, "/data/log/") {
				m.saw("log trimmed")
			}
		}
		if fault == nil {
			return nil
		}
		err := fault(op)
		m.sawFault(op, err)
		return err
	})
}

func (m *sim) sawFault(op vfs.Op, err error) {
	var short *vfs.ShortWrite
	switch {
	case err == nil:
	case errors.As(err, &short):
		m.saw("fault short write")
	default:
		m.saw(fmt.Sprintf("fault %v at %v", err, op.Kind))
	}
	if err != nil && !op.Kind.Mutates() && !errors.Is(err, vfs.ErrPowerCut) {
		m.unread = true
	}
}

// cutPowerIn cuts the power at one of the next calls that change the disk.
func (m *sim) cutPowerIn(calls int64) {
	at := m.fs.Ops() + 1 + m.rng.Int64N(calls)
	m.arm(func(op vfs.Op) error {
		if op.Count >= at && op.Kind.Mutates() {
			m.saw("power cut")
			return vfs.ErrPowerCut
		}
		return nil
	})
}

// fault makes the disk misbehave soon.
func (m *sim) fault() {
	switch m.rng.IntN(10) {
	case 0, 1, 2:
		m.cutPowerIn(80)
	case 3, 4:
		m.failSoon(syscall.EIO, vfs.OpSync)
	case 5:
		if m.rng.IntN(3) == 0 {
			m.failNext(1, syscall.ENOSPC, vfs.OpPreallocate)
			return
		}
		m.failSoon(pick[error](m.rng, syscall.EIO, syscall.ENOSPC, &vfs.ShortWrite{Bytes: simSectorBytes * m.rng.IntN(3), Err: syscall.ENOSPC}), vfs.OpWrite)
	case 6:
		m.failNext(1+m.rng.IntN(2), pick[error](m.rng, syscall.EIO, syscall.ENOSPC), pick(m.rng, vfs.OpCreate, vfs.OpRename, vfs.OpRemove, vfs.OpSyncDir, vfs.OpTruncate, vfs.OpPreallocate))
	case 7, 8:
		m.failSoon(syscall.EIO, vfs.OpRead, vfs.OpOpen, vfs.OpStat, vfs.OpList)
	default:
		m.fillDisk()
	}
}

// failSoon fails one call of some kinds, some calls from now.
func (m *sim) failSoon(err error, kinds ...vfs.OpKind) { m.failNext(1+m.rng.IntN(12), err, kinds...) }

// failNext fails the so-manieth call of some kinds.
func (m *sim) failNext(left int, err error, kinds ...vfs.OpKind) {
	m.arm(func(op vfs.Op) error {
		for _, kind := range kinds {
			if op.Kind == kind {
				if left--; left == 0 {
					return betweenSectors(err, op)
				}
			}
		}
		return nil
	})
}

// simSectorBytes: local file systems end a write that they cut short between two sectors.
const simSectorBytes = 512

// betweenSectors makes a short write end at the end of a sector of the file.
func betweenSectors(err error, op vfs.Op) error {
	short, ok := err.(*vfs.ShortWrite)
	if !ok {
		return err
	}
	bytes := short.Bytes - int(op.Offset%simSectorBytes)
	return &vfs.ShortWrite{Bytes: max(0, bytes), Err: short.Err}
}

// fillDisk makes everything that needs space fail for a while.
func (m *sim) fillDisk() {
	left := 1 + m.rng.IntN(20)
	m.arm(func(op vfs.Op) error {
		switch op.Kind {
		case vfs.OpCreate, vfs.OpPreallocate, vfs.OpWrite, vfs.OpMkdirAll:
			if left--; left >= 0 {
				return syscall.ENOSPC
			}
		}
		return nil
	})
}

// reading sorts an error of a read: the power may be gone, and a call may have
// failed, which says nothing about what is stored. Anything else is a finding.
func (m *sim) reading(err error) error {
	switch {
	case errors.Is(err, vfs.ErrPowerCut):
		return errRestart
	case m.unread && errors.Is(err, syscall.EIO):
		m.saw("a read failed")
		return nil
	}
	return err
}

// crash ends the process where it is. When the power did not go before, half the
// time it does now; else the next process finds what this one wrote, synced or not.
func (m *sim) crash() {
	m.arm(func(op vfs.Op) error {
		if op.Kind == vfs.OpRemove {
			return syscall.EROFS // nothing is tidied up
		}
		return nil
	})
	m.stop()
	m.arm(nil)
	if _, err := m.fs.Stat("/"); err == nil && m.rng.IntN(2) == 0 {
		m.saw("process ended, power stays on")
		return
	}
	m.fs = m.fs.CrashClone(m.rng.Uint64())
	left := m.fs.Crashed()
	for event, count := range map[string]int{
		"crash lost an entry": left.EntriesLost, "crash kept an entry": left.EntriesKept, "crash tore a page": left.PagesTorn,
		"crash lost a page": left.PagesLost, "crash kept a page": left.PagesKept, "crash cut a length": left.LengthsCut,
	} {
		if count > 0 {
			m.saw(event)
		}
	}
	m.arm(nil)
}

// restart opens the store, through further faults, and settles what is unknown:
// all of the last write is there, or nothing of it.
func (m *sim) restart() error {
	m.arm(nil)
	if err := m.fsckCrashed(); err != nil {
		return err
	}
	cuts := 0
	for try := 0; ; try++ {
		m.opts = m.options()
		m.opts.FirstSegmentBytes = pick(m.rng, int64(0), 1<<10, 4<<10)
		switch {
		case try >= 4:
		case m.rng.IntN(2) == 0:
			m.cutPowerIn(12)
		case m.rng.IntN(6) == 0:
			m.fault()
		}
		var err error
		m.s, err = Open(context.Background(), m.opts)
		m.note("open: %v", err)
		if err == nil {
			m.arm(nil)
			break
		}
		switch {
		case errors.Is(err, vfs.ErrPowerCut):
			m.saw("power cut while opening")
			if cuts++; cuts > 1 {
				m.saw("power cut while opening twice in a row")
			}
			m.crash()
		case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EIO):
			m.saw("failed while opening")
			m.arm(nil) // the disk is well again
		default:
			return fmt.Errorf("cannot open: %w", err)
		}
	}
	m.unread = false
	return m.settle()
}

// fsckCrashed checks what a crash left, before anything mends it.
func (m *sim) fsckCrashed() (err error) {
	_, gone := m.fs.Stat("/") // the power may have gone while the store was closed
	if m.rng.IntN(6) != 0 || m.rotten || gone != nil {
		return nil
	}
	if _, err := m.fs.Stat("/data/" + checkpointsDir + "/" + checkpointFileName(0)); errors.Is(err, fs.ErrNotExist) {
		names, _ := m.fs.List("/data/" + checkpointsDir)
		if len(names) == 0 {
			return nil // its making was interrupted
		}
	}
	m.saw("fsck of what a crash left")
	var found error
	err = Fsck(context.Background(), FsckOptions{FS: onDisk(m.fs, m.encrypted), Dir: "/data", Report: func(p Problem) { found = fmt.Errorf("fsck of what a crash left: %+v", p) }})
	return errors.Join(err, found)
}
