package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"kiln/bench/synth"
	"kiln/bulk"
	"kiln/httpapi"
	"kiln/internal/vfs"
)

// demoSeed makes every demo show the same patients.
const demoSeed = 1

type demoCmd struct {
	Patients int    `default:"100" help:"How many patients to make up (${default}, about 700 resources each)."`
	Listen   string `default:"127.0.0.1:0" placeholder:"HOST:PORT" help:"Address to listen on (${default})."`
	Exit     bool   `help:"End when done instead of staying up until Ctrl-C."`
	keyFlags
}

// demo is one run: a server in a temporary directory and its client.
type demo struct {
	std    streams
	dir    string
	fs     vfs.FS // of the data directory
	server *client
	sums   *bodySums // what was imported
}

// Run shows the main job from end to end, checks what comes back, and says
// how fast it went.
func (c *demoCmd) Run(ctx context.Context, std streams) (err error) {
	if c.Patients < 1 {
		return usageError("--patients must be at least 1")
	}
	if isLocal, err := isLoopbackListen(c.Listen); err != nil {
		return err
	} else if !isLocal {
		return usageError("--listen %s can be reached from other machines: use a loopback address such as 127.0.0.1:8080", c.Listen)
	}
	dir, err := os.MkdirTemp("", "kiln-demo-")
	if err != nil {
		return fmt.Errorf("cannot make a temporary directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	d := &demo{std: std, dir: dir, sums: newBodySums()}
	if d.fs, err = c.fs(ctx, std); err != nil {
		return err
	}
	if err := d.generate(c.Patients); err != nil {
		return err
	}
	stop, err := d.start(c.Listen)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if err := d.show(ctx); err != nil {
		return err
	}
	if !c.Exit {
		d.say("the server stays up at %s until Ctrl-C; try: curl %s/Patient/_history?_count=1", d.server.base, d.server.base)
		<-ctx.Done()
	}
	return nil
}

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.std.out, format+"\n", args...)
}

// generate writes the made-up patients to files and remembers their bodies.
func (d *demo) generate(patients int) error {
	started := time.Now()
	input := filepath.Join(d.dir, "in")
	if err := os.Mkdir(input, 0o777); err != nil {
		return fmt.Errorf("cannot make the input directory: %w", err)
	}
	stats, err := synth.WriteFiles(synth.Options{Seed: demoSeed, Patients: patients}, input)
	if err != nil {
		return fmt.Errorf("cannot make up patients: %w", err)
	}
	took := time.Since(started)
	d.say("made     %d resources of %d types for %d patients, %s, in %s", stats.Resources, len(stats.Types), patients, megabytes(stats.Bytes), rounded(took))
	return d.sums.addFiles(input)
}

