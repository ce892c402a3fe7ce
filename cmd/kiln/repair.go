package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"

	"kiln/engine"
)

// repairCmd exits with 0 when nothing is lost, with exitDamage when something is, or is doubtful.
type repairCmd struct {
	DataDir string `required:"" type:"path" placeholder:"DIR" help:"Data directory that no server has open."`
	DryRun  bool   `help:"Tell what would be done, and leave everything as it is. Needs room for what would be written."`
	JSON    bool   `name:"json" help:"Print one JSON object a line: each finding, and a summary last."`
	keyFlags
}

// Run makes a store that opens of a damaged one, and tells what is lost.
func (c *repairCmd) Run(ctx context.Context, std streams) error {
	if err := mustExist(c.DataDir); err != nil {
		return err
	}
	fsys, err := c.fs(ctx, std)
	if err != nil {
		return err
	}
	summary, err := engine.Repair(ctx, engine.RepairOptions{
		FS: fsys, Dir: c.DataDir, NewID: rand.Uint64, DryRun: c.DryRun, Terms: true, Encode: findingLine,
		Report: func(f engine.Finding) error { return c.print(std, &f) },
	})
	if err != nil {
		return fmt.Errorf("cannot repair %q: %w", c.DataDir, err)
	}
	if err := c.summary(std, &summary); err != nil {
		return err
	}
	losses, err := losses(&summary)
	if err != nil {
		return fmt.Errorf("cannot tell what the repair of %q has lost: %w", c.DataDir, err)
	}
	if losses > 0 {
		return &exitError{code: exitDamage, err: fmt.Errorf("%d findings of the repair of %q are losses or doubts: the report names each", losses, c.DataDir)}
	}
	return nil
}

// losses counts what is lost or doubtful, by this repair and by one that it ended: a script that goes
// on after exit 0 has everything.
func losses(s *engine.RepairSummary) (int, error) {
	n := s.Lost + s.LostRecords + s.Doubts
	if !s.Resumed {
		return n, nil
	}
	report, err := os.Open(filepath.Join(s.Ended, engine.RepairReportName))
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	if err != nil {
		return n, err
	}
	defer report.Close()
	lines := bufio.NewScanner(report)
	for lines.Scan() {
		var found foundLine
		if err := json.Unmarshal(lines.Bytes(), &found); err != nil {
			return n, err
		}
		switch found.Kind {
		case engine.FoundLost, engine.FoundLostRecords, engine.FoundDoubt:
			n++
		}
	}
	return n, lines.Err()
}

// foundLine is a finding as the report file and --json have it.
type foundLine struct {
	Kind    engine.FindingKind `json:"kind"`
	File    string             `json:"file,omitempty"`
	Offset  int64              `json:"offset,omitempty"`
	Type    string             `json:"type,omitempty"`
	ID      string             `json:"id,omitempty"`
	Version int64              `json:"version,omitempty"`
	FromLSN uint64             `json:"fromLsn,omitempty"`
	ToLSN   uint64             `json:"toLsn,omitempty"`
	What    string             `json:"what"`
}

func findingLine(f engine.Finding) ([]byte, error) { return json.Marshal(foundLine(f)) }

func (c *repairCmd) print(std streams, f *engine.Finding) error {
	if c.JSON {
		line, err := findingLine(*f)
		if err == nil {
			_, err = fmt.Fprintf(std.out, "%s\n", line)
		}
		return err
	}
	_, err := fmt.Fprintf(std.out, "%s: %s\n", f.Kind, findingText(f))
	return err
}

// findingText says a finding in words.
func findingText(f *engine.Finding) string {
	text := f.What
	switch {
	case f.FromLSN != 0 && f.ToLSN == 0:
		text = fmt.Sprintf("LSN %d and what follows: %s", f.FromLSN, text)
	case f.FromLSN != 0 && f.FromLSN == f.ToLSN:
		text = fmt.Sprintf("LSN %d: %s", f.FromLSN, text)
	case f.FromLSN != 0:
		text = fmt.Sprintf("LSN %d to %d: %s", f.FromLSN, f.ToLSN, text)
	}
	if f.Type != "" {
		version := "a version"
		if f.Version != 0 {
			version = fmt.Sprintf("version %d", f.Version)
		}
		text = fmt.Sprintf("%s of %s/%s: %s", version, f.Type, f.ID, text)
	}
	if f.File != "" {
		text = fmt.Sprintf("%s: offset %d: %s", f.File, f.Offset, text)
	}
	return text
}

// summary is the last line.
func (c *repairCmd) summary(std streams, s *engine.RepairSummary) error {
	if c.JSON {
		line, err := json.Marshal(map[string]any{
			"kind": "summary", "sound": s.Sound, "resumed": s.Resumed, "damages": s.Damages, "lost": s.Lost,
			"lostRecords": s.LostRecords, "doubts": s.Doubts, "versions": s.Versions, "setAside": s.SetAside, "dryRun": c.DryRun,
		})
		if err == nil {
			_, err = fmt.Fprintf(std.out, "%s\n", line)
		}
		return err
	}
	if s.Resumed {
		fmt.Fprintf(std.out, "%s: a repair that was interrupted is done; what was damaged is in %s\n", c.DataDir, s.SetAside)
	}
	if s.Sound {
		_, err := fmt.Fprintf(std.out, "%s: sound, nothing to repair\n", c.DataDir)
		return err
	}
	done := "repaired"
	if c.DryRun {
		done = "a repair would leave this"
	}
	_, err := fmt.Fprintf(std.out, "%s: %s; damage in %d places, %d versions known to be lost, %d stretches of the log lost, %d doubts\n",
		c.DataDir, done, s.Damages, s.Lost, s.LostRecords, s.Doubts)
	if err == nil && !c.DryRun {
		_, err = fmt.Fprintf(std.out, "%d versions are there; what was damaged and the report are in %s\n", s.Versions, s.SetAside)
	}
	return err
}
