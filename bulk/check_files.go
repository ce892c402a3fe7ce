package bulk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"

	"kiln/engine"
	"kiln/internal/vfs"
)

// FilesCheck holds the files of jobs against what the catalog and the log say of them.
type FilesCheck struct {
	Jobs *engine.FsckJobs
	// Dir is the data directory. ExportDir has the files of exports; "": they are in it.
	Dir, ExportDir string
	// Damage is told of files that are gone, or are not what was written; Note of files
	// that no job names. Clients may have what is noted, and nothing reads it.
	Damage, Note func(engine.Problem)
	// is where Run reads.
	is jobsView
}

// jobsView is how jobs and their files are read: of a copy of the catalog, or of a store
// that is in use.
type jobsView struct {
	fs       vfs.FS
	list     func(prefix string, fn func(key string, value []byte) error) error
	progress func(job uint64) (progress []byte, known bool)
	// stands tells whether a record is still what it was when its files were looked at.
	stands func(key string, value []byte) bool
}

// jobFiles are the names that a job's folder may have; nil: any, since the job is at
// work there, or the next start removes them.
type jobFiles map[string]bool

// Run reads all files of ended exports, and of imports the error files as far as they
// were recorded. What a running export has written is not looked at: it looks itself
// when it goes on, and writes again what is not whole. That an export has expired is
// not known here: it counts until the server has removed it. An error is what kept it
// from reading the catalog; *vfs.CorruptError: a value of it is damaged.
func (c *FilesCheck) Run(ctx context.Context) error {
	c.is = jobsView{c.Jobs.FS, c.Jobs.List, c.Jobs.Progress, func(string, []byte) bool { return true }}
	return c.run(ctx)
}

func (c *FilesCheck) run(ctx context.Context) error {
	exports, err := c.exports(ctx)
	if err != nil {
		return err
	}
	imports, err := c.imports(ctx)
	if err != nil {
		return err
	}
	c.strangers(c.exportsIn(), exports)
	c.strangers(path.Join(c.Dir, errorsDir), imports)
	return nil
}

func (c *FilesCheck) exportsIn() string {
	if c.ExportDir != "" {
		return c.ExportDir
	}
	return path.Join(c.Dir, exportsDir)
}

