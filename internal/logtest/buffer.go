// Package logtest collects in tests what a log or a program writes. It never writes anything
// itself; only tests call it.
package logtest

import (
	"bytes"
	"log/slog"
	"sync"
)

// A Buffer keeps what is written to it. The zero value is empty and ready; it is safe for concurrent
// use, so that a test can read what a program goes on writing. It grows without bound.
type Buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer; it never fails.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String returns all that was written until now.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Logger returns a logger that writes lines of key=value to b, from level info on.
func (b *Buffer) Logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }
