package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"kiln/bulk"
	"kiln/bulk/backup"
	"kiln/engine"
	"kiln/fhir"
	"kiln/fhir/structure"
	"kiln/fhir/ucum"
	"kiln/httpapi/audit"
	"kiln/httpapi/auth"
	"kiln/query"
)

// Options are explicit. Store, Jobs, Now and NewID are required.
type Options struct {
	Store *engine.Store
	Jobs  *bulk.Manager
	// Backups are what clients may have written; nil: none.
	Backups *backup.Jobs
	// Parameters are what can be searched by; nil: they are read from the store.
	Parameters *query.Registry
	Now        func() time.Time
	// NewID makes the ids of created resources and of answers (UUIDs).
	NewID  func() string
	Logger *slog.Logger // nil: slog.Default()
	// BaseURL is the FHIR base as clients see it, such as
	// "https://fhir.example.org/fhir"; "": http or https as the connection is, the
	// request's Host, and /fhir.
	BaseURL           string
	InitialImportMode bool
	// Certificates secure the connections; nil: they are plain.
	Certificates *Certificates
	// TrustedProxies say where requests came from.
	TrustedProxies TrustedProxies
	// Audit records every access; nil: nobody does. With AuditQueries the queries'
	// values are recorded too, which may tell of patients.
	Audit        *audit.Log
	AuditQueries bool
	// AuditsApart: the store has this server's AuditEvents, so only Admins, and clients
	// with scopes that name the type, reach them.
	AuditsApart bool
	// ClientLimits bound what one client may ask for.
	ClientLimits ClientLimits
	// PagingKey seals paging tokens; nil: the store's own, kept in its catalog.
	PagingKey []byte
	// CORSOrigins are the sites whose pages may use the server from a browser:
	// "*", or scheme://host[:port]; none: no site may.
	CORSOrigins []string
	// ValidateWrites refuses writes of resources that are not built as R4 says.
	ValidateWrites bool
	// Units converts quantities that are searched for; nil: they are found in the
	// unit that is asked for.
	Units *ucum.Table
	// Auth says who makes a request; nil: the server is open to everybody.
	Auth Authenticator
	// OAuth tells clients how they get tokens, and gives them some; nil: it does not.
	OAuth *auth.Authenticator
	// OpenMetrics shows /metrics to everybody even so.
	OpenMetrics    bool
	BodyBytesMax   int // 0: 32 MiB
	ConnectionsMax int // 0: 4,096
	Timeouts       Timeouts
	Version        string
}

// Server answers FHIR over HTTP.
type Server struct {
	opts       Options
	started    time.Time
	base       string // of Options.BaseURL, without a slash at the end
	http       *fasthttp.Server
	table      *table
	metrics    *serverMetrics
	scanners   sync.Pool // of *fhir.Scanner
	checkers   sync.Pool // of *structure.Checker
	packers    *packers
	codedFiles chan struct{} // a token for each file that is being compressed
	logLimit   *logLimit
	polls      *pollLimit
	bodies     *bodyBudget
	stopping   atomic.Bool
	listener   atomic.Pointer[limitedListener] // of Serve
	shakes     *handshakes
	overdue    overdueCount
	strangers  *strangers
	clients    *clientTable
	conditions *conditionLocks
	parameters *query.Registry
	// manifestFiles are in a page of an export's manifest; tests make it small.
	manifestFiles int
	// work is cancelled when Shutdown gives up on requests in flight.
	work       context.Context
	cancelWork context.CancelFunc
}

