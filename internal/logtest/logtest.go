// Package logtest holds what a program under test writes to its log.
package logtest

import (
	"strings"
	"sync"
)

// Buffer is a writer whose text can be read while others write. Its zero value is empty. Its methods are safe for
// concurrent use.
type Buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write appends p. It does not fail.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String returns what was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Contains reports whether text was written.
func (b *Buffer) Contains(text string) bool { return strings.Contains(b.String(), text) }

// Count returns how often text was written.
func (b *Buffer) Count(text string) int { return strings.Count(b.String(), text) }
