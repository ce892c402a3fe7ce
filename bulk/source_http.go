package bulk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// Limits of HTTP inputs.
const (
	// pieceBytes is one range request; piecesAhead of them are in flight, so
	// that the latency of object stores is hidden.
	pieceBytes  = 4 << 20
	piecesAhead = 4
	// attemptsMax requests for one piece, with doubling pauses: about a
	// minute of a server's absence is ridden out.
	attemptsMax  = 6
	retryWait    = time.Second
	retryWaitMax = 30 * time.Second
	// retryAfterMax, times the first pause (5 minutes), bounds what a server's
	// Retry-After is heeded for: a job does not sleep for as long as it pleases
	// a server, holding one of the few places for jobs.
	retryAfterMax = 300
	redirectsMax  = 5
	// silenceMax ends a request whose server sends nothing for so long. With
	// the attempts and their pauses, a server that hangs fails its job after
	// three and a half minutes.
	silenceMax = 30 * time.Second
	// progressBytesMin, read by one attempt, make the next one count as the
	// first again: a server that cuts connections is read on from as long as it
	// brings something.
	progressBytesMin = 64 << 10
)

// httpClient asks allowed origins only, redirects included.
type httpClient struct {
	client  *retryablehttp.Client
	allowed *addresses
	network networkOptions
}

func newHTTPClient(allowed *addresses, network networkOptions) *httpClient {
	wait := network.retryWait
	c := &httpClient{client: retryablehttp.NewClient(), allowed: allowed, network: network}
	c.client.HTTPClient = &http.Client{Transport: newTransport(network), CheckRedirect: c.checkRedirect}
	c.client.CheckRetry = checkRetry
	c.client.Logger = nil
	c.client.RetryMax = attemptsMax - 1
	c.client.RetryWaitMin = wait
	c.client.RetryWaitMax = retryWaitMax
	c.client.Backoff = func(least, most time.Duration, attempt int, response *http.Response) time.Duration {
		return min(retryablehttp.DefaultBackoff(least, most, attempt, response), retryAfterMax*wait)
	}
	c.client.ErrorHandler = retryablehttp.PassthroughErrorHandler
	return c
}

var (
	errForeignRedirect  = errors.New("the server redirects to an address that imports may not read")
	errTooManyRedirects = errors.New("the server redirects too often")
	errSilent           = errors.New("the server sends nothing")
)

// checkRetry leaves out what no other attempt mends.
func checkRetry(ctx context.Context, response *http.Response, err error) (bool, error) {
	for _, final := range []error{errForeignRedirect, errTooManyRedirects, errForbiddenAddress} {
		if errors.Is(err, final) {
			return false, err
		}
	}
	return retryablehttp.DefaultRetryPolicy(ctx, response, err)
}

func (c *httpClient) checkRedirect(r *http.Request, via []*http.Request) error {
	if len(via) >= redirectsMax {
		return errTooManyRedirects
	}
	if !c.allowed.allows(r.URL) {
		return errForeignRedirect
	}
	return nil
}

// get asks for bytes from..to (inclusive; to < 0: to the end).
func (c *httpClient) get(ctx context.Context, address string, from, to int64) (*http.Response, error) {
	u, err := url.Parse(address)
	if err != nil || !c.allowed.allows(u) {
		return nil, &RequestError{Status: 400, Code: "invalid", Text: textForeignOrigin}
	}
	u.Fragment = ""
	r, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("cannot make request for %q: %w", address, err)
	}
	r.Header.Set("Accept-Encoding", "identity")
	last := ""
	if to >= 0 {
		last = strconv.FormatInt(to, 10)
	}
	r.Header.Set("Range", "bytes="+strconv.FormatInt(from, 10)+"-"+last)
	response, err := c.client.Do(r)
	if err != nil && ctx.Err() == nil {
		err = unreachable(address, err)
	}
	return response, err
}

// unreachable words why a server did not answer, after the last attempt. What
// the words leave out is for the log.
func unreachable(address string, err error) error {
	address = withoutSecrets(address)
	refused := &RequestError{Status: 500, Code: "exception", Input: address}
	var network net.Error
	final := false
	for _, is := range []error{errForeignRedirect, errTooManyRedirects, errForbiddenAddress} {
		if errors.Is(err, is) {
			final = true
			refused.Status, refused.Code, refused.Text = 400, "invalid", is.Error()+": "+address
		}
	}
	switch {
	case final:
	case errors.Is(err, errSilent), errors.As(err, &network) && network.Timeout():
		refused.Code = "timeout"
		refused.Text = fmt.Sprintf("%s: the server sent nothing for too long, %d times in a row", address, attemptsMax)
	default:
		refused.Text = fmt.Sprintf("%s: the server cannot be reached, or breaks the connection, %d times in a row", address, attemptsMax)
	}
	return fmt.Errorf("%w (%w)", refused, withoutAddress(err))
}

