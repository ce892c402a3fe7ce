package engine

import "math"

// Which runs to merge. The cost of a merge is what it writes; its worth is how
// many runs fewer there are. The factor of a merge is the size of its result
// over that of its largest input: a byte is written once each time its run
// grows by the factor. With a fan-in of 16 a factor of 8 is asked for, so
// 1e9 versions (166 GB at 166 B each) that come in runs of 33 MB are written
// log8(10 GB / 33 MB) = 2.7 times more, and what is left is about 16 full runs
// and at most 8 of each of the 2 tiers below, for imports and for flushes.
//
// A mix of sizes may offer no such factor. So the more runs there are, the less
// is asked for; above mergeCrowdFanIns times the fan-in every merge is good, the one that costs
// least for each run less. Then two neighbours can only be left when they are too large
// together, which bounds the number of runs for any mix:
//
//	6 × fan-in + 2 × (bytes / largest run) + 2 × (rows / largest run), for imports and for flushes
const (
	mergeFanInDefault = 16
	// mergeBytesMaxDefault bounds a merged run: it can be read in minutes, and
	// a merge needs as much free space. index.MergeRowsMax bounds its rows.
	mergeBytesMaxDefault = 16 << 30
	// mergeSmallBytesMax parts small merges, which take seconds, from big
	// ones, so that neither waits for the other.
	mergeSmallBytesMax = 512 << 20

	mergeEagerFanIns = 2 // up to so many times the fan-in half of it is asked for
	mergeCrowdFanIns = 4 // then a quarter, and above this anything
)

// mergeCandidate is a run as the choice sees it, in the order of compareRuns.
type mergeCandidate struct {
	bytes int64
	rows  uint64
	// barrier: the run takes part in no merge, and none goes across it. It is
	// being merged, or cannot be read.
	barrier bool
	// terms is what made the run's terms. Runs of different rules, or with
	// different fields, are not merged: the result would have the terms of none, or
	// of the fewest, and would have to be indexed again as a whole.
	terms termsOrigin
}

// termsOrigin is the rules that made terms, and the number of added fields.
type termsOrigin struct {
	extraction uint32
	custom     int
}

// mergeLimits bound a choice. Results have over bytesMin and up to bytesMax bytes.
type mergeLimits struct {
	fanIn              int
	bytesMin, bytesMax int64
	rowsMax            uint64
	// runBytesMax is the largest run that any merge makes.
	runBytesMax int64
}

// mergeChoice is the runs [from, to) and what speaks for them.
type mergeChoice struct {
	from, to int
	bytes    int64
	largest  int64
}

func (c *mergeChoice) ok() bool { return c.to > c.from }

// chooseMerge gives the best merge of neighbours; ok is false when none is
// worth it.
func chooseMerge(runs []mergeCandidate, l mergeLimits) (best mergeChoice) {
	waiting := 0
	for _, r := range runs {
		if r.bytes <= l.runBytesMax/2 && r.rows <= l.rowsMax/2 {
			waiting++
		}
	}
	crowded := waiting > mergeCrowdFanIns*l.fanIn
	wanted := float64(l.fanIn) / 2
	if waiting > mergeEagerFanIns*l.fanIn {
		wanted = float64(l.fanIn) / 4
	}
	for from := range runs {
		c := mergeChoice{from: from, to: from}
		rows := uint64(0)
		for c.to < len(runs) && c.to-from < l.fanIn && !runs[c.to].barrier && runs[c.to].terms == runs[from].terms {
			r := runs[c.to]
			c.to, c.bytes, c.largest, rows = c.to+1, c.bytes+r.bytes, max(c.largest, r.bytes), rows+r.rows
			if c.bytes > l.bytesMax || rows > l.rowsMax {
				break
			}
			if c.to-from < 2 || c.bytes <= l.bytesMin || !crowded && c.factor() < wanted {
				continue
			}
			if !best.ok() || c.better(&best, crowded) {
				best = c
			}
		}
	}
	return best
}

func (c *mergeChoice) factor() float64 { return float64(c.bytes) / float64(max(c.largest, 1)) }

// better compares two choices: by factor, or, when runs are many, by bytes
// written for each run less.
func (c *mergeChoice) better(o *mergeChoice, crowded bool) bool {
	if crowded {
		return c.bytes/int64(c.to-c.from-1) < o.bytes/int64(o.to-o.from-1)
	}
	if a, b := c.factor(), o.factor(); math.Abs(a-b) > 1e-9 {
		return a > b
	}
	return c.bytes < o.bytes
}
