package bulk

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"golang.org/x/sync/errgroup"
)

const (
	// exportRemovalsMax blobs are removed at a time.
	exportRemovalsMax = 8
	// exportCommitGrace is how long a commit under way may take when its export is
	// stopped: given up, it could still take effect after the files were removed.
	exportCommitGrace = 10 * time.Second
)

// azureOutput keeps an export's files in a folder of a container.
type azureOutput struct {
	account   *azureAccount // nil: the server has it no more
	staging   *blobStaging
	nonce     func() uint64 // of the blocks of a file
	folder    string        // its address
	container string
	prefix    string // of the blobs' names
	// present are the bytes of the blobs that were there when the job began, by name.
	present map[string]int64
}

// exportFolder is the address of a job's folder: `{time of the registration}-{job}-{number}`.
// Servers share accounts, and each counts its jobs from 1: the number is random.
func (m *Manager) exportFolder(r *exportRecord) string {
	return fmt.Sprintf("%s/%s/%s-%d-%016x", m.addresses.account.base(), r.Request.Container, r.Created.Format("20060102T150405"), r.ID, m.opts.NewID())
}

// base is the account's address.
func (a *azureAccount) base() string { return a.origin + a.path }

func (m *Manager) azureOutput(folder string) *azureOutput {
	at := strings.LastIndexByte(folder, '/')
	inside := strings.LastIndexByte(folder[:at], '/')
	o := &azureOutput{
		account: m.addresses.account, staging: &m.staging, nonce: m.opts.NewID,
		folder: folder, container: folder[inside+1 : at], prefix: folder[at+1:] + "/",
	}
	if o.account != nil && o.account.base() != folder[:inside] {
		o.account = nil
	}
	return o
}

// begin makes the container when it is missing, and looks what is in the folder.
func (o *azureOutput) begin(ctx context.Context) error {
	present, found, err := o.list(ctx)
	if err != nil {
		return err
	}
	if o.present = present; found {
		return nil
	}
	return o.attempt(ctx, o.folder, func(ctx context.Context) error { return o.account.makeContainer(ctx, o.container) })
}

// list gives the bytes of the job's blobs by name, and whether there is a container.
func (o *azureOutput) list(ctx context.Context) (present map[string]int64, found bool, err error) {
	present = make(map[string]int64)
	if o.account == nil {
		return nil, false, &RequestError{Status: 424, Code: "processing", Text: "the export's files are in " + o.folder + ", and the server is not configured for that account"}
	}
	pages := o.account.client.NewContainerClient(o.container).NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &o.prefix})
	for pages.More() {
		var page container.ListBlobsFlatResponse
		err := o.attempt(ctx, o.folder, func(ctx context.Context) (err error) {
			page, err = pages.NextPage(ctx)
			if bloberror.HasCode(err, bloberror.ContainerNotFound) {
				page.Segment = nil
				return nil
			}
			return err
		})
		if err != nil || page.Segment == nil {
			return present, false, err
		}
		for _, item := range page.Segment.BlobItems {
			if item.Name == nil || item.Properties == nil || item.Properties.ContentLength == nil {
				return nil, false, &RequestError{Status: 500, Code: "exception", Input: o.folder, Text: o.folder + ": the storage lists a blob without its name or length"}
			}
			if name := strings.TrimPrefix(*item.Name, o.prefix); isExportFile(name) { // others are not this server's
				present[name] = *item.Properties.ContentLength
			}
		}
	}
	return present, true, nil
}

func (o *azureOutput) create(ctx context.Context, name string) (exportWriter, error) {
	b := o.account.blockBlob(o.container, o.prefix+name, exportBlobError)
	return newAzureWriter(ctx, o, b), nil
}

func (o *azureOutput) full() bool                     { return o.staging.full() }
func (o *azureOutput) wait(ctx context.Context) error { return o.staging.wait(ctx) }

func (o *azureOutput) settle(context.Context) error { return nil } // a committed blob is durable

func (o *azureOutput) whole(_ context.Context, files []ExportFile) (bool, error) {
	for _, f := range files {
		if bytes, ok := o.present[f.Name]; !ok || bytes != f.Bytes {
			return false, nil
		}
	}
	return true, nil
}

func (o *azureOutput) keep(ctx context.Context, files []ExportFile) error {
	for _, f := range files {
		delete(o.present, f.Name)
	}
	return o.removeAll(ctx, o.present)
}

func (o *azureOutput) remove(ctx context.Context) error {
	present, _, err := o.list(ctx)
	if err != nil {
		return err
	}
	return o.removeAll(ctx, present)
}