// withoutSecrets is an address as texts and logs show it: a query may be a
// signature.
func withoutSecrets(address string) string {
	address, _, _ = strings.Cut(address, "?")
	return address
}

// httpSource is one file behind HTTP.
type httpSource struct {
	client  *httpClient
	address string
	size    int64 // -1: not told
	tag     string
	ranges  bool // the server answers range requests
}

// open asks for the first byte: that tells size, ETag and whether ranges work,
// also where signed addresses allow nothing but GET.
func (c *httpClient) open(ctx context.Context, address string) (source, error) {
	response, err := c.get(ctx, address, 0, 0)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	s := &httpSource{client: c, address: address, tag: response.Header.Get("Etag")}
	switch response.StatusCode {
	case http.StatusPartialContent:
		start, total, ok := parseContentRange(response.Header.Get("Content-Range"))
		s.ranges = ok && start == 0 && total >= 0
		s.size = total
		if !s.ranges {
			return nil, &RequestError{Status: 500, Code: "exception", Input: withoutSecrets(address),
				Text: fmt.Sprintf("%s: the server's Content-Range is %q", withoutSecrets(address), response.Header.Get("Content-Range"))}
		}
	case http.StatusRequestedRangeNotSatisfiable:
		// There is no first byte; but a server that tells another length than 0
		// has refused for a reason of its own.
		if total, told := strings.CutPrefix(response.Header.Get("Content-Range"), "bytes */"); told && total != "0" {
			return nil, probeError(address, response.StatusCode)
		}
		s.size = 0
	case http.StatusOK:
		s.size = response.ContentLength
	default:
		return nil, probeError(address, response.StatusCode)
	}
	return s, nil
}

// probeError is what a job reports when an input cannot be had at its start:
// the storage's own status.
func probeError(address string, status int) error {
	code := map[int]string{401: "login", 403: "forbidden", 404: "not-found", 410: "not-found"}[status]
	if code == "" {
		code = "exception"
	}
	address = withoutSecrets(address)
	return &RequestError{Status: status, Code: code, Input: address, Text: fmt.Sprintf("%s: the server answered %d %s", address, status, http.StatusText(status))}
}

// readError is what a job reports when an input cannot be read on.
func readError(address string, status int) error {
	address = withoutSecrets(address)
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return &RequestError{Status: 400, Code: "forbidden", Text: textUnauthorized, Input: address}
	case http.StatusNotFound, http.StatusGone:
		return &RequestError{Status: 400, Code: "not-found", Text: textGone, Input: address}
	}
	return &RequestError{Status: 500, Code: "exception", Input: address, Text: fmt.Sprintf("%s: the server answered %d %s", address, status, http.StatusText(status))}
}

// parseContentRange reads "bytes 0-99/1234"; total is -1 for "*".
func parseContentRange(text string) (start, total int64, ok bool) {
	rest, found := strings.CutPrefix(text, "bytes ")
	span, size, found2 := strings.Cut(rest, "/")
	from, _, found3 := strings.Cut(span, "-")
	if !found || !found2 || !found3 {
		return 0, 0, false
	}
	start, err := strconv.ParseInt(from, 10, 64)
	if err != nil || start < 0 {
		return 0, 0, false
	}
	if size == "*" {
		return start, -1, true
	}
	total, err = strconv.ParseInt(size, 10, 64)
	return start, total, err == nil && total >= 0
}

func (s *httpSource) bytes() int64 { return s.size }
func (s *httpSource) etag() string { return s.tag }
func (s *httpSource) Close() error { return nil }

func (s *httpSource) stream(ctx context.Context, from int64) (io.ReadCloser, error) {
	if s.ranges {
		return newReadahead(ctx, s.size, from, pieceBytes, piecesAhead, s.readAt), nil
	}
	if s.size == 0 {
		return io.NopCloser(strings.NewReader("")), nil
	}
	return &resumingStream{ctx: ctx, source: s, at: from}, nil
}

// readAt fills p from one range request, going on after broken connections.
func (s *httpSource) readAt(ctx context.Context, p []byte, off int64) error {
	var err error
	for attempt := 0; attempt < attemptsMax; attempt++ {
		if err := pause(ctx, s.client.network.retryWait, attempt); err != nil {
			return err
		}
		var n int
		n, err = s.readOnce(ctx, p, off)
		p, off = p[n:], off+int64(n)
		if n >= progressBytesMin {
			attempt = 0
		}
		if len(p) == 0 {
			return nil
		}
		var refused *RequestError
		if errors.As(err, &refused) || ctx.Err() != nil {
			return err
		}
	}
	return unreachable(s.address, fmt.Errorf("at offset %d: %w", off, err))
}