// New prepares a server; Serve starts it.
func New(opts Options) (*Server, error) {
	if opts.Store == nil || opts.Jobs == nil || opts.Now == nil || opts.NewID == nil {
		return nil, errors.New("cannot make an HTTP server without Store, Jobs, Now and NewID")
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if opts.BodyBytesMax == 0 {
		opts.BodyBytesMax = bodyBytesDefault
	}
	if opts.ConnectionsMax == 0 {
		opts.ConnectionsMax = connectionsMax
	}
	if opts.ConnectionsMax < 0 {
		return nil, fmt.Errorf("cannot limit connections to %d", opts.ConnectionsMax)
	}
	if opts.BodyBytesMax < 0 {
		return nil, fmt.Errorf("cannot limit request bodies to %d bytes", opts.BodyBytesMax)
	}
	for _, origin := range opts.CORSOrigins {
		if err := checkOrigin(origin); err != nil {
			return nil, fmt.Errorf("cannot allow an origin: %w", err)
		}
	}
	if err := opts.ClientLimits.check(); err != nil {
		return nil, err
	}
	var err error
	if opts.Timeouts, err = opts.Timeouts.withDefaults(); err != nil {
		return nil, err
	}
	base, err := parseBaseURL(opts.BaseURL)
	if err != nil {
		return nil, err
	}
	if opts.PagingKey == nil {
		if opts.PagingKey, err = storedPagingKey(opts.Store, opts.Logger); err != nil {
			return nil, err
		}
	}
	s := &Server{opts: opts, started: opts.Now(), base: base, table: newTable(), packers: newPackers(), codedFiles: make(chan struct{}, codedFilesMax), logLimit: newLogLimit(), polls: new(pollLimit), shakes: newHandshakes(), clients: newClientTable(opts.ClientLimits), strangers: newStrangers(opts.Now()), manifestFiles: manifestFilesMax, conditions: newConditionLocks()}
	if s.parameters = opts.Parameters; s.parameters == nil {
		if s.parameters, err = query.NewRegistry(context.Background(), opts.Store, opts.Logger); err != nil {
			return nil, fmt.Errorf("cannot read the store's search parameters: %w", err)
		}
	}
	s.bodies = newBodyBudget(max(bodiesBytesMax, 2*int64(opts.BodyBytesMax)), int64(opts.BodyBytesMax))
	s.metrics = newServerMetrics(s.table)
	s.scanners.New = func() any { return fhir.NewScanner(fhir.ScannerOptions{}) }
	s.checkers.New = func() any { return structure.NewChecker() }
	s.work, s.cancelWork = context.WithCancel(context.Background())
	s.http = s.config()
	if opts.Audit != nil {
		opts.Jobs.ListenEnds(s.auditJob)
	}
	return s, nil
}

// config names every option that matters, so that no default of the library
// decides anything.
func (s *Server) config() *fasthttp.Server {
	return &fasthttp.Server{
		Handler:        s.handle,
		HeaderReceived: s.headReceived,
		ErrorHandler:   s.refuseUnread,
		ExpectHandler:  s.expect,
		Logger:         libraryLogger{s.opts.Logger},

		MaxRequestBodySize: s.opts.BodyBytesMax,
		ReadBufferSize:     headBytesMax,
		WriteBufferSize:    writeBufferBytes,
		Concurrency:        2 * s.opts.ConnectionsMax, // limitedListener bounds them; this is never reached
		MaxConnsPerIP:      0,                         // a proxy in front is one address
		MaxRequestsPerConn: 0,

		ReadTimeout:           s.opts.Timeouts.Head, // headReceived adds the body's
		WriteTimeout:          s.opts.Timeouts.Answer,
		IdleTimeout:           s.opts.Timeouts.Idle,
		MaxIdleWorkerDuration: workerIdleTime,
		TCPKeepalive:          true,
		TCPKeepalivePeriod:    keepAlivePeriod,

		// With streamed bodies the library would take the unread rest of a
		// refused request for the next request (TestRefusedBodyIsNotARequest).
		StreamRequestBody:            false,
		DisablePreParseMultipartForm: true,
		GetOnly:                      false,
		DisableKeepalive:             false,
		ReduceMemoryUsage:            false,
		LogAllErrors:                 false,
		SecureErrorLogMessage:        true, // bytes of requests may be patient data

		NoDefaultServerHeader:         true,
		NoDefaultContentType:          true,
		NoDefaultDate:                 false,
		DisableHeaderNamesNormalizing: false,
		CloseOnShutdown:               true,
	}
}

// Serve answers on ln until Shutdown, which may also come first.
func (s *Server) Serve(ln net.Listener) error {
	limited := &limitedListener{
		Listener: ln, max: int64(s.opts.ConnectionsMax), refuse: s.refuseConnection, refusals: make(chan struct{}, refusalsMax),
		conns: map[*counted]struct{}{}, secures: s.opts.Certificates, shakes: s.shakes, refusePlain: s.refusePlain,
	}
	s.listener.Store(limited)
	if s.stopping.Load() { // Shutdown came first and may not have seen the listener
		return limited.Close()
	}
	go s.watchRequests(limited)
	if err := s.http.Serve(limited); err != nil {
		return fmt.Errorf("cannot serve HTTP on %s: %w", ln.Addr(), err)
	}
	return nil
}

// Shutdown takes no new connections and finishes the requests in flight, or
// gives them up when ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopping.Store(true)
	defer s.tellStrangers(true)
	defer s.cancelWork()
	if l := s.listener.Load(); l != nil {
		// The library closes it too, but not when its Serve has only begun.
		if err := l.Close(); err != nil {
			return fmt.Errorf("cannot stop taking connections: %w", err)
		}
		defer time.AfterFunc(s.opts.Timeouts.Fresh, l.closeFresh).Stop()
	}
	if err := s.http.ShutdownWithContext(ctx); err != nil {
		return fmt.Errorf("cannot finish the requests in flight: %w", err)
	}
	return nil
}

