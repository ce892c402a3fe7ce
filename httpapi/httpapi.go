package httpapi

import (
	"context"
	"log/slog"
	"net"
	"time"

	"kiln/bulk"
	"kiln/engine"
)

// Options are explicit. Store, Jobs and Now are required.
type Options struct {
	Store             *engine.Store
	Jobs              *bulk.Manager
	Now               func() time.Time
	NewID             func() string // ids of created resources (UUIDs)
	Logger            *slog.Logger
	BaseURL           string // "": from the request's Host
	InitialImportMode bool
	BodyBytesMax      int // 0: default
	Version           string
}

// Server answers FHIR over HTTP.
type Server struct{}

func New(opts Options) (*Server, error) { panic("skeleton") }

// Serve answers on ln until Shutdown.
func (s *Server) Serve(ln net.Listener) error { panic("skeleton") }

// Shutdown finishes requests in flight.
func (s *Server) Shutdown(ctx context.Context) error { panic("skeleton") }
