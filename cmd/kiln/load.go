package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"kiln/bulk"
)

type loadCmd struct {
	DataDir string `required:"" type:"path" placeholder:"DIR" help:"Data directory; made when it is missing or empty."`
	importOptions
	keyFlags
	Validate string   `enum:"off,structure" default:"off" placeholder:"off|structure" help:"structure refuses resources that are not built as R4 says (${default})."`
	Inputs   []string `arg:"" name:"path" help:"File or directory (its *.ndjson, *.ndjson.gz, *.ndjson.zst)."`
}

// Run loads the inputs in this process. Stopped or killed, the same command
// goes on where it was.
func (c *loadCmd) Run(ctx context.Context, std streams) (err error) {
	urls, roots, err := localInputs(c.Inputs)
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	fsys, err := c.fs(ctx, std)
	if err != nil {
		return err
	}
	in, err := openInstance(ctx, c.DataDir, logger, bulk.Options{ImportRoots: roots, ValidateStructure: c.Validate == validateStructure}, storeOptions{fs: fsys, scrubInterval: -1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.close()) }()

	started := time.Now()
	id, err := in.startLoad(ctx, c, urls, started)
	if err != nil {
		return err
	}
	status, err := in.waitLoad(ctx, id, newProgress(std.err, "loading"))
	if err != nil {
		return err
	}
	result := c.result(status)
	raw, err := json.Marshal(result)
	if err != nil {
		return fmt.Errorf("cannot write the result: %w", err)
	}
	return result.report(std, raw, c.JSON, time.Since(started))
}

// localInputs are the inputs' URLs and the directories they may be read from:
// where the files that were named lie, behind links too.
func localInputs(args []string) (urls, roots []string, err error) {
	for _, arg := range args {
		if isURL(arg) {
			return nil, nil, usageError("load reads local files only; use import for %s", arg)
		}
		files, err := expandPath(arg)
		if err != nil {
			return nil, nil, err
		}
		for _, file := range files {
			urls = append(urls, fileURL(file))
			target, err := filepath.EvalSymlinks(file)
			if err != nil {
				return nil, nil, fmt.Errorf("cannot read input: %w", err)
			}
			if root := filepath.Dir(target); !slices.Contains(roots, root) {
				roots = append(roots, root)
			}
		}
	}
	return urls, roots, nil
}

// startLoad registers the load. The n-th load of the same files is registered
// under the number n: the first one that is not finished is gone on with, and
// when all are, a new one starts.
func (in *instance) startLoad(ctx context.Context, c *loadCmd, urls []string, started time.Time) (int64, error) {
	for n := 1; ; n++ {
		body, err := c.body(urls, "urn:kiln:load:"+strconv.Itoa(n))
		if err != nil {
			return 0, fmt.Errorf("cannot write the request: %w", err)
		}
		request, err := in.jobs.ParseImport(body, "kiln load")
		if err != nil {
			return 0, err
		}
		id, err := in.jobs.StartImport(ctx, request)
		if err != nil {
			return 0, err
		}
		status, err := in.jobs.ImportStatus(id)
		if err != nil {
			return 0, err
		}
		if status.State == bulk.Completed && status.TransactionTime.Before(started) {
			continue
		}
		return id, nil
	}
}

// waitLoad waits for the end of the load and shows how far it is.
func (in *instance) waitLoad(ctx context.Context, id int64, bar *progress) (*bulk.ImportStatus, error) {
	watched := make(chan struct{})
	waiting, stop := context.WithCancel(ctx)
	go func() {
		defer close(watched)
		in.watchLoad(waiting, id, bar)
	}()
	status, err := in.jobs.WaitImport(ctx, id)
	stop()
	<-watched
	bar.done()
	switch {
	case errors.Is(err, context.Canceled):
		return nil, errors.New("interrupted; the same command goes on from here")
	case err != nil:
		return nil, err
	case status.State == bulk.Completed:
		return status, nil
	case status.Error != nil:
		return nil, status.Error
	default:
		return nil, errors.New("the load was cancelled")
	}
}

func (in *instance) watchLoad(ctx context.Context, id int64, bar *progress) {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			done, total := in.jobs.ImportBytes(id)
			bar.bytes(float64(done), float64(total))
		}
	}
}

// result is the object that a server would give for the job; error files are
// named by path.
func (c *loadCmd) result(status *bulk.ImportStatus) *importResult {
	at := status.TransactionTime.UTC().Format(instantLayout)
	result := &importResult{TransactionTime: at, Request: status.Request, Output: []inputCount{}, Error: []inputErrors{}}
	for _, in := range status.Inputs {
		var kind *string
		if in.Type != "" {
			kind = &in.Type
		}
		result.Output = append(result.Output, inputCount{Type: kind, Count: in.Loaded, InputURL: in.URL})
		if in.Refused > 0 {
			file := filepath.Join(c.DataDir, "errors", strconv.FormatInt(status.ID, 10), in.ErrorFile)
			result.Error = append(result.Error, inputErrors{Type: kind, Count: in.Refused, InputURL: in.URL, URL: file})
		}
	}
	return result
}