func (o *azureOutput) removeAll(ctx context.Context, names map[string]int64) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(exportRemovalsMax)
	for name := range names {
		group.Go(func() error {
			b := o.account.client.NewContainerClient(o.container).NewBlobClient(o.prefix + name)
			return o.attempt(ctx, o.address(name), func(ctx context.Context) error {
				_, err := b.Delete(ctx, &blob.DeleteOptions{DeleteSnapshots: new(blob.DeleteSnapshotsOptionTypeInclude)})
				if bloberror.HasCode(err, bloberror.BlobNotFound, bloberror.ContainerNotFound) {
					return nil
				}
				return err
			})
		})
	}
	return group.Wait()
}

// address needs no escapes: containers and files are named with letters, digits,
// '-' and '.'.
func (o *azureOutput) address(name string) string { return o.folder + "/" + name }

func (o *azureOutput) attempt(ctx context.Context, address string, try func(context.Context) error) error {
	return blobFailure(ctx, address, o.account.attempt(ctx, address, exportBlobError, try))
}

// blobFailure words an error of the connection.
func blobFailure(ctx context.Context, address string, err error) error {
	var refused *RequestError
	if err == nil || ctx.Err() != nil || errors.As(err, &refused) {
		return err
	}
	return unreachable(address, err)
}

// exportBlobError words an answer of the storage, and says what to do.
func exportBlobError(address string, status int) error {
	e := &RequestError{Status: status, Code: "exception", Input: address, Text: address + ": the storage account answered " + strconv.Itoa(status) + " " + http.StatusText(status)}
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		e.Status, e.Code = http.StatusForbidden, "forbidden"
		e.Text += "; the server's credential must be valid, and allowed to make the container or find it, and to list, write and delete its blobs"
	case status >= 500:
		e.Status = 500
		e.Text += ", several times in a row; start the export again when the account works"
	case status == http.StatusNotFound:
		e.Text += "; somebody removed the container or the account while the export ran"
	}
	return e
}

// azureWriter writes one file. Its blocks are sent in the background.
type azureWriter struct {
	o     *azureOutput
	blob  *blockBlob
	ctx   context.Context // ends with the first block that is not taken
	sends *errgroup.Group
	stop  context.CancelFunc
	nonce uint64
	ids   []string
	block []byte
}

func newAzureWriter(ctx context.Context, o *azureOutput, b *blockBlob) *azureWriter {
	o.staging.open.Add(1)
	w := &azureWriter{o: o, blob: b, nonce: o.nonce()}
	ctx, w.stop = context.WithCancel(ctx)
	w.sends, w.ctx = errgroup.WithContext(ctx)
	return w
}

// Write never waits for the storage: who writes computes in turns with others, and
// asks full in between.
func (w *azureWriter) Write(p []byte) (int, error) {
	for at := 0; at < len(p); {
		if w.ctx.Err() != nil {
			return at, context.Cause(w.ctx)
		}
		n := min(len(p)-at, blobBlockBytes-len(w.block))
		w.block = append(w.block, p[at:at+n]...)
		w.o.staging.filling.Add(int64(n))
		at += n
		if len(w.block) >= w.o.staging.blockBytes(len(w.ids)) {
			w.send()
		}
	}
	return len(p), nil
}

// send hands the block over. Its id is of this writer alone: a block that a former
// process sent, and that comes late, is not taken for one of this file.
func (w *azureWriter) send() {
	block, staging := w.block, w.o.staging
	w.block = nil
	id := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%016x%08d", w.nonce, len(w.ids)))
	w.ids = append(w.ids, id)
	staging.hold(int64(len(block)))
	w.sends.Go(func() error {
		defer staging.release(int64(len(block)))
		return staging.send(w.ctx, w.blob, id, block)
	})
}

func (w *azureWriter) sums() []byte { return nil }

// close commits the list of blocks: the file is there then, and whole.
func (w *azureWriter) close(ctx context.Context) error {
	defer w.stop()
	if len(w.block) > 0 {
		w.send()
	}
	err := w.sends.Wait()
	w.o.staging.open.Add(-1)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return blobFailure(ctx, w.blob.address, err)
	}
	contentType := errorBlobType
	if strings.HasSuffix(w.blob.address, parquetExtension) {
		contentType = formatParquet
	}
	late, cancel := graceful(ctx, exportCommitGrace)
	defer cancel()
	if err := w.blob.commit(late, w.ids, contentType); err != nil {
		return blobFailure(ctx, w.blob.address, err)
	}
	w.o.staging.committed.Add(uint64(len(w.ids)))
	return nil
}

// graceful is a context that ends a while after another.
func graceful(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	return late, func() { stop(); cancel() }
}

func (w *azureWriter) abort() {
	w.stop()
	_ = w.sends.Wait() // the export is given up, or goes on without the file
	w.o.staging.filling.Add(-int64(len(w.block)))
	w.o.staging.open.Add(-1)
}
