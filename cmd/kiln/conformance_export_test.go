package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// exportHeaders are the headers of a kick-off that the table leaves out.
func exportHeaders(has func(name string) bool) (lines []string) {
	if !has("Accept") {
		lines = append(lines, "Accept: application/fhir+json")
	}
	if !has("Prefer") {
		lines = append(lines, "Prefer: respond-async")
	}
	return lines
}

// exportBody is what checks of an export's content see.
type exportBody struct {
	Manifest json.RawMessage `json:"manifest"`
	// Of output, sorted: Type/id of each line.
	Names []string `json:"names"`
	// Of output, in the order of the files.
	Lines []json.RawMessage `json:"lines"`
	// Of deleted, sorted: what each entry's request deletes.
	Deleted []string `json:"deleted"`
	// Of error or outcome: the lines.
	Outcomes []json.RawMessage `json:"outcomes"`
}

type exportManifest struct {
	Output, Deleted, Error, Outcome []struct {
		Type, URL string
		Count     *int
	}
	Link []struct{ Relation, URL string }
}

// exported follows an accepted export to its manifest and, where the check asks
// for resources, reads every file of it. A kick-off that was refused is the answer itself.
func (c *check) exported(known variables, kickOff *answer) (*answer, error) {
	if kickOff.status != http.StatusAccepted {
		return kickOff, nil
	}
	manifest, err := c.follow(known, kickOff.header.Get("Content-Location"))
	if err != nil || manifest.status != http.StatusOK || c.directives["export"] == "manifest" {
		return manifest, err
	}
	body := exportBody{Manifest: manifest.body, Names: []string{}, Lines: []json.RawMessage{}, Deleted: []string{}, Outcomes: []json.RawMessage{}}
	for next := manifest.body; next != nil; {
		var m exportManifest
		if err := json.Unmarshal(next, &m); err != nil {
			return nil, err
		}
		if err := c.readFiles(known, &m, &body); err != nil {
			return nil, err
		}
		if next, err = c.nextManifest(known, &m); err != nil {
			return nil, err
		}
	}
	slices.Sort(body.Names)
	slices.Sort(body.Deleted)
	text, err := json.Marshal(body)
	return &answer{status: manifest.status, header: manifest.header, body: text}, err
}

// follow polls as a client that heeds Retry-After only when it is told to slow down.
func (c *check) follow(known variables, address string) (*answer, error) {
	for end := time.Now().Add(checkWait); ; {
		got, err := c.get(known, address)
		if err != nil || time.Now().After(end) {
			return got, err
		}
		switch got.status {
		case http.StatusAccepted:
		case http.StatusTooManyRequests:
			if err := waitAsTold(got); err != nil {
				return nil, err
			}
		default:
			return got, nil
		}
	}
}

func (c *check) get(known variables, address string) (*answer, error) {
	path, ours := strings.CutPrefix(address, "http://"+known["host"])
	if !ours {
		return nil, fmt.Errorf("%q is no address of this server", address)
	}
	get := &check{method: "GET", target: path}
	request, err := get.bytes(known)
	if err != nil {
		return nil, err
	}
	return get.exchange(known["host"], request)
}

func (c *check) nextManifest(known variables, m *exportManifest) ([]byte, error) {
	for _, link := range m.Link {
		if link.Relation == "next" {
			got, err := c.follow(known, link.URL)
			if err != nil {
				return nil, err
			}
			return got.body, nil
		}
	}
	return nil, nil
}

// readFiles adds the manifest's files to the body. A count that is not the number
// of lines is an error, and so is a line of another type than its file's.
func (c *check) readFiles(known variables, m *exportManifest, body *exportBody) error {
	for _, file := range m.Output {
		lines, err := c.lines(known, file.URL, file.Count)
		if err != nil {
			return err
		}
		for _, line := range lines {
			var r struct{ ResourceType, ID string }
			if err := json.Unmarshal(line, &r); err != nil {
				return err
			}
			if file.Type != "" && file.Type != r.ResourceType {
				return fmt.Errorf("%s holds a %s", file.URL, r.ResourceType)
			}
			body.Names = append(body.Names, r.ResourceType+"/"+r.ID)
			body.Lines = append(body.Lines, line)
		}
	}
	for _, file := range m.Deleted {
		lines, err := c.lines(known, file.URL, file.Count)
		if err != nil {
			return err
		}
		for _, line := range lines {
			if err := body.addDeleted(line); err != nil {
				return err
			}
		}
	}
	for _, file := range append(m.Error, m.Outcome...) {
		lines, err := c.lines(known, file.URL, file.Count)
		if err != nil {
			return err
		}
		body.Outcomes = append(body.Outcomes, lines...)
	}
	return nil
}

func (b *exportBody) addDeleted(line []byte) error {
	var bundle struct {
		Type  string
		Entry []struct{ Request struct{ Method, URL string } }
	}
	if err := json.Unmarshal(line, &bundle); err != nil {
		return err
	}
	for _, entry := range bundle.Entry {
		if bundle.Type != "transaction" || entry.Request.Method != "DELETE" {
			return fmt.Errorf("a line of deleted is %s", line)
		}
		b.Deleted = append(b.Deleted, entry.Request.URL)
	}
	return nil
}

func (c *check) lines(known variables, address string, count *int) ([]json.RawMessage, error) {
	got, err := c.get(known, address)
	if err != nil {
		return nil, err
	}
	if got.status != http.StatusOK {
		return nil, fmt.Errorf("%s: %d %s", address, got.status, got.body)
	}
	var lines []json.RawMessage
	for line := range bytes.Lines(got.body) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			return nil, fmt.Errorf("%s: its last line has no end", address)
		}
		lines = append(lines, bytes.TrimSpace(line))
	}
	if count != nil && *count != len(lines) {
		return nil, fmt.Errorf("%s: %d lines, and the manifest says %d", address, len(lines), *count)
	}
	return lines, nil
}
