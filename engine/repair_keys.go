package engine

import (
	"bytes"
	"fmt"
	"math"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/index"
)

// keySource gives one run's versions in key order.
type keySource struct {
	x    *repairedRun
	keys *index.RunKeyCursor
}

// next moves to the following row that is not void.
func (s *keySource) next() (bool, error) {
	for s.keys.Next() {
		if s.x.void == nil || !s.x.void.Contains(uint32(s.keys.Found().Ordinal)) {
			return true, nil
		}
	}
	return false, s.keys.Err()
}

// keyVersion is one version of the key at hand.
type keyVersion struct {
	x *repairedRun
	index.Found
}

// settleKeys walks all keys: each version stands once, of each key the one with the
// highest positive number is current, and none is where that one is lost. That a
// version is the highest left, and was superseded, shows that a newer one is lost.
func (p *repair) settleKeys() error {
	sources, err := p.openRuns()
	if err != nil {
		return err
	}
	gaps := map[string][]gapVersion{}
	for _, g := range p.gaps {
		gaps[g.key] = append(gaps[g.key], g)
	}
	p.gaps = nil
	var versions []keyVersion
	for len(sources) > 0 {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		low := sources[0].keys.Key()
		for _, s := range sources[1:] {
			if bytes.Compare(s.keys.Key(), low) < 0 {
				low = s.keys.Key()
			}
		}
		key := string(low)
		if sources, versions, err = p.takeKey(sources, versions[:0], key); err != nil {
			return err
		}
		if err := p.settleKey(key, versions, gaps[key]); err != nil {
			return err
		}
		delete(gaps, key)
	}
	for key, left := range gaps {
		if err := p.settleKey(key, nil, left); err != nil {
			return err
		}
	}
	return nil
}

// openRuns opens the runs and begins to walk their keys.
func (p *repair) openRuns() ([]*keySource, error) {
	var sources []*keySource
	for _, x := range p.runs {
		var err error
		if x.run, err = index.OpenRun(p.opts.FS, x.dir, x.meta, x.publishLSN, p.r.cache); err != nil {
			return nil, err
		}
		if x.lost, err = lostRows(x.run); err != nil {
			return nil, err
		}
		x.superseded = roaring.New()
		if x.void != nil {
			x.void = roaring.And(x.void, x.run.Live())
		}
		s := &keySource{x: x, keys: x.run.KeyCursor()}
		more, err := s.next()
		if err != nil {
			return nil, err
		}
		if more {
			sources = append(sources, s)
		}
	}
	return sources, nil
}

func (p *repair) closeRuns() {
	for _, x := range p.runs {
		if x.run != nil {
			_ = x.run.Close() // only read from
		}
	}
}

// lostRows are the rows of a run that are gaps.
func lostRows(run *index.Run) (*roaring.Bitmap, error) {
	deleted, err := run.Postings(index.ParamDeleted, nil)
	if err != nil {
		return nil, err
	}
	lost := roaring.New()
	for it := deleted.Iterator(); it.HasNext(); {
		o := it.Next()
		row, err := run.Row(index.Ordinal(o))
		if err != nil {
			return nil, err
		}
		if row.Flags&index.FlagLost != 0 {
			lost.Add(o)
		}
	}
	return lost, nil
}

// takeKey takes a key's versions off the sources, and leaves those that have more.
func (p *repair) takeKey(sources []*keySource, versions []keyVersion, key string) ([]*keySource, []keyVersion, error) {
	rest := sources[:0]
	for _, s := range sources {
		more := true
		for more && string(s.keys.Key()) == key {
			v := keyVersion{x: s.x, Found: s.keys.Found()}
			twice, err := p.isTwice(versions, v)
			if err != nil {
				return nil, nil, err
			}
			if !twice {
				versions = append(versions, v)
			}
			if more, err = s.next(); err != nil {
				return nil, nil, err
			}
		}
		if more {
			rest = append(rest, s)
		}
	}
	return rest, versions, nil
}

// isTwice tells whether a version is there already, and takes this one out: where a
// lost record had replaced a run, or flushed the head, both have it.
func (p *repair) isTwice(versions []keyVersion, v keyVersion) (bool, error) {
	for i, other := range versions {
		if other.VersionID != v.VersionID {
			continue
		}
		later, err := p.isLater(v, other)
		if err != nil {
			return false, err
		}
		if later || other.x.lost.Contains(uint32(other.Ordinal)) { // this one counts, or still has it
			other, v, versions[i] = v, other, v
		}
		if v.x.void == nil {
			v.x.void = roaring.New()
		} else {
			v.x.void = v.x.void.Clone()
		}
		v.x.void.Add(uint32(v.Ordinal))
		return true, p.compareTwice(other, v)
	}
	return false, nil
}

