package engine

import "log/slog"

// discardLogger is for tests that make failures on purpose.
func discardLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }
