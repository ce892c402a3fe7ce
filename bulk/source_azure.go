package bulk

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
)

// textIdentity is what a job reports when no sign-in gave a token.
const textIdentity = "Managed Identity Credential authentication failed"

// azureSource is one blob. Every range is asked for under the condition that
// the blob still is what it was when the source was opened.
type azureSource struct {
	account *azureAccount
	client  *blob.Client
	address string
	size    int64
	tag     azcore.ETag
}

func (s *azureSource) bytes() int64 { return s.size }
func (s *azureSource) etag() string { return string(s.tag) }
func (s *azureSource) Close() error { return nil }

func (s *azureSource) stream(ctx context.Context, from int64) (io.ReadCloser, error) {
	return newReadahead(ctx, s.size, from, pieceBytes, piecesAhead, s.readAt), nil
}

func (s *azureSource) probe(ctx context.Context) error {
	properties, err := s.client.GetProperties(ctx, nil)
	if err != nil {
		return storageError(s.address, err, probeError)
	}
	if properties.ContentLength == nil || properties.ETag == nil || *properties.ETag == "" {
		return &RequestError{Status: 500, Code: "exception", Text: s.address + ": the storage tells no length or no ETag"}
	}
	s.size, s.tag = *properties.ContentLength, *properties.ETag
	return nil
}

// readAt fills p, going on after broken connections at the byte where they
// broke.
func (s *azureSource) readAt(ctx context.Context, p []byte, off int64) error {
	return s.attempts(ctx, func(ctx context.Context) error {
		n, err := s.readOnce(ctx, p, off)
		p, off = p[n:], off+int64(n)
		if len(p) == 0 {
			return nil
		}
		return err
	})
}

func (s *azureSource) readOnce(ctx context.Context, p []byte, off int64) (int, error) {
	ctx, watch := newWatchdog(ctx, s.account.network.silenceMax)
	defer watch.stop()
	response, err := s.client.DownloadStream(ctx, &blob.DownloadStreamOptions{
		Range:            blob.HTTPRange{Offset: off, Count: int64(len(p))},
		AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: &s.tag}},
	})
	if err != nil {
		return 0, s.unread(ctx, err)
	}
	defer response.Body.Close()
	if response.ETag == nil || *response.ETag != s.tag || response.ContentRange == nil {
		return 0, etagError(s.address)
	}
	if start, total, ok := parseContentRange(*response.ContentRange); !ok || start != off || total != s.size {
		return 0, etagError(s.address)
	}
	n, err := io.ReadFull(watch.reader(response.Body), p)
	if err != nil {
		return n, withoutAddress(watch.cause(err))
	}
	return n, nil
}

// unread words a failed read. A blob that is gone fails the condition as a
// changed one does, so the storage is asked which it is.
func (s *azureSource) unread(ctx context.Context, err error) error {
	var response *azcore.ResponseError
	if errors.As(err, &response) && response.StatusCode == http.StatusPreconditionFailed {
		_, gone := s.client.GetProperties(ctx, nil)
		if errors.As(gone, &response) && response.StatusCode == http.StatusNotFound {
			err = gone
		}
	}
	return storageError(s.address, err, readError)
}

// storageBusy is an answer after which a request is worth trying again.
type storageBusy struct {
	refused error
	after   time.Duration // the server's wish; 0: none
}

func (b *storageBusy) Error() string { return b.refused.Error() }

// attempts reads: see azureAccount.attempts.
func (s *azureSource) attempts(ctx context.Context, try func(context.Context) error) error {
	err := s.account.attempts(ctx, try)
	var refused *RequestError
	if err == nil || ctx.Err() != nil || errors.As(err, &refused) {
		return err
	}
	return unreachable(s.address, err)
}

// attempts tries until it works, is refused for good, or has been tried often
// enough; pauses double, and a server's Retry-After is heeded within reason.
func (a *azureAccount) attempts(ctx context.Context, try func(context.Context) error) error {
	var err error
	for attempt := range attemptsMax {
		var busy *storageBusy
		if errors.As(err, &busy) && busy.after > 0 {
			err = pause(ctx, min(busy.after, retryAfterMax*a.network.retryWait), 1)
		} else {
			err = pause(ctx, a.network.retryWait, attempt)
		}
		if err != nil {
			return err
		}
		err = try(ctx)
		var refused *RequestError
		if err == nil || ctx.Err() != nil || errors.As(err, &refused) {
			return err
		}
	}
	var busy *storageBusy
	if errors.As(err, &busy) {
		return busy.refused
	}
	return err
}

// storageError words a failed request. What another attempt may mend is a
// *storageBusy or an error of the connection, the rest is *RequestError.
func storageError(address string, err error, word func(address string, status int) error) error {
	var response *azcore.ResponseError
	// Both kinds of the SDK's sign-in errors have this method, and so do its
	// refusals to send a token.
	var signIn interface{ NonRetriable() }
	switch {
	case !errors.As(err, &response) && errors.As(err, &signIn):
		return &RequestError{Status: 400, Code: "login", Text: textIdentity}
	case !errors.As(err, &response):
		return withoutAddress(err)
	}
	switch status := response.StatusCode; {
	case status == http.StatusPreconditionFailed, status == http.StatusRequestedRangeNotSatisfiable:
		return etagError(address)
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status >= 500:
		return &storageBusy{refused: word(address, status), after: retryAfter(response.RawResponse)}
	default:
		return word(address, status)
	}
}

// retryAfter reads the seconds that a server asks to wait.
func retryAfter(response *http.Response) time.Duration {
	if response == nil {
		return 0
	}
	seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(min(seconds, retryAfterMax)) * time.Second
}

// withoutAddress drops the address that errors of net/http begin with: it may
// carry a SAS.
func withoutAddress(err error) error {
	var request *url.Error
	if errors.As(err, &request) {
		return request.Err
	}
	return err
}
