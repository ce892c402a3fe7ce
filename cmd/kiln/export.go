package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

type exportCmd struct {
	connectFlags
	Server     string   `default:"${server}" placeholder:"URL" help:"FHIR base of the server (${default})."`
	Out        string   `type:"path" xor:"place" placeholder:"DIR" help:"Directory for the files; it may not hold others (the current one). Deletions come into deleted/ below it, what the server could not export is told in error/. A command that was stopped goes on there when it is run again."`
	Container  string   `xor:"place,kept" placeholder:"NAME" help:"Instead of downloading: let the server write the files into this container of its storage account, which is made when it is missing, and tell where they are. This command cannot read them."`
	Level      string   `default:"system" placeholder:"LEVEL" help:"system, patient (all patients' resources) or group/ID (those of a Group's members)."`
	Type       []string `placeholder:"TYPE,..." help:"Only these resource types."`
	TypeFilter []string `sep:"none" placeholder:"QUERY" help:"Only the resources of a type that a search finds, such as Observation?code=1-8; repeatable, of one type any counts."`
	Since      string   `placeholder:"TIME" help:"Only what changed at this instant or later."`
	Until      string   `placeholder:"TIME" help:"Only what changed before this instant."`
	OrganizeBy string   `enum:"type,patient" default:"type" placeholder:"type|patient" help:"What a file holds: resources of a type, or all resources of patients, one patient behind the other, each behind a header line (${default})."`
	Format     string   `enum:"ndjson,parquet" default:"ndjson" placeholder:"ndjson|parquet" help:"Format of the files (${default})."`
	Delete     bool     `xor:"kept" help:"Delete the export on the server once its files are here."`
	JSON       bool     `name:"json" help:"Print the manifest, a page of it a line."`
}

// parquetFormat is the media type of Parquet files.
const parquetFormat = "application/vnd.apache.parquet"

// Directories below the one for the files: an import of that one takes neither.
const (
	deletedDir = "deleted"
	errorDir   = "error"
)

// manifest is the final object of an $export, or a page of it.
type manifest struct {
	Output  []manifestFile `json:"output"`
	Deleted []manifestFile `json:"deleted"`
	Error   []manifestFile `json:"error"`
	Link    []struct {
		Relation string `json:"relation"`
		URL      string `json:"url"`
	} `json:"link"`
}

type manifestFile struct {
	Type  string `json:"type"`
	URL   string `json:"url"`
	Count *int64 `json:"count"`
	Bytes int64  `json:"fileSize"` // 0: not told
}

// Run runs an export to its end and downloads its files.
func (c *exportCmd) Run(ctx context.Context, std streams) error {
	server, address, err := c.check()
	if err != nil {
		return err
	}
	if c.Container != "" {
		return c.runInto(ctx, server, address, std)
	}
	started := time.Now()
	job, err := c.job(ctx, server, address)
	if err != nil {
		return err
	}
	list, pages, err := server.manifest(ctx, job.Status, newProgress(std.err, "exporting"))
	if err != nil {
		return c.stopped(job, err)
	}
	total, told, err := c.fetch(ctx, server, list, std)
	if err != nil {
		return fmt.Errorf("%w (the export stays at %s: run the command again to go on)", err, job.Status)
	}
	if c.Delete {
		if err := server.deleteJob(ctx, job.Status); err != nil {
			return err
		}
	}
	if err := os.Remove(c.note()); err != nil {
		return fmt.Errorf("cannot end the export: %w", err)
	}
	if c.JSON {
		_, err = fmt.Fprintf(std.out, "%s\n", strings.Join(pages, "\n"))
	} else {
		took, what := time.Since(started), "resources"
		if c.OrganizeBy == "patient" {
			what = "resources and headers of patients"
		}
		_, err = fmt.Fprintf(std.out, "exported %d %s (%d bytes) into %d files in %s in %s (%s)\n",
			total.lines, what, total.bytes, len(list.Output), c.Out, rounded(took), rate(total.lines, took))
	}
	if err == nil && told > 0 {
		err = &exitError{code: exitRefused, err: fmt.Errorf("the server could not do all that was asked: see %s", filepath.Join(c.Out, errorDir))}
	}
	return err
}

// stopped is why there is no manifest. When the export failed or is gone, the next
// command begins another one.
func (c *exportCmd) stopped(job *exportNote, err error) error {
	if isFinal(err) {
		return errors.Join(err, os.Remove(c.note()))
	}
	return stillRunning(fmt.Errorf("%w (run the command again to go on with the export)", err), job.Status)
}

// fetch downloads all files of a manifest. told is how many outcomes the server
// has of what it could not export.
func (c *exportCmd) fetch(ctx context.Context, server *client, list *manifest, std streams) (total amount, told int64, err error) {
	if total, err = server.downloadAll(ctx, list.Output, c.Out, newProgress(std.err, "downloading")); err != nil {
		return total, 0, err
	}
	for _, more := range []struct {
		files []manifestFile
		dir   string
	}{{list.Deleted, deletedDir}, {list.Error, errorDir}} {
		if len(more.files) == 0 {
			continue
		}
		dir := filepath.Join(c.Out, more.dir)
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return total, 0, fmt.Errorf("cannot make the output directory: %w", err)
		}
		got, err := server.downloadAll(ctx, more.files, dir, newProgress(std.err, "downloading "+more.dir))
		if err != nil {
			return total, 0, err
		}
		if more.dir == errorDir {
			told = got.lines
		}
	}
	return total, told, nil
}