// isLater tells whether a version was committed after another one with its number: then a
// purge that is lost took the other out, and both are whole.
func (p *repair) isLater(v, other keyVersion) (bool, error) {
	if v.x.lost.Contains(uint32(v.Ordinal)) {
		return false, nil
	}
	row, err := v.x.run.Row(v.Ordinal)
	if err != nil {
		return false, err
	}
	before, err := other.x.run.Row(other.Ordinal)
	return row.LSN > before.LSN, err
}

func (p *repair) compareTwice(kept, left keyVersion) error {
	if left.x.lost.Contains(uint32(left.Ordinal)) {
		return nil
	}
	a, err := kept.x.run.Body(kept.Ordinal)
	if err != nil {
		return err
	}
	b, err := left.x.run.Body(left.Ordinal)
	if err != nil || bytes.Equal(a.Body, b.Body) {
		return err
	}
	row, err := kept.x.run.Row(kept.Ordinal)
	if err != nil {
		return err
	}
	return p.report(Finding{Kind: FoundDoubt, Type: row.Type.String(), ID: string(a.ID), Version: kept.VersionID,
		What: fmt.Sprintf("it stands twice with different content; that of run %016x is left out", uint64(left.x.meta.ID))})
}

// settleKey decides which version of a key is current.
func (p *repair) settleKey(key string, versions []keyVersion, gaps []gapVersion) error {
	var best *keyVersion
	for i := range versions {
		if v := &versions[i]; v.VersionID > 0 && (best == nil || v.VersionID > best.VersionID) {
			best = v
		}
	}
	highest := int64(0)
	if best != nil {
		highest = best.VersionID
	}
	newest, err := p.settleGaps(key, versions, gaps, best)
	if err != nil {
		return err
	}
	if best == nil && newest <= 0 && len(versions) > 0 {
		if newest, err = p.settleOlder(key, versions); err != nil {
			return err
		}
	}
	lost := best != nil && best.x.lost.Contains(uint32(best.Ordinal))
	if best != nil && newest <= highest && !lost && best.x.known.Contains(uint32(best.Ordinal)) && highest < math.MaxInt64 {
		row, err := best.x.run.Row(best.Ordinal)
		if err != nil {
			return err
		}
		newest = highest + 1
		p.gaps = append(p.gaps, gapVersion{key: key, version: newest, milli: row.LastUpdated.Milli + 1,
			why: "a newer version had taken the place of the newest that is left; its number is this, or a higher one"})
	}
	for i := range versions {
		v := &versions[i]
		if v != best || lost || newest > highest {
			v.x.superseded.Add(uint32(v.Ordinal))
		}
		if !v.x.lost.Contains(uint32(v.Ordinal)) {
			p.versions++
		}
	}
	return nil
}

// settleOlder adds the newest version of a key of which only those are left that came
// after a newer one: their numbers are negative, and there was a positive one.
func (p *repair) settleOlder(key string, versions []keyVersion) (newest int64, err error) {
	g := gapVersion{key: key, version: 1, why: "only versions that were older when they came are left; the number of the newest is this, or a higher one"}
	for i := range versions {
		row, err := versions[i].x.run.Row(versions[i].Ordinal)
		if err != nil {
			return 0, err
		}
		g.milli = max(g.milli, row.LastUpdated.Milli+1)
	}
	p.gaps = append(p.gaps, g)
	return g.version, nil
}

// settleGaps keeps the gaps of a key that no run has, and tells the highest.
func (p *repair) settleGaps(key string, versions []keyVersion, gaps []gapVersion, best *keyVersion) (newest int64, err error) {
	have := map[int64]bool{}
	for _, v := range versions {
		have[v.VersionID] = true
	}
	for _, g := range gaps {
		if g.version == 0 {
			if best != nil {
				row, err := best.x.run.Row(best.Ordinal)
				if err != nil {
					return 0, err
				}
				if row.LSN > g.place.lsn { // what came after it is there
					if err := p.report(lostOf(key, "a version of it is lost that was not the newest; its number is not known. "+g.why)); err != nil {
						return 0, err
					}
					continue
				}
				g.version, g.milli = best.VersionID+1, max(g.milli, row.LastUpdated.Milli+1)
			} else {
				g.version = 1
			}
		}
		if have[g.version] {
			continue
		}
		have[g.version] = true
		newest = max(newest, g.version)
		p.gaps = append(p.gaps, g)
	}
	return newest, nil
}

// lostOf is a finding about a key.
func lostOf(key, what string) Finding {
	typ, id, _, _ := index.ParseKey(nil, []byte(key))
	return Finding{Kind: FoundLost, Type: fhir.TypeCode(typ).String(), ID: string(id), What: what}
}
