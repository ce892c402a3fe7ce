package index

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// sortItem is one key to sort: eight bytes of it, and its number.
type sortItem struct {
	prefix uint64
	id     uint32
}

const (
	// radixMin is the length below which comparing beats counting: eight
	// histograms cost about as much as comparing a hundred items.
	radixMin = 128
)

// keySorter sorts numbers by the bytes of their keys. Equal keys stay in the
// order they came in. Prefixes are sorted by counting; items with the same
// prefix by the eight bytes that follow, and so on.
type keySorter struct {
	key func(id uint32) []byte
	tmp []sortItem
}

// sort orders items by their keys; the prefixes need not be filled.
func (s *keySorter) sort(items []sortItem) {
	s.room(len(items))
	s.sortAt(items, 0)
}

// room gives n items for a radixSort to write to.
func (s *keySorter) room(n int) []sortItem {
	if cap(s.tmp) < n {
		s.tmp = make([]sortItem, n)
	}
	return s.tmp[:n]
}

func (s *keySorter) sortAt(items []sortItem, depth int) {
	for i := range items {
		items[i].prefix = prefixAt(s.key(items[i].id), depth)
	}
	radixSort(items, s.tmp[:len(items)])
	for start := 0; start < len(items); {
		end := start + 1
		for end < len(items) && items[end].prefix == items[start].prefix {
			end++
		}
		if end-start > 1 {
			s.sortTies(items[start:end], depth+8)
		}
		start = end
	}
}

// sortTies orders items whose keys agree before depth (as far as they go, with
// zeros behind).
func (s *keySorter) sortTies(items []sortItem, depth int) {
	if len(items) < radixMin || !s.reaches(items, depth) {
		slices.SortStableFunc(items, func(a, b sortItem) int { return bytes.Compare(s.key(a.id), s.key(b.id)) })
		return
	}
	s.sortAt(items, depth)
}

// reaches tells whether some key has bytes at depth.
func (s *keySorter) reaches(items []sortItem, depth int) bool {
	for i := range items {
		if len(s.key(items[i].id)) > depth {
			return true
		}
	}
	return false
}

// prefixAt gives eight bytes of key from depth, zeros behind its end.
func prefixAt(key []byte, depth int) uint64 {
	if depth+8 <= len(key) {
		return binary.BigEndian.Uint64(key[depth:])
	}
	if depth >= len(key) {
		return 0
	}
	var b [8]byte
	copy(b[:], key[depth:])
	return binary.BigEndian.Uint64(b[:])
}

// radixSort orders items by prefix, stably; tmp has the same length.
func radixSort(items, tmp []sortItem) {
	if len(items) < radixMin {
		slices.SortStableFunc(items, func(a, b sortItem) int {
			switch {
			case a.prefix < b.prefix:
				return -1
			case a.prefix > b.prefix:
				return 1
			}
			return 0
		})
		return
	}
	var counts [8][256]uint32
	for i := range items {
		p := items[i].prefix
		for digit := range counts {
			counts[digit][byte(p>>(8*digit))]++
		}
	}
	from, to := items, tmp
	for digit := range counts {
		if counts[digit][byte(items[0].prefix>>(8*digit))] == uint32(len(items)) {
			continue // all have the same byte here
		}
		scatter(from, to, &counts[digit], 8*digit)
		from, to = to, from
	}
	if &from[0] != &items[0] {
		copy(items, from)
	}
}

func scatter(from, to []sortItem, counts *[256]uint32, shift int) {
	at := uint32(0)
	for i, n := range counts {
		counts[i] = at
		at += n
	}
	for _, item := range from {
		c := &counts[byte(item.prefix>>shift)]
		to[*c] = item
		*c++
	}
}
