package main

import (
	"log/slog"
	"strings"
	"time"

	"kiln/engine"
	"kiln/httpapi"
	"kiln/httpapi/auth"
	"kiln/internal/vfs"
)

// authFlags say who may use the server.
type authFlags struct {
	Auth        string `type:"existingfile" placeholder:"FILE" help:"YAML file that says who may use the server: the issuers of tokens, clients and certificates, and their roles. A change of it counts within a second. Without it nobody is asked."`
	OpenMetrics bool   `help:"Show /metrics to everybody, where --auth asks who is calling."`
}

// guard has the server ask who is calling, if there is a file that says who may.
func (f *authFlags) guard(opts *httpapi.Options, store *engine.Store, logger *slog.Logger) error {
	opts.OpenMetrics = f.OpenMetrics
	if f.Auth == "" {
		return nil
	}
	who, err := auth.New(auth.Options{
		FS: vfs.OS(), File: f.Auth, Store: store, BaseURL: strings.TrimSuffix(opts.BaseURL, "/"), Now: time.Now, Logger: logger,
	})
	if err != nil {
		return err
	}
	opts.Auth, opts.OAuth = who, who
	return nil
}
