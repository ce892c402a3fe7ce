package engine

import (
	"time"

	"kiln/fhir"
)

// clock gives the dates of versions. It belongs to the slot.
type clock struct {
	// next is the earliest date that may be given; it never goes back.
	next int64
	// dated is the latest date that was given. It can be after next: a
	// version must be later than its predecessor, which an import may have
	// dated seconds ahead, and that must not push everything else ahead.
	dated int64
}

// now is the date for the versions of one record.
func (c *clock) now(t time.Time) int64 {
	c.next = max(c.next, t.UnixMilli())
	return c.next
}

// date is now, or later when the resource's current version is dated as late.
func (c *clock) date(now int64, found bool, current fhir.Instant) fhir.Instant {
	if found && current.Milli >= now {
		now = current.Milli + 1
	}
	c.dated = max(c.dated, now)
	return fhir.Instant{Milli: now, OffsetMinutes: fhir.OffsetZ}
}

// cut returns an instant that no given date exceeds and that all further dates exceed.
func (c *clock) cut(t time.Time) fhir.Instant {
	at := max(c.now(t), c.dated)
	c.next = at + 1
	return fhir.Instant{Milli: at, OffsetMinutes: fhir.OffsetZ}
}

// mark is the clock as records and checkpoints keep it.
func (c *clock) mark() int64 { return max(c.next, c.dated) }

// restore takes up a recorded mark or date.
func (c *clock) restore(milli int64) {
	c.next = max(c.next, milli)
}

// restoreDated takes up the latest date inside a record.
func (c *clock) restoreDated(milli int64) { c.dated = max(c.dated, milli) }
