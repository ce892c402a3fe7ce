package index

// rowSums finds out whether two walks over a run met the same things of each row, in
// whatever order: what the first meets is added, what the second meets is taken away.
// What was met is a hash, so rows that differ sum up to zero by chance once in 2^64.
// Beyond rowSumsMax rows neighbours share a sum.
type rowSums struct {
	rows  uint32
	shift uint
	sums  []uint64
}

const (
	// rowSumsMax bounds the memory at 64 MiB.
	rowSumsMax = 8 << 20
	// rowSumsTold stretches are told at most: more say no more.
	rowSumsTold = 100
)

func newRowSums(rows uint32) *rowSums {
	s := &rowSums{rows: rows}
	for rows>>s.shift >= rowSumsMax {
		s.shift++
	}
	s.sums = make([]uint64, rows>>s.shift+1)
	return s
}

func (s *rowSums) add(o uint32, hash uint64)  { s.sums[o>>s.shift] += mixed(hash, o) }
func (s *rowSums) take(o uint32, hash uint64) { s.sums[o>>s.shift] -= mixed(hash, o) }

// mixed makes the same hash of two rows that share a sum two numbers (the finalizer
// of MurmurHash3).
func mixed(hash uint64, o uint32) uint64 {
	h := hash ^ (uint64(o)+1)*0x9e3779b97f4a7c15
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// each tells of stretches of rows that differ, the first ones.
func (s *rowSums) each(differ func(from, to uint32)) {
	told := 0
	for i := 0; i < len(s.sums) && told < rowSumsTold; i++ {
		if s.sums[i] == 0 {
			continue
		}
		from := i
		for i+1 < len(s.sums) && s.sums[i+1] != 0 {
			i++
		}
		differ(uint32(from)<<s.shift, min(uint32(i+1)<<s.shift, s.rows)-1)
		told++
	}
}
