package index

import (
	"bytes"
	"slices"
)

// joinedMin is how many walks of a kind are worth joining.
const joinedMin = 8

// JoinWalks gives fewer walks that find the same: long lists of values become
// walks that seek from one value to the next that some row has, so that they cost
// no more than the field has terms. walks is not modified.
func JoinWalks(walks []Walk) []Walk {
	if len(walks) < joinedMin {
		return walks
	}
	type kind struct {
		param  Param
		family byte // of any system
		exact  bool
	}
	lists := map[kind][][]byte{}
	var order []kind // as they come first
	add := func(k kind, value []byte) {
		if lists[k] == nil {
			order = append(order, k)
		}
		lists[k] = append(lists[k], value)
	}
	var joined []Walk
	for _, w := range walks {
		switch {
		case w.Exact:
			add(kind{param: w.Param, exact: true}, w.From)
		case w.rest != nil:
			add(kind{param: w.Param, family: w.From[0]}, w.rest)
		default:
			joined = append(joined, w)
		}
	}
	for _, k := range order {
		values := lists[k]
		slices.SortFunc(values, bytes.Compare)
		values = slices.CompactFunc(values, bytes.Equal)
		switch {
		case k.exact && len(values) >= joinedMin:
			joined = append(joined, AnyOfWalk(k.param, values))
		case k.exact:
			for _, value := range values {
				joined = append(joined, ExactWalk(k.param, value))
			}
		default:
			joined = append(joined, anySystemsWalk(k.param, k.family, values))
		}
	}
	return joined
}
