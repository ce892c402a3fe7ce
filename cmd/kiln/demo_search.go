package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// search counts a patient's observations, compares the number with the lines
// that were made up, and shows the newest one.
func (d *demo) search(ctx context.Context, patient string) error {
	want, err := linesWith(filepath.Join(d.dir, "in", "Observation.ndjson"), `"subject":{"reference":"`+patient+`"`)
	if err != nil {
		return err
	}
	query := "Observation?patient=" + url.QueryEscape(patient) + "&_sort=-date&_count=1"
	started := time.Now()
	text, _, err := d.get(ctx, d.server.base+"/"+query)
	if err != nil {
		return err
	}
	took := time.Since(started)
	var found struct {
		Total int
		Entry []struct {
			Resource struct {
				EffectiveDateTime string
				Code              struct{ Text string }
			}
		}
	}
	if err := json.Unmarshal(text, &found); err != nil {
		return fmt.Errorf("cannot read what %s found: %w", query, err)
	}
	if found.Total != want || len(found.Entry) != min(want, 1) {
		return fmt.Errorf("%s found %d observations and gave %d, there are %d", query, found.Total, len(found.Entry), want)
	}
	d.say("searched %s: %d found, in %s", query, found.Total, took.Round(time.Microsecond))
	for _, entry := range found.Entry {
		d.say("           the newest: %s, %s", entry.Resource.Code.Text, entry.Resource.EffectiveDateTime)
	}
	return nil
}

// linesWith counts the lines of a file that have a text in them.
func linesWith(path, text string) (count int, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("cannot count lines: %w", err)
	}
	scanner := bufio.NewScanner(file)
	scanner.Buffer(make([]byte, copyBytes), lineBytesMax)
	for scanner.Scan() {
		if bytes.Contains(scanner.Bytes(), []byte(text)) {
			count++
		}
	}
	if err := errors.Join(scanner.Err(), file.Close()); err != nil {
		return 0, fmt.Errorf("cannot count the lines of %q: %w", path, err)
	}
	return count, nil
}