// exportNote is a file beside those of an export that are not all here: what was
// asked for, and where the export is.
type exportNote struct {
	Request string `json:"request"`
	Status  string `json:"status"`
}

func (c *exportCmd) note() string { return filepath.Join(c.Out, "kiln-export.json") }

// job is the export that a former command began into the directory, or a new one.
func (c *exportCmd) job(ctx context.Context, server *client, address string) (*exportNote, error) {
	text, err := os.ReadFile(c.note())
	if err == nil {
		note := new(exportNote)
		if err := json.Unmarshal(text, note); err != nil {
			return nil, fmt.Errorf("cannot read %q: %w", c.note(), err)
		}
		if note.Request != address {
			return nil, usageError("%q holds an unfinished export of %s: go on with the same flags, or choose another --out", c.Out, note.Request)
		}
		return note, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot read %q: %w", c.note(), err)
	}
	status, err := server.kickOff(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	note := &exportNote{Request: address, Status: status}
	if text, err = json.Marshal(note); err == nil {
		err = os.WriteFile(c.note()+".part", append(text, '\n'), 0o666)
	}
	if err == nil {
		err = os.Rename(c.note()+".part", c.note())
	}
	if err != nil {
		return nil, fmt.Errorf("cannot note where the export is: %w", err)
	}
	return note, nil
}

// manifest follows an export to its end, and reads all pages of its manifest.
func (c *client) manifest(ctx context.Context, status string, bar *progress) (*manifest, []string, error) {
	defer bar.done()
	all, pages, seen := new(manifest), []string{}, map[string]bool{}
	for next := status; next != ""; {
		if seen[next] {
			return nil, nil, fmt.Errorf("the manifest leads back to its page %s", next)
		}
		seen[next] = true
		raw, err := c.follow(ctx, next, bar)
		if err != nil {
			return nil, nil, err
		}
		var page manifest
		if err := json.Unmarshal(raw, &page); err != nil {
			return nil, nil, fmt.Errorf("cannot read the manifest of %s: %w", next, err)
		}
		all.Output, all.Deleted, all.Error = append(all.Output, page.Output...), append(all.Deleted, page.Deleted...), append(all.Error, page.Error...)
		pages, next = append(pages, string(raw)), ""
		for _, link := range page.Link {
			if link.Relation == "next" {
				next = link.URL
			}
		}
	}
	return all, pages, nil
}

// check refuses what cannot work before anything is started, and gives the
// kick-off address.
func (c *exportCmd) check() (*client, string, error) {
	at, err := c.levelPath()
	if err != nil {
		return nil, "", err
	}
	server, err := c.client(c.Server)
	if err != nil {
		return nil, "", err
	}
	if c.Container == "" {
		c.Out = cmp.Or(c.Out, ".")
		if err := c.checkOut(); err != nil {
			return nil, "", err
		}
	}
	query := url.Values{}
	if len(c.Type) > 0 {
		query.Set("_type", strings.Join(c.Type, ","))
	}
	for _, filter := range c.TypeFilter {
		query.Add("_typeFilter", filter)
	}
	for name, value := range map[string]string{"_since": c.Since, "_until": c.Until, "_container": c.Container} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if c.OrganizeBy == "patient" {
		query.Set("organizeOutputBy", "Patient")
	}
	if c.Format == "parquet" {
		query.Set("_outputFormat", parquetFormat)
	}
	address := server.base + at + "/$export"
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	return server, address, nil
}

// levelPath is what stands between the FHIR base and $export.
func (c *exportCmd) levelPath() (string, error) {
	group, isGroup := strings.CutPrefix(strings.ToLower(c.Level), "group/")
	switch {
	case c.Level == "system":
		return "", nil
	case c.Level == "patient":
		return "/Patient", nil
	case isGroup && group != "" && !strings.ContainsAny(group, "/?#"):
		return "/Group/" + url.PathEscape(c.Level[len("group/"):]), nil
	default:
		return "", usageError("--level %q is none of system, patient and group/ID", c.Level)
	}
}

// checkOut makes the directory. One that has files of another export is refused:
// nobody could tell them apart later.
func (c *exportCmd) checkOut() error {
	if _, err := os.Stat(c.note()); err == nil {
		return nil
	}
	for _, pattern := range []string{"*.ndjson", "*.parquet", deletedDir + "/*.ndjson", errorDir + "/*.ndjson"} {
		old, err := filepath.Glob(filepath.Join(escapeGlob(c.Out), pattern))
		if err != nil {
			return fmt.Errorf("cannot list %q: %w", c.Out, err)
		}
		if len(old) > 0 {
			return usageError("%q already holds %s: choose another --out", c.Out, filepath.Base(old[0]))
		}
	}
	if err := os.MkdirAll(c.Out, 0o777); err != nil {
		return fmt.Errorf("cannot make the output directory: %w", err)
	}
	return nil
}

// escapeGlob makes a path match itself in filepath.Glob.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

func (c *client) deleteJob(ctx context.Context, status string) error {
	answer, err := c.do(ctx, http.MethodDelete, status, nil, nil)
	if err != nil {
		return err
	}
	text, err := readAnswer(answer)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusAccepted {
		return errorFrom(answer, text)
	}
	return nil
}
