package terminology

import (
	"slices"
	"strings"
)

// set is the codes of a value set: of its expansion when that is whole, else of
// its definition.
func (x *Expander) set(v *valueSet) (*Set, error) {
	if set := x.sets[v.id]; set != nil {
		return set, nil
	}
	switch {
	case v.broken != "":
		return nil, notSupported("The stored ValueSet/%s cannot be used: '%s' is not built as R4 says, or may change the meaning of the rest.", v.id, v.broken)
	case slices.Contains(x.open, v.id):
		return nil, notSupported("The stored ValueSet/%s is made of itself, by the ValueSets that it includes. Store one of them with its expansion.", v.id)
	case len(x.open) >= importsMax:
		return nil, tooLarge("The ValueSets of this search include each other more than %d deep. Store one of them with its expansion.", importsMax)
	}
	x.open = append(x.open, v.id)
	set, err := x.made(v)
	if err != nil {
		return nil, err
	}
	x.open = x.open[:len(x.open)-1]
	x.sets[v.id] = set
	return set, nil
}

func (x *Expander) made(v *valueSet) (*Set, error) {
	switch {
	case v.expansion != nil && v.expansion.doubt == "":
		return x.listed(v.expansion)
	case v.compose != nil:
		return x.composed(v)
	case v.expansion != nil:
		return nil, notSupported("The expansion of the stored ValueSet/%s may lack codes: %s. Store it with its whole expansion.", v.id, v.expansion.doubt)
	}
	return nil, notSupported("The stored ValueSet/%s has neither an expansion nor a definition. Store it with its expansion.", v.id)
}

func (x *Expander) listed(e *expansion) (*Set, error) {
	set := newSet()
	for i, codes := range [][]Code{e.codes, e.abstract} {
		for _, c := range codes {
			if err := x.add(set, c, i == 1); err != nil {
				return nil, err
			}
		}
	}
	return set, nil
}

// composed is what a definition includes and does not exclude.
func (x *Expander) composed(v *valueSet) (*Set, error) {
	if err := v.compose.unlocked(v.id); err != nil {
		return nil, err
	}
	set := newSet()
	for i := range v.compose.include {
		part, err := x.criteria(&v.compose.include[i])
		if err != nil {
			return nil, err
		}
		for c, abstract := range part.codes {
			if err := x.add(set, c, abstract); err != nil {
				return nil, err
			}
		}
	}
	for i := range v.compose.exclude {
		if err := x.exclude(set, &v.compose.exclude[i]); err != nil {
			return nil, err
		}
	}
	if v.compose.activeOnly {
		return set, x.dropInactive(set, v.compose.include)
	}
	return set, nil
}

// unlocked refuses a definition that means versions of a date: which they were
// then is not known here.
func (c *compose) unlocked(id string) error {
	if c.lockedDate == "" {
		return nil
	}
	for _, all := range [][]criteria{c.include, c.exclude} {
		for i := range all {
			open := len(all[i].concepts) == 0 && all[i].system != "" && all[i].version == ""
			for _, reference := range all[i].valueSets {
				_, version := cutCanonical(reference)
				open = open || version == ""
			}
			if open {
				return notSupported("The stored ValueSet/%s has a lockedDate and includes what has no version. Store it with its expansion.", id)
			}
		}
	}
	return nil
}

// criteria is the codes of one include.
func (x *Expander) criteria(c *criteria) (*Set, error) {
	for _, reference := range append([]string{c.system}, c.valueSets...) {
		if strings.HasPrefix(reference, "#") {
			return nil, notSupported("A ValueSet includes what is contained in it, '%s'. Store it with its expansion.", reference)
		}
	}
	var sets []*Set
	for _, reference := range c.valueSets {
		set, err := x.ValueSet(reference)
		if err != nil {
			return nil, err
		}
		sets = append(sets, set)
	}
	if c.system == "" || c.isSystem() && len(sets) > 0 {
		return x.common(sets, c.system)
	}
	own, err := x.ofSystem(c)
	if err != nil || len(sets) == 0 {
		return own, err
	}
	return x.common(append(sets, own), c.system)
}

// isSystem tells whether the criteria of a system are that it is this system.
func (c *criteria) isSystem() bool {
	return c.system != "" && c.version == "" && len(c.concepts)+len(c.filters) == 0
}

// common is the codes that are in all sets and of a system; "": of any.
func (x *Expander) common(sets []*Set, system string) (*Set, error) {
	all := newSet()
	for c, abstract := range sets[0].codes {
		everywhere := system == "" || c.System == system
		for _, s := range sets[1:] {
			other, known := s.codes[c]
			everywhere, abstract = everywhere && known, abstract && other
		}
		if !everywhere {
			continue
		}
		if err := x.add(all, c, abstract); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// ofSystem is the concepts that are listed, or those of the code system that pass
// the filters.
func (x *Expander) ofSystem(c *criteria) (*Set, error) {
	set := newSet()
	if len(c.concepts) > 0 {
		for _, code := range c.concepts {
			if err := x.add(set, Code{c.system, code}, false); err != nil {
				return nil, err
			}
		}
		return set, nil
	}
	system, err := x.system(c.system, c.version)
	if err != nil {
		return nil, err
	}
	passes, err := system.filters(c.filters)
	if err != nil {
		return nil, err
	}
	for i := range system.concepts {
		at := int32(i)
		if slices.ContainsFunc(passes, func(p pass) bool { return !p(at) }) {
			continue
		}
		if err := x.add(set, Code{c.system, system.concepts[i].code}, system.isAbstract(at)); err != nil {
			return nil, err
		}
	}
	return set, nil
}

func (c *codeSystem) filters(all []propertyFilter) (passes []pass, err error) {
	for _, f := range all {
		p, err := c.filter(f)
		if err != nil {
			return nil, err
		}
		passes = append(passes, p)
	}
	return passes, nil
}

// exclude takes codes out of a set; for those of a whole system nothing need be
// known of it.
func (x *Expander) exclude(set *Set, c *criteria) error {
	if c.isSystem() && len(c.valueSets) == 0 {
		for code := range set.codes {
			if code.System == c.system {
				delete(set.codes, code)
			}
		}
		return nil
	}
	out, err := x.criteria(c)
	if err != nil {
		return err
	}
	for code := range out.codes {
		delete(set.codes, code)
	}
	return nil
}

// dropInactive takes out what is not in use any more, by the code systems that the
// includes name.
func (x *Expander) dropInactive(set *Set, include []criteria) error {
	versions := map[string]string{}
	for _, c := range include {
		if before, twice := versions[c.system]; twice && before != c.version {
			return notSupported("A ValueSet without inactive codes includes several versions of '%s'. Store it with its expansion.", c.system)
		}
		versions[c.system] = c.version
	}
	for c := range set.codes {
		system, err := x.system(c.System, versions[c.System])
		if err != nil {
			return err
		}
		if at, ok := system.byCode[c.Code]; ok && system.isInactive(at) {
			delete(set.codes, c)
		}
	}
	return nil
}