func (s *httpSource) readOnce(ctx context.Context, p []byte, off int64) (int, error) {
	ctx, watch := newWatchdog(ctx, s.client.network.silenceMax)
	defer watch.stop()
	response, err := s.client.get(ctx, s.address, off, off+int64(len(p))-1)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusPartialContent {
		return 0, readError(s.address, response.StatusCode)
	}
	start, total, ok := parseContentRange(response.Header.Get("Content-Range"))
	if !ok || start != off || total >= 0 && total != s.size || response.Header.Get("Etag") != s.tag {
		return 0, s.changed()
	}
	n, err := io.ReadFull(watch.reader(response.Body), p)
	return n, watch.cause(err)
}

func (s *httpSource) changed() error {
	return etagError(s.address)
}

// pause waits before every attempt but the first, twice as long each time.
func pause(ctx context.Context, wait time.Duration, attempt int) error {
	if attempt == 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(min(wait<<(attempt-1), retryWaitMax))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// watchdog cancels a request whose response stalls.
type watchdog struct {
	ctx        context.Context
	silenceMax time.Duration
	timer      *time.Timer
	cancel     context.CancelCauseFunc
}

func newWatchdog(ctx context.Context, silenceMax time.Duration) (context.Context, *watchdog) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &watchdog{ctx: ctx, silenceMax: silenceMax, cancel: cancel}
}

// cause is errSilent for the error of a read that the watchdog ended.
func (w *watchdog) cause(err error) error {
	if err != nil && context.Cause(w.ctx) == errSilent {
		return errSilent
	}
	return err
}

// reader starts the clock: every byte that comes restarts it.
func (w *watchdog) reader(r io.Reader) io.Reader {
	w.timer = time.AfterFunc(w.silenceMax, func() { w.cancel(errSilent) })
	return readerFunc(func(p []byte) (int, error) {
		n, err := r.Read(p)
		w.timer.Reset(w.silenceMax)
		return n, err
	})
}

func (w *watchdog) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
	w.cancel(nil)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// resumingStream reads a server without ranges as one response. When the
// connection breaks it asks again and skips what it has.
type resumingStream struct {
	ctx     context.Context
	source  *httpSource
	at      int64 // next byte to deliver
	body    io.ReadCloser
	reader  io.Reader
	watch   *watchdog
	attempt int
}

func (r *resumingStream) Read(p []byte) (int, error) {
	for {
		if err := r.connect(); err != nil {
			return 0, err
		}
		n, err := r.reader.Read(p)
		r.at += int64(n)
		if n > 0 {
			r.attempt = 0
			return n, nil
		}
		if err == nil {
			continue
		}
		if err == io.EOF && (r.source.size < 0 || r.at == r.source.size) {
			return 0, io.EOF
		}
		err = r.watch.cause(err)
		r.Close()
		if r.attempt++; r.attempt == attemptsMax {
			return 0, unreachable(r.source.address, fmt.Errorf("at offset %d: %w", r.at, err))
		}
	}
}

// connect opens the response at the next byte, unless it is open.
func (r *resumingStream) connect() error {
	if r.body != nil {
		return nil
	}
	if err := pause(r.ctx, r.source.client.network.retryWait, r.attempt); err != nil {
		return err
	}
	ctx, watch := newWatchdog(r.ctx, r.source.client.network.silenceMax)
	response, err := r.source.client.get(ctx, r.source.address, 0, -1)
	if err != nil {
		watch.stop()
		return err
	}
	r.body, r.watch, r.reader = response.Body, watch, watch.reader(response.Body)
	switch {
	case response.StatusCode != http.StatusOK && response.StatusCode != http.StatusPartialContent:
		return readError(r.source.address, response.StatusCode)
	case response.Header.Get("Etag") != r.source.tag || response.ContentLength >= 0 && r.source.size >= 0 && response.ContentLength != r.source.size:
		return r.source.changed()
	}
	_, err = io.CopyN(io.Discard, r.reader, r.at)
	if err == io.EOF && r.source.size < 0 {
		// A response without a length ends before what was read already: taken
		// for the end of the input, this would lose the rest in silence.
		return r.source.changed()
	}
	if err != nil {
		r.reader = readerFunc(func([]byte) (int, error) { return 0, err })
	}
	return nil
}

func (r *resumingStream) Close() error {
	if r.body == nil {
		return nil
	}
	r.watch.stop()
	err := r.body.Close()
	r.body = nil
	return err
}