// handle is the outermost handler: it times, counts, and turns a panic, which
// would end the process, into one refused request.
func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	started := s.opts.Now()
	x := &exchange{server: s, ctx: ctx, row: rowNone}
	x.watch(started)
	defer func() {
		s.bodies.shrink(&x.unpackedBytes)
		s.bodies.release(&ctx.Request.Header)
		if r := recover(); r != nil {
			s.opts.Logger.Error("request panicked", "interaction", s.table.name(x.row), "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			ctx.Response.Reset()
			x.standingHeaders()
			ctx.SetConnectionClose()
			x.fail(&problem{fasthttp.StatusInternalServerError, codeException, "The server failed on this request; its log says more."})
		}
		x.unlimit()
		x.audit()
		if !x.unwatch(started) {
			s.metrics.observe(x.row, ctx.Response.StatusCode(), s.opts.Now().Sub(started))
		}
	}()
	if err := x.serve(); err != nil {
		x.fail(err)
	}
	x.release()
	x.compress()
}

// headReceived bounds the body that follows a head.
func (s *Server) headReceived(header *fasthttp.RequestHeader) fasthttp.RequestConfig {
	config := s.bodies.received(header)
	length := int64(header.ContentLength())
	if length < 0 { // chunked: any length, and -2 is none
		length = int64(s.opts.BodyBytesMax)
	}
	config.ReadTimeout = s.opts.Timeouts.body(min(length, int64(s.opts.BodyBytesMax)))
	return config
}

// expect answers "Expect: 100-continue" before the body is sent.
func (s *Server) expect(ctx *fasthttp.RequestCtx) int {
	if s.bodies.isRefused(&ctx.Request.Header) {
		x := s.unread(ctx)
		x.fail(noRoomForBody())
		return fasthttp.StatusServiceUnavailable
	}
	if ctx.Request.Header.ContentLength() > s.opts.BodyBytesMax {
		x := s.unread(ctx)
		x.fail(bodyTooLarge(s.opts.BodyBytesMax))
		return fasthttp.StatusRequestEntityTooLarge
	}
	return fasthttp.StatusContinue
}

// unread is the exchange for a request that is refused before its body is there.
func (s *Server) unread(ctx *fasthttp.RequestCtx) *exchange {
	x := &exchange{server: s, ctx: ctx, row: rowNone}
	x.standingHeaders()
	return x
}

// refuseUnread answers a request that could not be read; the library closes
// the connection afterwards.
func (s *Server) refuseUnread(ctx *fasthttp.RequestCtx, err error) {
	x := s.unread(ctx)
	ctx.SetConnectionClose() // the library closes; the client should know
	var head *fasthttp.ErrSmallBuffer
	var network net.Error
	isTimeout := errors.As(err, &network) && network.Timeout()
	if !isTimeout {
		drain(ctx.Conn())
	}
	noRoom := s.bodies.release(&ctx.Request.Header)
	switch {
	case noRoom:
		err = noRoomForBody()
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		err = bodyTooLarge(s.opts.BodyBytesMax)
	case errors.As(err, &head):
		err = &problem{fasthttp.StatusRequestHeaderFieldsTooLarge, codeTooLong, fmt.Sprintf("Request line and headers are longer than %d bytes.", headBytesMax)}
	case isTimeout:
		err = &problem{fasthttp.StatusRequestTimeout, codeTimeout, "The request took too long to arrive."}
	default:
		err = &problem{fasthttp.StatusBadRequest, codeInvalid, "The request is not valid HTTP."}
	}
	x.fail(err)
	s.metrics.observe(rowNone, ctx.Response.StatusCode(), 0)
}

// drain reads on while the client sends: closing a socket with unread bytes
// resets it, and the client would lose the answer.
func drain(conn net.Conn) {
	started := time.Now()
	buf := make([]byte, 64<<10)
	for total := 0; total < drainBytesMax && time.Since(started) < drainTime; {
		if conn.SetReadDeadline(time.Now().Add(drainIdleTime)) != nil {
			return
		}
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		total += n
	}
}

func bodyTooLarge(limit int) *problem {
	return &problem{fasthttp.StatusRequestEntityTooLarge, codeTooLong, fmt.Sprintf("The request body is larger than %d bytes.", limit)}
}

func noRoomForBody() *problem {
	return &problem{fasthttp.StatusServiceUnavailable, codeThrottled, "Too many large requests are being handled; try again."}
}

// libraryLogger passes on what the HTTP library logs, without the texts of errors: they
// quote the request, which may be patient data.
type libraryLogger struct{ to *slog.Logger }

func (l libraryLogger) Printf(format string, args ...any) {
	for i, arg := range args {
		if err, isError := arg.(error); isError {
			args[i] = errorKind(err)
		}
	}
	l.to.Warn("HTTP library", "message", strings.TrimSpace(fmt.Sprintf(format, args...)))
}

// errorKind names an error without its text.
func errorKind(err error) string {
	var network *net.OpError
	if errors.As(err, &network) { // has addresses and the system's words only
		return network.Error()
	}
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return fmt.Sprintf("%T", err)
}
