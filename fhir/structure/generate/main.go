// Command generate writes the table of package structure from the element table
// of FHIR R4 4.0.1 (elements.tsv there). Run it with `go generate ./fhir/structure`.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run("elements.tsv", "table.go"); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

// run reads the element table at source and writes Go code to target.
func run(source, target string) error {
	text, err := os.ReadFile(source)
	if err != nil {
		return fmt.Errorf("cannot read the element table: %w", err)
	}
	nodes, err := readNodes(string(text))
	if err != nil {
		return fmt.Errorf("cannot read the element table %q: %w", source, err)
	}
	code, err := goCode(nodes)
	if err != nil {
		return fmt.Errorf("cannot write %q: %w", target, err)
	}
	if err = os.WriteFile(target, code, 0o644); err != nil {
		return fmt.Errorf("cannot write the table: %w", err)
	}
	return nil
}