// start runs a server on the demo's data directory; the returned function
// stops it and closes the store.
func (d *demo) start(listen string) (stop func() error, err error) {
	logger := slog.New(slog.NewTextHandler(d.std.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	// Its own context: the server goes on answering while the demo ends.
	ctx, cancel := context.WithCancel(context.Background())
	in, err := openInstance(ctx, filepath.Join(d.dir, "data"), logger, bulk.Options{ImportRoots: []string{filepath.Join(d.dir, "in")}}, storeOptions{fs: d.fs, scrubInterval: -1})
	if err != nil {
		cancel()
		return nil, err
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		cancel()
		return nil, errors.Join(fmt.Errorf("cannot listen: %w", err), in.close())
	}
	served := make(chan error, 1)
	go func() {
		served <- in.serve(ctx, logger, listener, drainTimeDefault, httpapi.Options{ValidateWrites: true})
	}()
	stop = func() error {
		cancel()
		return errors.Join(<-served, in.close())
	}
	d.server, err = newClient("http://" + listener.Addr().String())
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	// A whole second between two looks would be most of what is measured.
	d.server.waitMax = pollWaitMin
	return stop, nil
}

// show is the story that the demo tells.
func (d *demo) show(ctx context.Context) error {
	if err := d.importAll(ctx); err != nil {
		return err
	}
	patient := d.sums.firstPatient
	text, err := d.read(ctx, patient)
	if err != nil {
		return err
	}
	if err := d.search(ctx, patient); err != nil {
		return err
	}
	if err := d.update(ctx, patient, text); err != nil {
		return err
	}
	if err := d.history(ctx, patient); err != nil {
		return err
	}
	return d.exportAll(ctx)
}

func (d *demo) importAll(ctx context.Context) error {
	urls, err := expandInputs([]string{filepath.Join(d.dir, "in")})
	if err != nil {
		return err
	}
	options := importOptions{Mode: "initial"}
	body, err := options.body(urls, "urn:kiln:demo")
	if err != nil {
		return err
	}
	started := time.Now()
	status, err := d.server.kickOff(ctx, http.MethodPost, d.server.base+"/$import", body)
	if err != nil {
		return err
	}
	bar := newProgress(d.std.err, "importing")
	raw, err := d.server.follow(ctx, status, bar)
	bar.done()
	if err != nil {
		return err
	}
	took := time.Since(started)
	var result importResult
	if err := json.Unmarshal(raw, &result); err != nil {
		return fmt.Errorf("cannot read the result of the import: %w", err)
	}
	var loaded int64
	for _, in := range result.Output {
		loaded += in.Count
	}
	if loaded != int64(len(d.sums.byKey)) || len(result.Error) > 0 {
		return fmt.Errorf("the import loaded %d resources instead of %d: %s", loaded, len(d.sums.byKey), raw)
	}
	d.say("imported %d resources in %s: %s, %s/s", loaded, rounded(took), rate(loaded, took), megabytes(perSecond(d.sums.bytes, took)))
	return nil
}

// get reads one address that must answer 200.
func (d *demo) get(ctx context.Context, address string) ([]byte, *http.Response, error) {
	answer, err := d.server.do(ctx, http.MethodGet, address, nil, nil)
	if err != nil {
		return nil, nil, err
	}
	text, err := readAnswer(answer)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = errorFrom(answer, text)
	}
	return text, answer, err
}

// read reads one resource often enough to say how long it takes.
func (d *demo) read(ctx context.Context, key string) ([]byte, error) {
	const times = 200
	started := time.Now()
	for range times - 1 {
		if _, _, err := d.get(ctx, d.server.base+"/"+key); err != nil {
			return nil, err
		}
	}
	text, answer, err := d.get(ctx, d.server.base+"/"+key)
	if err != nil {
		return nil, err
	}
	d.say("read     %s, ETag %s, in %s (mean of %d)", key, answer.Header.Get("ETag"), (time.Since(started) / times).Round(time.Microsecond), times)
	return text, nil
}

// update gives the patient a language, as a new version.
func (d *demo) update(ctx context.Context, key string, text []byte) error {
	var patient map[string]json.RawMessage
	if err := json.Unmarshal(text, &patient); err != nil {
		return fmt.Errorf("cannot read %s: %w", key, err)
	}
	patient["language"] = json.RawMessage(`"en-GB"`)
	changed, err := json.Marshal(patient)
	if err != nil {
		return fmt.Errorf("cannot change %s: %w", key, err)
	}
	started := time.Now()
	answer, err := d.server.do(ctx, http.MethodPut, d.server.base+"/"+key, map[string]string{"Content-Type": "application/fhir+json"}, changed)
	if err != nil {
		return err
	}
	if text, err = readAnswer(answer); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return errorFrom(answer, text)
	}
	d.say("updated  %s, ETag %s, in %s, durable", key, answer.Header.Get("ETag"), time.Since(started).Round(time.Microsecond))
	return d.sums.add(changed)
}

func (d *demo) history(ctx context.Context, key string) error {
	text, _, err := d.get(ctx, d.server.base+"/"+key+"/_history")
	if err != nil {
		return err
	}
	var bundle struct {
		Entry []struct {
			Resource struct {
				Meta struct{ VersionID, LastUpdated string }
			}
		}
	}
	if err := json.Unmarshal(text, &bundle); err != nil {
		return fmt.Errorf("cannot read the history of %s: %w", key, err)
	}
	d.say("history  of %s: %d versions", key, len(bundle.Entry))
	for _, entry := range bundle.Entry {
		d.say("           version %s of %s", entry.Resource.Meta.VersionID, entry.Resource.Meta.LastUpdated)
	}
	if len(bundle.Entry) != 2 {
		return fmt.Errorf("the history of %s has %d versions instead of 2", key, len(bundle.Entry))
	}
	return nil
}

// exportAll exports everything and compares it with what went in.
func (d *demo) exportAll(ctx context.Context) error {
	started := time.Now()
	status, err := d.server.kickOff(ctx, http.MethodGet, d.server.base+"/$export", nil)
	if err != nil {
		return err
	}
	bar := newProgress(d.std.err, "exporting")
	raw, err := d.server.follow(ctx, status, bar)
	bar.done()
	if err != nil {
		return err
	}
	took := time.Since(started)
	var list manifest
	if err := json.Unmarshal(raw, &list); err != nil {
		return fmt.Errorf("cannot read the manifest: %w", err)
	}
	out := filepath.Join(d.dir, "out")
	if err := os.Mkdir(out, 0o777); err != nil {
		return fmt.Errorf("cannot make the output directory: %w", err)
	}
	total, err := d.server.downloadAll(ctx, list.Output, out, &progress{})
	if err != nil {
		return err
	}
	d.say("exported %d resources in %s: %s, %s/s; downloaded %d files", total.lines, rounded(took), rate(total.lines, took), megabytes(perSecond(total.bytes, took)), len(list.Output))
	if err := d.sums.compareFiles(out); err != nil {
		return err
	}
	d.say("compared every exported line with its source: all %d equal, but for meta.versionId and meta.lastUpdated", len(d.sums.byKey))
	return nil
}

func megabytes(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/1e6) }

func perSecond(count int64, took time.Duration) int64 {
	return int64(float64(count) / max(took.Seconds(), 1e-6))
}
