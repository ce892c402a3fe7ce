package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"kiln/fhir"
)

// elementsMax is how many elements one node may have: the checker keeps one bit
// for each.
const elementsMax = 64

// columnsMin: up to isModifier.
const columnsMin = 10

// element is one row of the element table: a child of a node.
type element struct {
	name      string // without [x]
	required  bool
	many      bool
	choice    bool
	summary   bool
	modifier  bool
	types     []string
	reference string // path of the node whose content it has
}

// node is an element or type that has children.
type node struct {
	path     string
	resource bool
	elements []element
}

// readNodes makes a node of every type, and of every element that has children,
// in the order of the table. Primitive types and what is only a base of others
// have none.
func readNodes(text string) ([]node, error) {
	byPath := map[string]*node{}
	var order []string
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i, line := range lines[1:] {
		columns := strings.Split(line, "\t")
		if len(columns) < columnsMin {
			return nil, fmt.Errorf("line %d has %d columns", i+2, len(columns))
		}
		kind, root, path := columns[0], columns[1], columns[2]
		if kind == "primitive-type" || kind == "logical" || kind == "resource*" {
			continue
		}
		at := strings.LastIndexByte(path, '.')
		if at < 0 {
			continue
		}
		parent := path[:at]
		if byPath[parent] == nil {
			byPath[parent] = &node{path: parent, resource: kind == "resource" && parent == root}
			order = append(order, parent)
		}
		e, err := readElement(byPath[parent], path[at+1:], columns)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+2, err)
		}
		byPath[parent].elements = append(byPath[parent].elements, e)
	}
	nodes := make([]node, 0, len(order))
	for _, path := range order {
		nodes = append(nodes, *byPath[path])
	}
	return nodes, checkNodes(nodes)
}

func readElement(parent *node, name string, columns []string) (element, error) {
	low, high, types, reference := columns[3], columns[4], columns[5], columns[7]
	summary, modifier := columns[8], columns[9]
	base, choice := strings.CutSuffix(name, "[x]")
	e := element{name: base, required: low == "1", many: high == "*", choice: choice, reference: strings.TrimPrefix(reference, "#")}
	e.summary, e.modifier = summary == "1", modifier == "1"
	if types != "" {
		e.types = strings.Split(types, "|")
	}
	if parent.resource && name == "id" {
		// The table says string, as the specification's own snapshots do by
		// mistake; resource.html says id.
		e.types = []string{"id"}
	}
	switch {
	case low != "0" && low != "1" || high != "1" && high != "*":
		return e, fmt.Errorf("%s.%s has the cardinality %s..%s, which the checker cannot hold", parent.path, name, low, high)
	case !choice && len(e.types) > 1 || choice && e.many:
		return e, fmt.Errorf("%s.%s is no choice and has %d types", parent.path, name, len(e.types))
	case (len(e.types) == 0) == (e.reference == ""):
		return e, fmt.Errorf("%s.%s has neither a type nor a reference, or both", parent.path, name)
	}
	return e, nil
}

// checkNodes checks what the checker's bits depend on, and that the resource
// types are those of package fhir.
func checkNodes(nodes []node) error {
	resources := map[fhir.TypeCode]bool{}
	for _, n := range nodes {
		if len(n.elements) > elementsMax-1 {
			return fmt.Errorf("%s has %d elements", n.path, len(n.elements))
		}
		if n.resource {
			resources[fhir.TypeByName([]byte(n.path))] = true
		}
	}
	delete(resources, 0)
	if len(resources) != int(fhir.TypeMax) {
		return fmt.Errorf("the table has %d of the %d resource types: %v", len(resources), fhir.TypeMax, slices.Sorted(maps.Keys(resources)))
	}
	return nil
}
