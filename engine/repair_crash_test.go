package engine

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"kiln/internal/vfs"
)

// A repair that loses power anywhere is begun again, or gone on with, and gives what
// one without a crash gives; until then no store opens that is half repaired.
func TestRepairThroughPowerCuts(t *testing.T) {
	d := newDamageStore(t, damageSeed)
	lsns := d.lsns(t)
	stride := int64(61)
	if everyFlip() {
		stride = 1
	}
	for i, damage := range d.someDamages(t) {
		for cut := 1 + int64(i)*7; ; cut += stride {
			fsys := d.fs.CrashClone(uint64(i))
			damage(fsys)
			done, r, err := d.repairThroughCut(fsys, cut)
			if err == nil {
				err = d.checkRepaired(r.fs, &r.repaired, lsns)
			}
			if err != nil {
				t.Fatalf("damage %d, power cut at operation %d: %v\n%s", i, cut, err, findingsText(r.findings))
			}
			if done {
				break
			}
		}
	}
}

type cutRepair struct {
	repaired
	fs *vfs.Mem
}

// repairThroughCut repairs, loses power at an operation, and repairs again; done says
// that the repair ended before.
func (d *damageStore) repairThroughCut(fsys *vfs.Mem, cut int64) (done bool, r cutRepair, err error) {
	fsys.CutPowerAt(fsys.Ops() + cut)
	r.fs = fsys
	r.repaired, err = d.repair(fsys)
	fsys.SetHook(nil)
	if err == nil {
		r.fs = fsys.CrashClone(uint64(cut)) // and what it said is durable
		return true, r, nil
	}
	if !errors.Is(err, vfs.ErrPowerCut) {
		return false, r, fmt.Errorf("the repair: %w", err)
	}
	r.fs = fsys.CrashClone(uint64(cut))
	again, err := d.repair(r.fs)
	r.findings = append(r.findings, again.findings...)
	if err != nil {
		return false, r, fmt.Errorf("the second repair: %w", err)
	}
	return false, r, nil
}

// someDamages damage a store in one way each.
func (d *damageStore) someDamages(t *testing.T) []func(fsys *vfs.Mem) {
	files := slices.Sorted(maps.Keys(tree(t, d.fs, "/data")))
	first := func(dir string) string {
		return files[slices.IndexFunc(files, func(name string) bool { return path.Base(path.Dir(name)) == dir })]
	}
	return []func(fsys *vfs.Mem){
		func(fsys *vfs.Mem) { flip(t, fsys, first(runsDir), 70) },
		func(fsys *vfs.Mem) { flip(t, fsys, "/data/FORMAT", 3); flip(t, fsys, first(checkpointsDir), 30) },
		func(fsys *vfs.Mem) { flip(t, fsys, first(logDir), 400) },
	}
}

// What is worse than a flipped bit: files that are gone, sectors of zeros, files cut
// short, in any mixture. What comes out is sound, and all that is not there was told of.
func TestRepairOfHeavyDamage(t *testing.T) {
	// Stores and damages that failed once: runs that a crash had left of imports and merges
	// before were taken for what a merge had made of the run that is gone; of two versions
	// with one number the one that had been purged was kept.
	wrecks := [][2]uint64{{1, 1000}, {1, 1002}, {7, 1003}, {54, 1000}, {58, 1002}, {122, 1000}, {40, 3001}}
	for try := range envNumber("KILN_WRECKS", 5) {
		wrecks = append(wrecks, [2]uint64{damageSeed + try/5, try%5 + envNumber("SEED", 1)*1000})
	}
	for _, wreck := range wrecks {
		d := newDamageStore(t, wreck[0])
		fsys := d.fs.CrashClone(wreck[1])
		done := d.wreck(t, fsys, wreck[1])
		r, err := d.repair(fsys)
		if err == nil {
			err = d.checkRepaired(fsys, &r, d.lsns(t))
		}
		if err != nil {
			t.Errorf("store %d, damage %d: %v\nafter: %s\n%s", wreck[0], wreck[1], err, strings.Join(done, "; "), findingsText(r.findings))
		}
	}
}

// wreck damages one to three places.
func (d *damageStore) wreck(t *testing.T, fsys *vfs.Mem, seed uint64) (done []string) {
	t.Helper()
	rng := newRand(seed)
	for range 1 + rng.IntN(3) {
		files := tree(t, fsys, "/data")
		names := slices.DeleteFunc(slices.Sorted(maps.Keys(files)), func(name string) bool { return path.Base(name) == lockName || len(files[name]) == 0 })
		name := names[rng.IntN(len(names))]
		content := []byte(files[name])
		at := rng.IntN(len(content))
		// That the newest segment is gone, or ends early, or has sectors of zeros in what
		// came last, is what a crash leaves.
		newest := name == names[lastIn(names, logDir)]
		what := rng.IntN(5)
		if newest && what > 0 {
			what = 4
		}
		switch what {
		case 0:
			if newest {
				continue
			}
			remove(t, fsys, name)
			done = append(done, "without "+name)
			continue
		case 1, 2:
			clear(content[at/512*512 : min(len(content), at/512*512+512*(1+rng.IntN(3)))])
			done = append(done, fmt.Sprintf("%s with zeros at %d", name, at/512*512))
		case 3:
			content = content[:at]
			done = append(done, fmt.Sprintf("%s cut to %d", name, at))
		default:
			content[at] ^= 1 << rng.IntN(8)
			done = append(done, fmt.Sprintf("%s with a flip at %d", name, at))
		}
		overwrite(t, fsys, name, string(content))
	}
	return done
}

// lastIn is the last of the names that lies in a directory of that name, or 0.
func lastIn(names []string, dir string) (last int) {
	for i, name := range names {
		if path.Base(path.Dir(name)) == dir {
			last = i
		}
	}
	return last
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 13)) }