// exports checks the files of completed exports that are kept here, and tells which
// names the folders of all exports may have.
func (c *FilesCheck) exports(ctx context.Context) (map[string]jobFiles, error) {
	named, homeless := make(map[string]jobFiles), 0
	_, err := c.is.fs.Stat(c.exportsIn())
	gone := errors.Is(err, fs.ErrNotExist)
	err = c.is.list(keyExport, func(key string, value []byte) error {
		r := new(exportRecord)
		if err := ParseRecord(value, r); err != nil {
			return err
		}
		folder := strconv.FormatInt(r.ID, 10)
		named[folder] = nil
		if r.State != Completed || r.Folder != "" {
			return nil
		}
		files, err := filesOfExport(c.is.list, r)
		if err == nil && gone && len(files) > 0 {
			homeless++
		}
		if err != nil || gone {
			return err
		}
		named[folder] = make(jobFiles)
		for i := range files {
			f := &files[i]
			named[folder][f.Name] = true
			if err := c.file(ctx, path.Join(c.exportsIn(), folder, f.Name), writtenFile{f.Bytes, f.Sums, true, key, value}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot check the exports: %w", err)
	}
	if homeless > 0 {
		c.Damage(engine.Problem{File: c.exportsIn(), What: fmt.Sprintf("the directory with the files of %d exports is not there; if the server has an --export-dir, name it", homeless)})
	}
	return named, nil
}

// imports is exports for error files.
func (c *FilesCheck) imports(ctx context.Context) (map[string]jobFiles, error) {
	named := make(map[string]jobFiles)
	err := c.is.list(keyImport, func(key string, value []byte) error {
		r, err := parseImport(value)
		if err != nil {
			return err
		}
		folder := strconv.FormatInt(r.ID, 10)
		named[folder], err = c.errorFiles(ctx, r, folder, key, value)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot check the imports: %w", err)
	}
	return named, nil
}

// errorFiles checks those of an import, and tells which it may have.
func (c *FilesCheck) errorFiles(ctx context.Context, r *importRecord, folder, key string, value []byte) (jobFiles, error) {
	names := make(jobFiles)
	result, known := c.progressOf(r)
	for i, in := range r.Request.Inputs {
		name := errorFileName(r.ID, i, in.Type)
		names[name] = true
		if !known || i >= len(result.Inputs) || result.Inputs[i][progressErrorBytes] == 0 {
			continue
		}
		// What lies behind was never counted, and is cut off when the job goes on.
		want := writtenFile{result.Inputs[i][progressErrorBytes], result.Sums[i], r.State == Completed, key, value}
		if err := c.file(ctx, path.Join(c.Dir, errorsDir, folder, name), want); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// progressOf is what an import has published, where that is known. A completed one
// has it in its record, and then no longer in the log.
func (c *FilesCheck) progressOf(r *importRecord) (p progress, known bool) {
	if r.State == Completed {
		return r.Result, true
	}
	raw, known := c.is.progress(uint64(r.ID))
	if !known || raw == nil {
		return r.Result, known
	}
	p, err := parseProgress(raw, len(r.Request.Inputs))
	if err != nil {
		c.Damage(engine.Problem{File: path.Join(c.Dir, errorsDir, strconv.FormatInt(r.ID, 10)), What: err.Error()})
	}
	return p, err == nil
}

// writtenFile is what is known of a file: its length, the sums of its pieces (nil: an
// older build made none), whether it may have nothing behind that, and the record that
// it is known by.
type writtenFile struct {
	bytes int64
	sums  []byte
	exact bool
	key   string
	value []byte
}

// file reads a file and reports damage. An error is that of ctx.
func (c *FilesCheck) file(ctx context.Context, name string, want writtenFile) error {
	err := c.readFile(ctx, name, want)
	var corrupt *vfs.CorruptError
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return ctx.Err()
	case !c.is.stands(want.key, want.value): // it was deleted, or went on, meanwhile
	case errors.As(err, &corrupt):
		c.Damage(engine.Problem{File: name, Offset: corrupt.Offset, What: corrupt.What})
	default: // a bad sector is damage too
		c.Damage(engine.Problem{File: name, What: err.Error()})
	}
	return nil
}

func (c *FilesCheck) readFile(ctx context.Context, name string, want writtenFile) error {
	d, err := openDownload(c.is.fs, name, want.bytes, want.sums)
	if err != nil {
		return err
	}
	defer d.Close() // only read from
	info, err := c.is.fs.Stat(name)
	if err != nil {
		return fmt.Errorf("cannot look at %q: %w", name, err)
	}
	if info.Bytes < want.bytes || want.exact && info.Bytes > want.bytes {
		return d.file.damaged(min(info.Bytes, want.bytes), fmt.Sprintf("it has %d bytes, and %d were written", info.Bytes, want.bytes))
	}
	return d.file.verify(ctx)
}

// strangers notes what is in a directory of jobs' folders and no job names.
func (c *FilesCheck) strangers(dir string, named map[string]jobFiles) {
	for _, folder := range c.list(dir) {
		files, ok := named[folder]
		if !ok {
			c.Note(engine.Problem{File: path.Join(dir, folder), What: "no job names it"})
			continue
		}
		if files == nil {
			continue
		}
		for _, name := range c.list(path.Join(dir, folder)) {
			if !files[name] {
				c.Note(engine.Problem{File: path.Join(dir, folder, name), What: "its job does not name it"})
			}
		}
	}
}

// list is what a directory has; nothing, where there is none.
func (c *FilesCheck) list(dir string) []string {
	names, err := c.is.fs.List(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.Damage(engine.Problem{File: dir, What: err.Error()})
	}
	return names
}
